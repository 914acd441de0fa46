package op

import (
	"math"
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Range picks From, From+Step, … below To along an axis. The zero Step is 1 and the zero To is the end.
type Range struct{ Axis, From, To, Step int }

// slice picks ranges of some axes.
type slice struct {
	smooth
	ranges []Range
}

// Slice picks ranges along axes, the others whole; 0 ≤ From < To, and Step is positive.
func Slice(x *G.Node, ranges ...Range) *G.Node {
	s := graph.ShapeOf(x)
	whole := make([]Range, len(ranges))
	for i, r := range ranges {
		r.Axis = axisOf("Slice", r.Axis, s)
		if r.Step == 0 {
			r.Step = 1
		}
		whole[i] = r
	}
	return graph.Apply(slice{ranges: whole}, x)
}

func (slice) Name() string { return "Slice" }

// end is where the range stops on an axis of size n.
func (r Range) end(n int) int {
	if r.To == 0 {
		return n
	}
	return r.To
}

func (r Range) count(n int) int { return (r.end(n) - r.From + r.Step - 1) / r.Step }

func (o slice) Infer(in []graph.Shape) []graph.Shape {
	arity("Slice", in, 1)
	s := in[0].Clone()
	for i, r := range o.ranges {
		if slices.ContainsFunc(o.ranges[:i], func(other Range) bool { return other.Axis == r.Axis }) {
			graph.Fail("Slice", in, "axis %d is sliced twice", r.Axis)
		}
		n := in[0][r.Axis]
		if r.From < 0 || r.From >= r.end(n) || r.end(n) > n || r.Step < 1 {
			graph.Fail("Slice", in, "range %+v does not fit", r)
		}
		s[r.Axis] = r.count(n)
	}
	return one(s)
}

// offset and steps say where the result's elements lie in the input.
func (o slice) offset(in graph.Shape) (int, []int) {
	st := strides(in)
	off := 0
	for _, r := range o.ranges {
		off += r.From * st[r.Axis]
		st[r.Axis] *= r.Step
	}
	return off, st
}

func (o slice) Eval(in []graph.Array) []graph.Array {
	y := graph.Zeros(o.Infer([]graph.Shape{in[0].Shape})[0])
	off, st := o.offset(in[0].Shape)
	walk(y.Shape, [][]int{st}, func(i int, at []int) { y.F[i] = in[0].F[off+at[0]] })
	return []graph.Array{y}
}

// place writes x where the slice of the whole lies.
func (o slice) place(x, whole graph.Array) {
	off, st := o.offset(whole.Shape)
	walk(x.Shape, [][]int{st}, func(i int, at []int) { whole.F[off+at[0]] = x.F[i] })
}

func (o slice) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{graph.Apply(sliceGrad{o, graph.ShapeOf(in[0])}, dy)}
}

func (o slice) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{emitSlice(e, in[0], o.ranges...).Name}
}

func emitSlice(e graph.Emitter, x graph.Operand, ranges ...Range) graph.Operand {
	var from, to, axes, steps []int
	s := x.Shape.Clone()
	for _, r := range ranges {
		end := r.end(x.Shape[r.Axis])
		if r.To == 0 {
			end = math.MaxInt64 // whatever the size, as an export for any batch needs it
		}
		from, to, axes, steps = append(from, r.From), append(to, end), append(axes, r.Axis), append(steps, max(r.Step, 1))
		r.Step = max(r.Step, 1)
		s[r.Axis] = r.count(x.Shape[r.Axis])
	}
	return graph.Operand{Shape: s, Name: e.Emit("Slice", s, []string{x.Name, graph.ConstInts(e, from...),
		graph.ConstInts(e, to...), graph.ConstInts(e, axes...), graph.ConstInts(e, steps...)})}
}

// sliceGrad puts a slice's gradient in its place among zeros.
type sliceGrad struct {
	slice
	whole graph.Shape // of the slice's input
}

func (sliceGrad) Name() string                        { return "SliceGrad" }
func (o sliceGrad) Infer([]graph.Shape) []graph.Shape { return one(o.whole) }

func (o sliceGrad) Eval(in []graph.Array) []graph.Array {
	dx := graph.Zeros(o.whole)
	o.place(in[0], dx)
	return []graph.Array{dx}
}

// Place implements [graph.Placer].
func (o sliceGrad) Place(graph.Shape) (axis, from int, ok bool) {
	if len(o.ranges) != 1 || o.ranges[0].Step != 1 {
		return 0, 0, false
	}
	return o.ranges[0].Axis, o.ranges[0].From, true
}

// Grad of a gradient is the slice again.
func (o sliceGrad) Grad(_ []*G.Node, _, dout *G.Node) []*G.Node {
	return []*G.Node{graph.Apply(o.slice, dout)}
}

