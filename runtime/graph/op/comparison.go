package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// comparison is 1 where something holds of two inputs, broadcast, else 0. It has no gradient.
type comparison struct {
	name  string
	holds func(a, b float64) bool
}

// Equal is 1 where a = b, else 0, broadcast.
func Equal(a, b *G.Node) *G.Node {
	return graph.Apply(comparison{"Equal", func(a, b float64) bool { return a == b }}, a, b)
}

// Greater is 1 where a > b, else 0, broadcast.
func Greater(a, b *G.Node) *G.Node {
	return graph.Apply(comparison{"Greater", func(a, b float64) bool { return a > b }}, a, b)
}

// GreaterOrEqual is 1 where a ≥ b, else 0, broadcast.
func GreaterOrEqual(a, b *G.Node) *G.Node {
	return graph.Apply(comparison{"GreaterOrEqual", func(a, b float64) bool { return a >= b }}, a, b)
}

// Less is 1 where a < b, else 0, broadcast.
func Less(a, b *G.Node) *G.Node {
	return graph.Apply(comparison{"Less", func(a, b float64) bool { return a < b }}, a, b)
}

// LessOrEqual is 1 where a ≤ b, else 0, broadcast.
func LessOrEqual(a, b *G.Node) *G.Node {
	return graph.Apply(comparison{"LessOrEqual", func(a, b float64) bool { return a <= b }}, a, b)
}

// onnxFloat is TensorProto.FLOAT.
const onnxFloat = 1

// Not is 1 − x: 1 where x, which holds 0 and 1, is 0.
func Not(x *G.Node) *G.Node { return Sub(Scalar(x, 1), x) }

func (c comparison) Name() string { return c.name }

func (c comparison) Infer(in []graph.Shape) []graph.Shape {
	arity(c.name, in, 2)
	return one(broadcastAll(c.name, in))
}

func (c comparison) Eval(in []graph.Array) []graph.Array {
	return binary{f: func(a, b float64) float64 {
		if c.holds(a, b) {
			return 1
		}
		return 0
	}}.Eval(in)
}

func (c comparison) Lower(e graph.Emitter, in []graph.Operand) []string {
	s := broadcastAll(c.name, []graph.Shape{in[0].Shape, in[1].Shape})
	mask := e.Emit(c.name, s, names(in))
	return []string{e.Emit("Cast", s, []string{mask}, graph.Attr{Name: "to", Value: onnxFloat})}
}

// liftComparison lifts an operator of two tensors of which a constant may hold integers or truth values.
func liftComparison(f func(a, b *G.Node) *G.Node) func(n *Node) []*G.Node {
	return func(n *Node) []*G.Node { return []*G.Node{f(n.floats(0), n.floats(1))} }
}
