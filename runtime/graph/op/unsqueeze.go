package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// unsqueeze puts in axes of size 1.
type unsqueeze struct {
	smooth
	axes []int
}

// Unsqueeze puts in axes of size 1, so that they are the axes of those numbers in the result, negative counting from its
// last.
func Unsqueeze(x *G.Node, axes ...int) *G.Node {
	return graph.Apply(unsqueeze{axes: slices.Clone(axes)}, x)
}

func (unsqueeze) Name() string { return "Unsqueeze" }

func (u unsqueeze) Infer(in []graph.Shape) []graph.Shape {
	arity("Unsqueeze", in, 1)
	s := make(graph.Shape, len(in[0])+len(u.axes)) // 0 until it is known
	for _, a := range u.axes {
		if a = axisOf("Unsqueeze", a, s); s[a] == 1 {
			graph.Fail("Unsqueeze", in, "axis %d is put in twice", a)
		}
		s[a] = 1
	}
	rest := in[0]
	for i := range s {
		if s[i] == 0 {
			s[i], rest = rest[0], rest[1:]
		}
	}
	return one(s)
}

func (u unsqueeze) Eval(in []graph.Array) []graph.Array {
	y := in[0]
	y.Shape = u.Infer([]graph.Shape{y.Shape})[0]
	return []graph.Array{y}
}

func (unsqueeze) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Reshape(dy, graph.ShapeOf(in[0])...)}
}

func (u unsqueeze) Lower(e graph.Emitter, in []graph.Operand) []string {
	out := u.Infer([]graph.Shape{in[0].Shape})[0]
	return []string{e.Emit("Unsqueeze", out, []string{in[0].Name, graph.ConstInts(e, u.axes...)})}
}

func liftUnsqueeze(n *Node) []*G.Node { return []*G.Node{Unsqueeze(n.X(0), n.Axes(1)...)} }
