package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// reshape gives the same elements another shape.
type reshape struct {
	smooth
	to []int
}

// Reshape gives x another shape of as many elements. As in ONNX, a size of 0 keeps the input's size on that axis and one
// size may be −1, which is worked out; with these a network can be exported for any batch size.
func Reshape(x *G.Node, to ...int) *G.Node {
	return graph.Apply(reshape{to: slices.Clone(to)}, x)
}

func (reshape) Name() string { return "Reshape" }

func (r reshape) Infer(in []graph.Shape) []graph.Shape {
	arity("Reshape", in, 1)
	s := graph.Shape(r.to).Clone()
	free, n := -1, 1
	for i, d := range s {
		if d == 0 && i < len(in[0]) {
			s[i] = in[0][i]
		}
		if d == -1 && free < 0 {
			free = i
			continue
		}
		n *= s[i]
	}
	size := in[0].Size()
	if free >= 0 && n > 0 && size%n == 0 {
		s[free] = size / n
	}
	if s.Size() != size || slices.Min(append([]int{0}, s...)) < 0 {
		graph.Fail("Reshape", in, "%d elements do not fit %v", size, graph.Shape(r.to))
	}
	return one(s)
}

func (r reshape) Eval(in []graph.Array) []graph.Array {
	y := in[0]
	y.Shape = r.Infer([]graph.Shape{in[0].Shape})[0]
	return []graph.Array{y}
}

func (reshape) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Reshape(dy, graph.ShapeOf(in[0])...)}
}

func (r reshape) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{emitReshape(e, in[0].Name, r.Infer([]graph.Shape{in[0].Shape})[0], r.to)}
}

// emitReshape emits a Reshape to out, written as to where that differs (0 and −1 keep it free of the batch size).
func emitReshape(e graph.Emitter, x string, out graph.Shape, to []int) string {
	if to == nil {
		to = out
	}
	return e.Emit("Reshape", out, []string{x, graph.ConstInts(e, to...)})
}

// liftReshape reads a Reshape. The size that depends on the batch becomes −1, the others what they are, so that what is
// exported again takes any batch.
func liftReshape(n *Node) []*G.Node {
	x, to := n.X(0), n.IntsIn(1)
	if n.Int("allowzero", 0) != 0 && slices.Contains(to, 0) {
		n.fail("allowzero is not supported where a size is 0")
	}
	if n.Other == nil {
		return []*G.Node{Reshape(x, to...)}
	}
	out := reshape{to: to}.Infer([]graph.Shape{graph.ShapeOf(x)})[0]
	if len(out) != len(n.Other) {
		n.fail("the number of its axes depends on the batch")
	}
	free := -1
	for i, size := range out {
		if size == n.Other[i] {
			continue
		}
		if free >= 0 {
			n.fail("more than one size of %v depends on the batch", out)
		}
		free = i
	}
	if free >= 0 {
		out[free] = -1
	}
	return []*G.Node{Reshape(x, out...)}
}
