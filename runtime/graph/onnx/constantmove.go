package onnx

import (
	"slices"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// gather takes slices of an axis by number.
func gather(n *op.Node) []graph.Array {
	x, indices := operand(n, 0), operand(n, 1)
	known(n, indices, false, true)
	axis := axisOf(n, n.Int("axis", 0), len(x.Shape))
	size, inner := x.Shape[axis], x.Shape[axis+1:]
	s := slices.Concat(x.Shape[:axis], indices.Shape, inner)
	total, step := sized(n, s), inner.Size()
	rows := mapped(indices.I, func(i int64) int {
		if i < -int64(size) || i >= int64(size) {
			refuse(n, "index %d is out of range for axis %d of size %d", i, axis, size)
		}
		return (int(i) + size) % size
	})
	from := make([]int, total)
	for i := range from {
		outer, row := i/step/len(rows), i/step%len(rows)
		from[i] = (outer*size+rows[row])*step + i%step
	}
	return one(pick(x, s, from))
}

// scatterND replaces slices of the data: the last axis of the indices says where each begins (ONNX ScatterND).
func scatterND(n *op.Node) []graph.Array {
	x, indices, updates := operand(n, 0), operand(n, 1), operand(n, 2)
	known(n, indices, false, true)
	if how := n.String("reduction", "none"); how != "none" {
		refuse(n, "the reduction %q is not supported", how)
	}
	last := len(indices.Shape) - 1
	if last < 0 || indices.Shape[last] > len(x.Shape) {
		refuse(n, "the indices do not fit the data")
	}
	depth := indices.Shape[last]
	if want := slices.Concat(indices.Shape[:last], x.Shape[depth:]); !updates.Shape.Equal(want) {
		refuse(n, "the updates must have shape %v", want)
	}
	sized(n, updates.Shape)
	from, strides, run := counting(count(x)), stridesOf(x.Shape), x.Shape[depth:].Size()
	for i := range updates.Shape[:last].Size() {
		at := 0
		for d, v := range indices.I[i*depth : (i+1)*depth] {
			size := x.Shape[d]
			if v < -int64(size) || v >= int64(size) {
				refuse(n, "index %d is out of range for axis %d of size %d", v, d, size)
			}
			at += (int(v) + size) % size * strides[d]
		}
		for k := range run {
			from[at+k] = count(x) + i*run + k
		}
	}
	return one(pick(joined(n, x, updates), x.Shape, from))
}

func concat(n *op.Node) []graph.Array {
	x := operand(n, 0)
	axis := axisOf(n, n.Int("axis", 1), len(x.Shape))
	s, parts := x.Shape.Clone(), []graph.Array{x}
	for i := 1; i < len(n.In); i++ {
		p := operand(n, i)
		if len(p.Shape) != len(s) || !slices.Equal(p.Shape[:axis], s[:axis]) || !slices.Equal(p.Shape[axis+1:], s[axis+1:]) {
			refuse(n, "the shapes differ outside axis %d", axis)
		}
		s[axis] += p.Shape[axis]
		parts = append(parts, p)
	}
	all := joined(n, parts...)
	from := make([]int, 0, sized(n, s))
	for outer := range s[:axis].Size() {
		begin := 0
		for _, p := range parts {
			run := p.Shape[axis:].Size()
			for k := range run {
				from = append(from, begin+outer*run+k)
			}
			begin += count(p)
		}
	}
	return one(pick(all, s, from))
}

// slice takes ranges of axes, which may step backwards; bounds outside an axis are moved to its ends.
func slice(n *op.Node) []graph.Array {
	x := operand(n, 0)
	from, to, axes, steps := n.Ints("starts"), n.Ints("ends"), n.Ints("axes"), []int(nil)
	if n.Opset >= 10 {
		from, to = n.IntsIn(1), n.IntsIn(2)
		if axes = nil; n.Has(3) {
			axes = n.IntsIn(3)
		}
		if n.Has(4) {
			steps = n.IntsIn(4)
		}
	}
	if axes == nil {
		axes = counting(len(from))
	}
	if steps == nil {
		steps = slices.Repeat([]int{1}, len(from))
	}
	if len(to) != len(from) || len(axes) != len(from) || len(steps) != len(from) {
		refuse(n, "starts, ends, axes and steps differ in length")
	}
	axesOf(n, axes, len(x.Shape))
	s, strides, start := x.Shape.Clone(), stridesOf(x.Shape), 0
	for i, axis := range axes {
		axis = axisOf(n, axis, len(s))
		first, size := bounds(n, from[i], to[i], steps[i], s[axis])
		start += first * strides[axis]
		s[axis] = size
		strides[axis] *= steps[i]
	}
	return one(pick(x, s, strided(n, s, start, strides)))
}

// counting lists 0, 1, … n−1.
func counting(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// bounds are the first element of a range of an axis of size n, and how many follow it, itself included.
func bounds(node *op.Node, from, to, step, n int) (first, size int) {
	if from < 0 {
		from += n
	}
	if to < 0 {
		to += n
	}
	switch {
	case step > 0:
		from, to = min(max(from, 0), n), min(max(to, 0), n)
		if from < to {
			size = (to-from-1)/step + 1
		}
	case step < 0:
		from, to = min(max(from, 0), n-1), min(max(to, -1), n-1)
		if from > to {
			size = int(uint(from-to-1)/-uint(step)) + 1 // −step may not fit an int
		}
	default:
		refuse(node, "a step is 0")
	}
	return from, size
}

// split cuts an axis into the sizes given, or into num_outputs equal ones, the last of which may be smaller.
func split(n *op.Node) []graph.Array {
	x := operand(n, 0)
	axis := axisOf(n, n.Int("axis", 0), len(x.Shape))
	size, sizes := x.Shape[axis], n.Ints("split")
	if n.Has(1) {
		sizes = n.IntsIn(1)
	}
	if sizes == nil {
		parts := n.Int("num_outputs", 0)
		if parts < 1 || parts > max(size, 1) {
			refuse(n, "axis %d of size %d cannot be split into %d", axis, size, parts)
		}
		each := (size + parts - 1) / parts
		for i := range parts {
			sizes = append(sizes, min(each, max(size-i*each, 0)))
		}
	}
	var out []graph.Array
	strides, begin := stridesOf(x.Shape), 0
	for _, part := range sizes {
		if part < 0 || part > size-begin {
			refuse(n, "the sizes %v do not fill axis %d of size %d", sizes, axis, size)
		}
		s := x.Shape.Clone()
		s[axis] = part
		out = append(out, pick(x, s, strided(n, s, begin*strides[axis], strides)))
		begin += part
	}
	if begin != size {
		refuse(n, "the sizes %v do not fill axis %d of size %d", sizes, axis, size)
	}
	return out
}

// tile repeats x along each axis: as a view in which an axis of stride 0 stands before each.
func tile(n *op.Node) []graph.Array {
	x, repeats := operand(n, 0), n.IntsIn(1)
	if len(repeats) != len(x.Shape) {
		refuse(n, "it takes a number of repeats for each axis")
	}
	s := make(graph.Shape, len(repeats))
	var split graph.Shape
	var strides []int
	for i, step := range stridesOf(x.Shape) {
		split, strides = append(split, repeats[i], x.Shape[i]), append(strides, 0, step)
	}
	from := strided(n, split, 0, strides)
	for i, r := range repeats {
		s[i] = r * x.Shape[i]
	}
	return one(pick(x, s, from))
}

// reduction combines the elements along axes, all of them if none is given, beginning with start: what an empty set gives.
func reduction(start float64, f func(a, b float64) float64, intStart int64, i func(a, b int64) int64) evaluator {
	return func(n *op.Node) []graph.Array {
		x, axes := operand(n, 0), n.Axes(1)
		if len(axes) == 0 && n.Int("noop_with_empty_axes", 0) == 1 {
			return one(x)
		}
		reduced := axesOf(n, axes, len(x.Shape))
		var kept, gone []int
		s, groups := graph.Shape{}, graph.Shape{}
		for axis, d := range x.Shape {
			switch {
			case len(axes) > 0 && !reduced[axis]:
				kept, s, groups = append(kept, axis), append(s, d), append(groups, d)
				continue
			case n.Int("keepdims", 1) == 1:
				s = append(s, 1)
			}
			gone = append(gone, axis)
		}
		x = permuted(n, x, append(kept, gone...))
		size := sized(n, groups)
		if x.I != nil {
			return ints(s, grouped(x.I, size, intStart, i))
		}
		return floats(s, grouped(x.F, size, start, f))
	}
}

// grouped combines each of so many groups of neighbours.
func grouped[T any](v []T, groups int, start T, f func(a, b T) T) []T {
	out := make([]T, groups)
	for g := range out {
		out[g] = start
		for _, x := range v[len(v)/groups*g : len(v)/groups*(g+1)] {
			out[g] = f(out[g], x)
		}
	}
	return out
}

// reduceMean of integers truncates toward zero.
func reduceMean(n *op.Node) []graph.Array {
	x := operand(n, 0)
	sum := reduction(0, add[float64], 0, add[int64])(n)[0]
	if count(sum) == 0 {
		return one(sum)
	}
	size := count(x) / count(sum)
	if sum.I != nil {
		return ints(sum.Shape, mapped(sum.I, func(v int64) int64 { return divide(v, int64(size)) }))
	}
	return floats(sum.Shape, mapped(sum.F, func(v float64) float64 { return v / float64(size) }))
}
