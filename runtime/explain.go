package runtime

import (
	"fmt"
	"regexp"

	"distill/internal/hint"
	"distill/runtime/graph/onnx"
)

// ONNX Runtime's words for an operator that it does not have: the first names the node too, the second does not.
var unknownOp = regexp.MustCompile(`No Op registered for (\w+)|:(\w+)\(-?\d+\) is not a registered function/op`)

// explain names the node where ONNX Runtime refuses a model for an operator it lacks.
func explain(err error, model []byte) error {
	found := unknownOp.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	op := found[1] + found[2]
	if m, parseErr := onnx.Parse(model, "model"); parseErr == nil {
		for _, t := range m.Taps() {
			if t.Op == op {
				err = fmt.Errorf("node %q, which computes %q: ONNX Runtime has no operator %s: %w", t.Node, t.Tensor, op, err)
				break
			}
		}
	}
	return hint.Wrap(err, "export the network with standard ONNX operators")
}
