package runtime

import (
	"errors"
	"testing"
)

func TestErrorsLoseTheLibrarysSourceLines(t *testing.T) {
	for _, c := range []struct{ from, want string }{
		{"Error creating temporary session: Failed to load model because protobuf parsing failed.", "Failed to load model because protobuf parsing failed."},
		{
			"Error running network: Non-zero status code returned while running Reshape node. Name:'r' Status Message: /src/core/reshape_helper.h:91 ns::Helper(const T&, bool) size == other was false. The input tensor cannot be reshaped to the requested shape. Input shape:{1}, requested shape:{3}",
			"Non-zero status code returned while running Reshape node. Name:'r' Status Message: The input tensor cannot be reshaped to the requested shape. Input shape:{1}, requested shape:{3}",
		},
		{
			"/src/core/provider_bridge_ort.cc:1988 ns::Provider& ns::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library libonnxruntime_providers_shared.so",
			"Failed to load library libonnxruntime_providers_shared.so",
		},
		{"cannot open /models/a.h:1 here", "cannot open /models/a.h:1 here"},
		{"Error running network: ", "Error running network: "},
	} {
		if got := tidy(errors.New(c.from)).Error(); got != c.want {
			t.Errorf("%q\nbecame %q\nwant   %q", c.from, got, c.want)
		}
	}
}
