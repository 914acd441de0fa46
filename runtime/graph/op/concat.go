package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// concat joins along an axis.
type concat struct {
	smooth
	axis int
}

// Concat joins tensors along an axis; their other sizes agree.
func Concat(axis int, xs ...*G.Node) *G.Node {
	return graph.Apply(concat{axis: axisOf("Concat", axis, graph.ShapeOf(xs[0]))}, xs...)
}

func (concat) Name() string { return "Concat" }

func (c concat) Infer(in []graph.Shape) []graph.Shape {
	s := in[0].Clone()
	for _, t := range in[1:] {
		same := t.Clone()
		if len(t) == len(s) {
			same[c.axis] = s[c.axis]
		}
		if !same.Equal(s) {
			graph.Fail("Concat", in, "sizes off axis %d differ", c.axis)
		}
	}
	for _, t := range in[1:] {
		s[c.axis] += t[c.axis]
	}
	return one(s)
}

func (c concat) Eval(in []graph.Array) []graph.Array {
	shapes := make([]graph.Shape, len(in))
	for i, x := range in {
		shapes[i] = x.Shape
	}
	y := graph.Zeros(c.Infer(shapes)[0])
	outer := y.Shape[:c.axis].Size()
	at := 0
	for o := range outer {
		for _, x := range in {
			n := x.Shape[c.axis:].Size()
			at += copy(y.F[at:], x.F[o*n:(o+1)*n])
		}
	}
	return []graph.Array{y}
}

func (c concat) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	grads := make([]*G.Node, len(in))
	at := 0
	for i, x := range in {
		n := graph.ShapeOf(x)[c.axis]
		grads[i] = Slice(dy, Range{Axis: c.axis, From: at, To: at + n})
		at += n
	}
	return grads
}

func (c concat) Lower(e graph.Emitter, in []graph.Operand) []string {
	shapes := make([]graph.Shape, len(in))
	for i, x := range in {
		shapes[i] = x.Shape
	}
	return []string{emitConcat(e, c.axis, c.Infer(shapes)[0], names(in))}
}

func emitConcat(e graph.Emitter, axis int, out graph.Shape, in []string) string {
	if len(in) == 1 {
		return in[0]
	}
	return e.Emit("Concat", out, in, graph.Attr{Name: "axis", Value: axis})
}

func liftConcat(n *Node) []*G.Node {
	xs := make([]*G.Node, len(n.In))
	for i := range xs {
		xs[i] = n.X(i)
	}
	return []*G.Node{Concat(n.Int("axis", 0), xs...)}
}
