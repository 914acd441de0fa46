package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// compare is 1 where x lies above (or below) a bound, else 0: the gradient of what has a kink.
type compare struct {
	name  string // of the ONNX comparison
	bound float64
}

func above(x *G.Node, bound float64) *G.Node { return graph.Apply(compare{"Greater", bound}, x) }
func below(x *G.Node, bound float64) *G.Node { return graph.Apply(compare{"Less", bound}, x) }

func (c compare) Name() string                         { return c.name }
func (c compare) Infer(in []graph.Shape) []graph.Shape { return in }

func (c compare) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 {
		if (c.name == "Greater" && x > c.bound) || (c.name == "Less" && x < c.bound) {
			return 1
		}
		return 0
	})}
}

// Lower uses Cast, which ONNX Runtime runs twice as fast as Where.
func (c compare) Lower(e graph.Emitter, in []graph.Operand) []string {
	mask := e.Emit(c.name, in[0].Shape, []string{in[0].Name, e.Const(graph.Scalar(float32(c.bound)))})
	return []string{e.Emit("Cast", in[0].Shape, []string{mask}, graph.Attr{Name: "to", Value: onnxFloat})}
}

// onnxFloat is TensorProto.FLOAT.
const onnxFloat = 1
