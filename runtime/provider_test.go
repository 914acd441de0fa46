package runtime

import (
	"os"
	"strings"
	"testing"

	"distill/internal/hint"
)

func TestUnusableProviderIsNamedWithAWayOut(t *testing.T) {
	testInit(t)
	model, err := os.ReadFile("../models/mnist_cntk.onnx")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		provider    Provider
		cause, hint string
	}{
		{Provider{Name: "npu"}, "provider npu: unknown", "cpu, cuda, webgpu"},
		{Provider{Name: "cuda"}, "provider cuda: ", "cpu provider"},
		{Provider{Options: map[string]string{"device_id": "1"}}, `provider cpu: has no option "device_id"`, "cpu provider"},
	} {
		s, err := NewSession(model, Options{Provider: c.provider})
		if err == nil {
			s.Close()
			if c.provider.Name == "cuda" {
				continue // a library and a machine that have it
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.cause) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%v: got %v, hint %q", c.provider, err, hint.Of(err))
		}
	}
}

func TestFirstProviderIsTheDefault(t *testing.T) {
	if got := (Provider{}).String(); got != "cpu" || Providers()[0] != "cpu" {
		t.Errorf("default %q of %v, want cpu", got, Providers())
	}
}
