package runtime

import (
	"errors"
	"regexp"
	"strings"
)

// Where in its source ONNX Runtime failed, ahead of what failed: "/…/reshape_helper.h:91 … was false. ".
var sourceLine = regexp.MustCompile(`/\S+\.(?:cc|h):\d+ .*?(?: was false\. |\[ONNXRuntimeError\] : \d+ : \w+ : )`)

// tidy keeps of an ONNX Runtime error what a user can read. It never returns an empty text.
func tidy(err error) error {
	text := sourceLine.ReplaceAllString(err.Error(), "")
	for _, prefix := range []string{"Error creating temporary session: ", "Error creating C session: ", "Error running network: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if strings.TrimSpace(text) == "" {
		return err
	}
	return errors.New(strings.TrimSpace(text))
}
