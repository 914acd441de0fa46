package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// clip limits x to lo..hi.
type clip struct {
	smooth
	lo, hi float64
}

// Clip limits x to lo..hi; its gradient is 0 where it limits and at the limits. ReLU6 is Clip(x, 0, 6).
func Clip(x *G.Node, lo, hi float64) *G.Node { return graph.Apply(clip{lo: lo, hi: hi}, x) }

func (clip) Name() string { return "Clip" }

func (c clip) Infer(in []graph.Shape) []graph.Shape {
	arity("Clip", in, 1)
	if !(c.lo < c.hi) {
		graph.Fail("Clip", in, "the limits %v and %v are not in order", c.lo, c.hi)
	}
	return in
}

func (c clip) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 { return min(max(x, c.lo), c.hi) })}
}

func (c clip) Grad(in []*G.Node, _, dout *G.Node) []*G.Node {
	return []*G.Node{Mul(dout, Mul(above(in[0], c.lo), below(in[0], c.hi)))}
}

func (c clip) Lower(e graph.Emitter, in []graph.Operand) []string {
	lo, hi := e.Const(graph.Scalar(float32(c.lo))), e.Const(graph.Scalar(float32(c.hi)))
	return []string{e.Emit("Clip", in[0].Shape, []string{in[0].Name, lo, hi})}
}

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

// leaky is x where x > 0, else alpha·x.
type leaky struct {
	smooth
	alpha float64
}

// LeakyRelu is x where x > 0, else alpha·x (PyTorch's default alpha is 0.01); its gradient at 0 is alpha.
func LeakyRelu(x *G.Node, alpha float64) *G.Node { return graph.Apply(leaky{alpha: alpha}, x) }

func (leaky) Name() string { return "LeakyRelu" }

func (leaky) Infer(in []graph.Shape) []graph.Shape {
	arity("LeakyRelu", in, 1)
	return in
}

func (l leaky) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 { return math.Max(x, 0) + l.alpha*math.Min(x, 0) })}
}

func (l leaky) Grad(in []*G.Node, _, dout *G.Node) []*G.Node {
	return []*G.Node{Mul(dout, Shift(Scale(above(in[0], 0), 1-l.alpha), l.alpha))}
}

func (l leaky) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("LeakyRelu", in[0].Shape, names(in), graph.Attr{Name: "alpha", Value: float32(l.alpha)})}
}
