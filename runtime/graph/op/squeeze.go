package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Squeeze drops axes of size 1.
func Squeeze(x *G.Node, axes ...int) *G.Node { return graph.Apply(squeeze{axes: axes}, x) }

type squeeze struct {
	smooth
	axes []int
}

func (squeeze) Name() string { return "Squeeze" }

func (q squeeze) Infer(in []graph.Shape) []graph.Shape {
	arity("Squeeze", in, 1)
	dropped := map[int]bool{}
	for _, a := range q.axes {
		axis := axisOf("Squeeze", a, in[0])
		if in[0][axis] != 1 || dropped[axis] {
			graph.Fail("Squeeze", in, "axis %d is not of size 1, or is dropped twice", a)
		}
		dropped[axis] = true
	}
	s := graph.Shape{}
	for i, d := range in[0] {
		if !dropped[i] {
			s = append(s, d)
		}
	}
	return one(s)
}

func (q squeeze) Eval(in []graph.Array) []graph.Array {
	y := in[0]
	y.Shape = q.Infer([]graph.Shape{y.Shape})[0]
	return []graph.Array{y}
}

func (squeeze) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Reshape(dy, graph.ShapeOf(in[0])...)}
}

func (q squeeze) Lower(e graph.Emitter, in []graph.Operand) []string {
	out := q.Infer([]graph.Shape{in[0].Shape})[0]
	return []string{e.Emit("Squeeze", out, []string{in[0].Name, graph.ConstInts(e, q.axes...)})}
}

func liftSqueeze(n *Node) []*G.Node {
	axes := n.Axes(1)
	if len(axes) == 0 {
		for i, d := range graph.ShapeOf(n.X(0)) {
			if d == 1 {
				axes = append(axes, i)
			}
		}
	}
	return []*G.Node{Squeeze(n.X(0), axes...)}
}
