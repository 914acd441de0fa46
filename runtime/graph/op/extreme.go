package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// extreme is the largest or the smallest of its inputs, broadcast.
type extreme struct {
	smooth
	name string
	pick func(a, b float64) float64
}

// Max is the largest of its inputs elementwise, broadcast. Those that are equally large share the gradient.
func Max(xs ...*G.Node) *G.Node { return graph.Apply(extreme{name: "Max", pick: math.Max}, xs...) }

// Min is the smallest of its inputs elementwise, broadcast. Those that are equally small share the gradient.
func Min(xs ...*G.Node) *G.Node { return graph.Apply(extreme{name: "Min", pick: math.Min}, xs...) }

func (o extreme) Name() string { return o.name }

func (o extreme) Infer(in []graph.Shape) []graph.Shape { return one(broadcastAll(o.name, in)) }

// broadcastAll is the shape that all stretch to.
func broadcastAll(op string, in []graph.Shape) graph.Shape {
	s := in[0]
	for _, t := range in[1:] {
		var ok bool
		if s, ok = broadcast(s, t); !ok {
			graph.Fail(op, in, "the shapes do not broadcast")
		}
	}
	return s
}

func (o extreme) Eval(in []graph.Array) []graph.Array {
	s := broadcastAll(o.name, shapesOf(in))
	y := graph.Zeros(s)
	walk(s, allStretched(in, s), func(i int, at []int) {
		y.F[i] = in[0].F[at[0]]
		for k := 1; k < len(in); k++ {
			y.F[i] = o.pick(y.F[i], in[k].F[at[k]])
		}
	})
	return []graph.Array{y}
}

func shapesOf(in []graph.Array) []graph.Shape {
	shapes := make([]graph.Shape, len(in))
	for i, x := range in {
		shapes[i] = x.Shape
	}
	return shapes
}

// allStretched are the strides that read each array as if it were broadcast to shape to.
func allStretched(in []graph.Array, to graph.Shape) [][]int {
	sets := make([][]int, len(in))
	for i, x := range in {
		sets[i] = stretched(x.Shape, to)
	}
	return sets
}

func (o extreme) Grad(in []*G.Node, y, dy *G.Node) []*G.Node {
	s := graph.ShapeOf(y)
	masks := make([]*G.Node, len(in))
	for i, x := range in {
		masks[i] = Equal(Expand(x, s), y)
	}
	share := Div(dy, Sum(masks...))
	grads := make([]*G.Node, len(in))
	for i, x := range in {
		grads[i] = sumTo(Mul(share, masks[i]), graph.ShapeOf(x))
	}
	return grads
}

func (o extreme) Lower(e graph.Emitter, in []graph.Operand) []string {
	shapes := make([]graph.Shape, len(in))
	for i, x := range in {
		shapes[i] = x.Shape
	}
	return []string{e.Emit(o.name, broadcastAll(o.name, shapes), names(in))}
}
