package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// expand stretches sizes of 1.
type expand struct {
	smooth
	to graph.Shape
}

// Expand stretches x to a shape by broadcasting; x itself where it has that shape.
func Expand(x *G.Node, to graph.Shape) *G.Node {
	if graph.ShapeOf(x).Equal(to) {
		return x
	}
	return graph.Apply(expand{to: to.Clone()}, x)
}

func (expand) Name() string { return "Expand" }

func (o expand) Infer(in []graph.Shape) []graph.Shape {
	arity("Expand", in, 1)
	if s, ok := broadcast(in[0], o.to); !ok || !s.Equal(o.to) {
		graph.Fail("Expand", in, "does not stretch to %v", o.to)
	}
	return one(o.to)
}

func (o expand) Eval(in []graph.Array) []graph.Array {
	y := graph.Zeros(o.to)
	walk(o.to, [][]int{stretched(in[0].Shape, o.to)}, func(i int, at []int) { y.F[i] = in[0].F[at[0]] })
	return []graph.Array{y}
}

func (expand) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{sumTo(dy, graph.ShapeOf(in[0]))}
}

func (o expand) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("Expand", o.to, []string{in[0].Name, graph.ConstInts(e, o.to...)})}
}
