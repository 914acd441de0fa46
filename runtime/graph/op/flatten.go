package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// flatten makes a matrix of its input.
type flatten struct{ smooth }

// Flatten keeps the first axis and merges the others: [N,…] becomes [N,D].
func Flatten(x *G.Node) *G.Node { return graph.Apply(flatten{}, x) }

func (flatten) Name() string { return "Flatten" }

func (flatten) Infer(in []graph.Shape) []graph.Shape {
	arity("Flatten", in, 1)
	if len(in[0]) < 1 {
		graph.Fail("Flatten", in, "needs rank 1 or more")
	}
	return one(graph.Shape{in[0][0], in[0][1:].Size()})
}

func (f flatten) Eval(in []graph.Array) []graph.Array {
	y := in[0]
	y.Shape = f.Infer([]graph.Shape{y.Shape})[0]
	return []graph.Array{y}
}

func (flatten) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Reshape(dy, graph.ShapeOf(in[0])...)}
}

func (f flatten) Lower(e graph.Emitter, in []graph.Operand) []string {
	out := f.Infer([]graph.Shape{in[0].Shape})[0]
	return []string{e.Emit("Flatten", out, names(in), graph.Attr{Name: "axis", Value: 1})}
}

// liftFlatten reads a Flatten; at another axis than 1 it is a Reshape.
func liftFlatten(n *Node) []*G.Node {
	x := graph.ShapeOf(n.X(0))
	axis := n.Int("axis", 1)
	if axis < 0 {
		axis += len(x)
	}
	switch {
	case axis < 0 || axis > len(x):
		n.fail("there is no axis %d", n.Int("axis", 1))
	case axis == 1:
		return []*G.Node{Flatten(n.X(0))}
	case axis == 0:
		return []*G.Node{Reshape(n.X(0), 1, -1)}
	}
	return []*G.Node{Reshape(n.X(0), -1, x[axis:].Size())}
}