// planar reports whether the slice steps along both of the last two axes and takes the others whole, as a shortcut of
// stride 2 does.
func (o sliceGrad) planar() (h, w Range, ok bool) {
	n := len(o.whole)
	if n < 2 || len(o.ranges) != 2 {
		return h, w, false
	}
	h, w = o.ranges[0], o.ranges[1]
	return h, w, h.Axis == n-2 && w.Axis == n-1 && h.From == 0 && w.Step > 1 && o.whole[n-2]%h.Step == 0 && h.end(o.whole[n-2]) == o.whole[n-2]
}

// lowerPlanar multiplies the rows of dy by a matrix of zeros and ones that puts each element in its column, and zero rows
// after it: one product, where padding in six dimensions takes five times as long.
func (o sliceGrad) lowerPlanar(e graph.Emitter, dy graph.Operand, h, w Range) string {
	n := len(o.whole)
	cols, width := dy.Shape[n-1], o.whole[n-1]
	place := graph.NewTensor(graph.Float32, cols, h.Step*width)
	for j := range cols {
		place.F[j*h.Step*width+w.From+j*w.Step] = 1
	}
	rows := dy.Shape[:n-1].Size()
	flat := emitReshape(e, dy.Name, graph.Shape{rows, cols}, nil)
	y := e.Emit("MatMul", graph.Shape{rows, h.Step * width}, []string{flat, e.Const(place)})
	return emitReshape(e, y, o.whole, nil)
}

// Lower spreads a stepped axis by padding each element to a run of Step, then pads (or, by a negative pad, crops) to size.
func (o sliceGrad) Lower(e graph.Emitter, in []graph.Operand) []string {
	x := in[0]
	if h, w, ok := o.planar(); ok && e.Target().Fused {
		return []string{o.lowerPlanar(e, x, h, w)}
	}
	n := len(x.Shape)
	before, after, step := make([]int, n), make([]int, n), make([]int, n)
	for i := range step {
		step[i] = 1
	}
	for _, r := range o.ranges {
		step[r.Axis] = r.Step
		before[r.Axis] = r.From
		after[r.Axis] = o.whole[r.Axis] - r.From - x.Shape[r.Axis]*r.Step
	}
	// split has an axis of size 1 after each stepped one; tail pads it to the step, which merged takes in.
	var split, merged graph.Shape
	var tail []int
	for i, d := range x.Shape {
		split, tail, merged = append(split, d), append(tail, 0), append(merged, d*step[i])
		if step[i] > 1 {
			split, tail = append(split, 1), append(tail, step[i]-1)
		}
	}
	if len(split) > n {
		y := graph.Operand{Name: emitReshape(e, x.Name, split, nil), Shape: split}
		y = emitPad(e, y, make([]int, len(split)), tail)
		x = graph.Operand{Name: emitReshape(e, y.Name, merged, nil), Shape: merged}
	}
	return []string{emitPad(e, x, before, after).Name}
}

// liftSlice reads a Slice by constant, positive steps.
func liftSlice(n *Node) []*G.Node {
	x := n.X(0)
	s := graph.ShapeOf(x)
	from, to, axes := n.Ints("starts"), n.Ints("ends"), n.Ints("axes")
	var steps []int
	if n.Opset >= 10 {
		from, to, axes = n.IntsIn(1), n.IntsIn(2), nil
		if n.Has(3) {
			axes = n.IntsIn(3)
		}
		if n.Has(4) {
			steps = n.IntsIn(4)
		}
	}
	if len(to) != len(from) || len(axes) > 0 && len(axes) != len(from) || len(steps) > 0 && len(steps) != len(from) {
		n.fail("starts, ends, axes and steps differ in length")
	}
	var ranges []Range
	for i := range from {
		r := Range{Axis: i, From: from[i], To: to[i], Step: 1}
		if len(axes) > 0 {
			r.Axis = axisOf("Slice", axes[i], s)
		}
		if len(steps) > 0 {
			r.Step = steps[i]
		}
		if r.Step < 1 {
			n.fail("a step of %d is not supported", r.Step)
		}
		size := s[r.Axis]
		if r.From < 0 {
			r.From = max(0, r.From+size)
		}
		if r.To < 0 {
			r.To += size
		}
		if r.To >= size {
			r.To = 0 // the end
		} else if r.To <= r.From {
			n.fail("the range %d:%d of axis %d is empty", from[i], to[i], r.Axis)
		}
		if r.From > 0 || r.To > 0 || r.Step > 1 {
			ranges = append(ranges, r)
		}
	}
	if len(ranges) == 0 {
		return []*G.Node{x}
	}
	return []*G.Node{Slice(x, ranges...)}
}
