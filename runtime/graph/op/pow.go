package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// power raises to a constant exponent.
type power struct {
	smooth
	exponent float64
}

// Pow is x to a constant exponent. Where x < 0 the exponent must be whole, as it must be, or x positive, for a gradient.
func Pow(x *G.Node, exponent float64) *G.Node { return graph.Apply(power{exponent: exponent}, x) }

func (power) Name() string { return "Pow" }

func (power) Infer(in []graph.Shape) []graph.Shape {
	arity("Pow", in, 1)
	return in
}

func (p power) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 { return math.Pow(x, p.exponent) })}
}

// Grad is exponent·x^(exponent−1), without a power where that is a constant or x itself.
func (p power) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	x := in[0]
	switch p.exponent {
	case 0:
		return []*G.Node{zerosLike(x)}
	case 1:
		return []*G.Node{dy}
	case 2:
		return []*G.Node{Mul(dy, Scale(x, 2))}
	}
	return []*G.Node{Mul(dy, Scale(Pow(x, p.exponent-1), p.exponent))}
}

func (p power) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("Pow", in[0].Shape, []string{in[0].Name, e.Const(graph.Scalar(float32(p.exponent)))})}
}

func pow() binary {
	return binary{name: "Pow", f: math.Pow,
		grad: func(a, b, y, dy *G.Node) (*G.Node, *G.Node) {
			return Mul(dy, Mul(b, PowTensor(a, Shift(b, -1)))), Mul(dy, Mul(y, Log(a)))
		}}
}

// PowTensor is a to the power b elementwise, broadcast; a must be positive for a gradient with respect to b.
func PowTensor(a, b *G.Node) *G.Node { return graph.Apply(pow(), a, b) }

// liftPow reads a Pow. An exponent that is one constant number needs no logarithm, so that negative numbers have a gradient.
func liftPow(n *Node) []*G.Node {
	if x := n.X(0); n.Has(1) && n.In[1].Const != nil {
		if c := n.In[1].Const; c.Shape.Size() == 1 && len(c.Shape) <= len(graph.ShapeOf(x)) {
			return []*G.Node{Pow(x, n.ScalarIn(1, 1))}
		}
	}
	return []*G.Node{PowTensor(n.X(0), n.floats(1))}
}
