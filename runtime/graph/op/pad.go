package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// pad surrounds with a number.
type pad struct {
	smooth
	before, after []int
	value         float64
}

// Pad puts before[i] and after[i] zeros around axis i.
func Pad(x *G.Node, before, after []int) *G.Node { return PadBy(x, 0, before, after) }

// PadBy puts a value before[i] times before, and after[i] times after axis i.
func PadBy(x *G.Node, value float64, before, after []int) *G.Node {
	return graph.Apply(pad{before: before, after: after, value: value}, x)
}

func (pad) Name() string { return "Pad" }

func (p pad) Infer(in []graph.Shape) []graph.Shape {
	arity("Pad", in, 1)
	if len(p.before) != len(in[0]) || len(p.after) != len(in[0]) {
		graph.Fail("Pad", in, "needs one pad before and after each axis")
	}
	s := in[0].Clone()
	for i := range s {
		if p.before[i] < 0 || p.after[i] < 0 {
			graph.Fail("Pad", in, "pads must not be negative")
		}
		s[i] += p.before[i] + p.after[i]
	}
	return one(s)
}

// inner is the slice that Pad is the gradient of.
func (p pad) inner(in graph.Shape) slice {
	var o slice
	for i, n := range in {
		if p.before[i]+p.after[i] > 0 {
			o.ranges = append(o.ranges, Range{Axis: i, From: p.before[i], To: p.before[i] + n, Step: 1})
		}
	}
	return o
}

// Place implements [graph.Placer].
func (p pad) Place(in graph.Shape) (axis, from int, ok bool) {
	ranges := p.inner(in).ranges
	if p.value != 0 || len(ranges) != 1 {
		return 0, 0, false
	}
	return ranges[0].Axis, ranges[0].From, true
}

func (p pad) Eval(in []graph.Array) []graph.Array {
	y := filled(p.Infer([]graph.Shape{in[0].Shape})[0], p.value)
	p.inner(in[0].Shape).place(in[0], y)
	return []graph.Array{y}
}

func (p pad) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	inner := p.inner(graph.ShapeOf(in[0]))
	if len(inner.ranges) == 0 { // ONNX Runtime slices no scalar, not even by no range
		return []*G.Node{dy}
	}
	return []*G.Node{graph.Apply(inner, dy)}
}

func (p pad) Lower(e graph.Emitter, in []graph.Operand) []string {
	if p.value == 0 || len(p.inner(in[0].Shape).ranges) == 0 {
		return []string{emitPad(e, in[0], p.before, p.after).Name}
	}
	pads, value := graph.ConstInts(e, slices.Concat(p.before, p.after)...), e.Const(graph.Scalar(float32(p.value)))
	return []string{e.Emit("Pad", p.Infer([]graph.Shape{in[0].Shape})[0], []string{in[0].Name, pads, value})}
}

// emitPad pads by zeros and crops where a pad is negative; it is x itself where nothing changes.
func emitPad(e graph.Emitter, x graph.Operand, before, after []int) graph.Operand {
	s := x.Shape.Clone()
	same := true
	for i := range s {
		s[i] += before[i] + after[i]
		same = same && before[i] == 0 && after[i] == 0
	}
	if same {
		return x
	}
	pads := graph.ConstInts(e, slices.Concat(before, after)...)
	return graph.Operand{Name: e.Emit("Pad", s, []string{x.Name, pads}), Shape: s}
}

// continuations say, by mode, which element of an axis of size n stands at place i beyond its ends. Each goes on for less
// than n places.
var continuations = map[string]func(i, n int) int{
	"reflect": func(i, n int) int { // mirrored at the first and the last element
		if i < 0 {
			return -i
		}
		return 2*(n-1) - i
	},
	"edge": func(i, n int) int { return min(max(i, 0), n-1) },
	"wrap": func(i, n int) int { return (i + n) % n },
}

// maxPadded limits the size of an axis that PadFrom makes, for each element of which it holds an index.
const maxPadded = 1 << 24

// PadFrom pads by x's own elements, in the mode "reflect", "edge" or "wrap": a Gather along each axis that has pads, which
// must be smaller than it.
func PadFrom(x *G.Node, mode string, before, after []int) *G.Node {
	s := graph.ShapeOf(x)
	from, known := continuations[mode]
	if !known || len(before) != len(s) || len(after) != len(s) {
		graph.Fail("Pad", one(s), "mode %q is unknown, or there is not one pad before and after each axis", mode)
	}
	for axis, n := range s {
		if min(before[axis], after[axis]) < 0 || max(before[axis], after[axis]) >= n || n > maxPadded/3 {
			graph.Fail("Pad", one(s), "%d and %d elements cannot be made from axis %d", before[axis], after[axis], axis)
		}
		var indices []int64
		for i := -before[axis]; i < n+after[axis]; i++ {
			at := i
			if i < 0 || i >= n {
				at = from(i, n)
			}
			indices = append(indices, int64(at))
		}
		if len(indices) > n {
			x = Gather(x, axis, graph.Array{Shape: graph.Shape{len(indices)}, I: indices})
		}
	}
	return x
}

// liftPad reads a Pad in each of its modes. Since opset 11 the pads are an input, and since 18 the axes they are for.
func liftPad(n *Node) []*G.Node {
	x := n.X(0)
	pads, value := n.Ints("pads"), n.Float("value", 0)
	if n.Opset >= 11 {
		pads, value = n.IntsIn(1), n.ScalarIn(2, 0)
	}
	s := graph.ShapeOf(x)
	before, after := make([]int, len(s)), make([]int, len(s))
	var axes []int
	for i := range s {
		axes = append(axes, i)
	}
	if n.Has(3) {
		axes = n.IntsIn(3)
	}
	if len(pads) != 2*len(axes) {
		n.fail("%d pads do not go before and after %d axes", len(pads), len(axes))
	}
	for i, axis := range axes {
		axis = axisOf("Pad", axis, s)
		before[axis], after[axis] = pads[i], pads[len(axes)+i]
	}
	if mode := n.String("mode", "constant"); mode != "constant" {
		return []*G.Node{PadFrom(x, mode, before, after)}
	}
	return []*G.Node{PadBy(x, value, before, after)}
}
