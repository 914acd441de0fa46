package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// softmax is eˣ/Σeˣ along an axis, or its logarithm.
type softmax struct {
	smooth
	axis int
	log  bool
}

// Softmax is eˣ/Σeˣ along an axis, negative counting from the last; the maximum is subtracted first, so it does not overflow.
func Softmax(x *G.Node, axis int) *G.Node {
	return graph.Apply(softmax{axis: axisOf("Softmax", axis, graph.ShapeOf(x))}, x)
}

// LogSoftmax is x − log Σeˣ along an axis, finite for finite x of any size.
func LogSoftmax(x *G.Node, axis int) *G.Node {
	return graph.Apply(softmax{axis: axisOf("LogSoftmax", axis, graph.ShapeOf(x)), log: true}, x)
}

func (o softmax) Name() string {
	if o.log {
		return "LogSoftmax"
	}
	return "Softmax"
}

func (o softmax) Infer(in []graph.Shape) []graph.Shape {
	arity(o.Name(), in, 1)
	return in
}

func (o softmax) Eval(in []graph.Array) []graph.Array {
	x := in[0]
	y := graph.Zeros(x.Shape)
	n := x.Shape[o.axis]
	inner := strides(x.Shape)[o.axis]
	for start := range len(x.F) {
		if start/inner%n != 0 {
			continue
		}
		top := math.Inf(-1)
		for k := range n {
			top = math.Max(top, x.F[start+k*inner])
		}
		sum := 0.0
		for k := range n {
			sum += math.Exp(x.F[start+k*inner] - top)
		}
		for k := range n {
			i := start + k*inner
			y.F[i] = x.F[i] - top - math.Log(sum)
			if !o.log {
				y.F[i] = math.Exp(y.F[i])
			}
		}
	}
	return []graph.Array{y}
}

func (o softmax) Grad(_ []*G.Node, y, dy *G.Node) []*G.Node {
	along := []int{o.axis}
	if o.log {
		return []*G.Node{Sub(dy, Mul(Exp(y), ReduceSum(dy, along, true)))}
	}
	return []*G.Node{Mul(y, Sub(dy, ReduceSum(Mul(dy, y), along, true)))}
}

func (o softmax) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit(o.Name(), in[0].Shape, names(in), graph.Attr{Name: "axis", Value: o.axis})}
}

// liftSoftmax reads a Softmax or LogSoftmax; before opset 13 it goes over all axes from its axis on.
func liftSoftmax(f func(x *G.Node, axis int) *G.Node) func(n *Node) []*G.Node {
	return func(n *Node) []*G.Node {
		x := n.X(0)
		if n.Opset >= 13 {
			return []*G.Node{f(x, n.Int("axis", -1))}
		}
		s := graph.ShapeOf(x)
		axis := axisOf(n.Op, n.Int("axis", 1), s)
		if axis == len(s)-1 {
			return []*G.Node{f(x, axis)}
		}
		flat := Reshape(x, s[:axis].Size(), s[axis:].Size())
		return []*G.Node{Reshape(f(flat, 1), s...)}
	}
}
