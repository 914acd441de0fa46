package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

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

func liftLeakyRelu(n *Node) []*G.Node {
	return []*G.Node{LeakyRelu(n.X(0), n.Float("alpha", 0.01))}
}
