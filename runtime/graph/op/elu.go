package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// exponential is slope·x where x > 0, else gain·(e^(x/scale) − 1).
type exponential struct {
	smooth
	name               string
	slope, gain, scale float64
	attrs              []graph.Attr
}

// Elu is x where x > 0, else alpha·(eˣ − 1) (Clevert et al. 2015, arXiv:1511.07289); PyTorch's alpha is 1.
func Elu(x *G.Node, alpha float64) *G.Node {
	return graph.Apply(exponential{name: "Elu", slope: 1, gain: alpha, scale: 1,
		attrs: []graph.Attr{{Name: "alpha", Value: float32(alpha)}}}, x)
}

// The numbers by which Selu keeps mean 0 and variance 1.
const (
	seluAlpha = 1.6732632423543772848170429916717
	seluGamma = 1.0507009873554804934193349852946
)

// Selu is γx where x > 0, else γα·(eˣ − 1), with α ≈ 1.6733 and γ ≈ 1.0507 (Klambauer et al. 2017, arXiv:1706.02515).
func Selu(x *G.Node) *G.Node { return selu(x, seluAlpha, seluGamma) }

func selu(x *G.Node, alpha, gamma float64) *G.Node {
	return graph.Apply(exponential{name: "Selu", slope: gamma, gain: gamma * alpha, scale: 1,
		attrs: []graph.Attr{{Name: "alpha", Value: float32(alpha)}, {Name: "gamma", Value: float32(gamma)}}}, x)
}

// Celu is x where x > 0, else alpha·(e^(x/alpha) − 1) (Barron 2017, arXiv:1704.07483); PyTorch's alpha is 1.
func Celu(x *G.Node, alpha float64) *G.Node {
	return graph.Apply(exponential{name: "Celu", slope: 1, gain: alpha, scale: alpha,
		attrs: []graph.Attr{{Name: "alpha", Value: float32(alpha)}}}, x)
}

func (o exponential) Name() string { return o.name }

func (o exponential) Infer(in []graph.Shape) []graph.Shape {
	arity(o.name, in, 1)
	return in
}

func (o exponential) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 {
		if x > 0 {
			return o.slope * x
		}
		return o.gain * math.Expm1(x/o.scale)
	})}
}

// Grad is slope where x > 0, else (y + gain)/scale.
func (o exponential) Grad(in []*G.Node, y, dy *G.Node) []*G.Node {
	up := above(in[0], 0)
	left := Shift(Scale(y, 1/o.scale), o.gain/o.scale)
	return []*G.Node{Mul(dy, Add(Scale(up, o.slope), Mul(Not(up), left)))}
}

func (o exponential) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit(o.name, in[0].Shape, names(in), o.attrs...)}
}

func liftElu(n *Node) []*G.Node { return []*G.Node{Elu(n.X(0), n.Float("alpha", 1))} }

func liftSelu(n *Node) []*G.Node {
	return []*G.Node{selu(n.X(0), n.Float("alpha", seluAlpha), n.Float("gamma", seluGamma))}
}

func liftCelu(n *Node) []*G.Node {
	alpha := n.Float("alpha", 1)
	if alpha == 0 {
		n.fail("alpha must not be 0")
	}
	return []*G.Node{Celu(n.X(0), alpha)}
}
