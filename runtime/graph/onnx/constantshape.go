package onnx

import (
	"cmp"
	"math"
	"slices"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// sized is the number of elements of a shape that a result is to have; it fails on one that no array can have or that is
// too large, before anything is allocated.
func sized(n *op.Node, s graph.Shape) int {
	size, empty := 1, false
	for _, d := range s {
		switch {
		case d < 0:
			refuse(n, "the size %d of %v is negative", d, s)
		case d == 0:
			empty = true
		case size > maxConstant/d:
			refuse(n, "a result of shape %v has more than %d elements", s, maxConstant)
		default:
			size *= d
		}
	}
	if empty {
		return 0
	}
	return size
}

// pick is the array of shape s whose element i is element from[i] of a.
func pick(a graph.Array, s graph.Shape, from []int) graph.Array {
	if a.I != nil {
		return graph.Array{Shape: s, I: mapped(from, func(i int) int64 { return a.I[i] })}
	}
	return graph.Array{Shape: s, F: mapped(from, func(i int) float64 { return a.F[i] })}
}

// strided lists, in row-major order of s, start + Σ index·stride.
func strided(n *op.Node, s graph.Shape, start int, strides []int) []int {
	list := make([]int, sized(n, s))
	index, at := make([]int, len(s)), start
	for i := range list {
		list[i] = at
		for d := len(s) - 1; d >= 0; d-- {
			index[d]++
			at += strides[d]
			if index[d] < s[d] {
				break
			}
			at -= strides[d] * s[d]
			index[d] = 0
		}
	}
	return list
}

// stridesOf are the distances between neighbours along each axis of a row-major array.
func stridesOf(s graph.Shape) []int {
	strides, step := make([]int, len(s)), 1
	for i := len(s) - 1; i >= 0; i-- {
		strides[i] = step
		step *= s[i]
	}
	return strides
}

// joined is the elements of arrays of one type, one after the other.
func joined(n *op.Node, arrays ...graph.Array) graph.Array {
	total := 0
	for _, a := range arrays {
		if (a.I == nil) != (arrays[0].I == nil) {
			refuse(n, "the inputs differ in type")
		}
		total += count(a)
	}
	sized(n, graph.Shape{total})
	all := graph.Array{Shape: graph.Shape{total}}
	if arrays[0].I != nil {
		all.I = make([]int64, 0, total)
	}
	for _, a := range arrays {
		all.F, all.I = append(all.F, a.F...), append(all.I, a.I...)
	}
	return all
}

// axisOf counts an axis from the start.
func axisOf(n *op.Node, axis, rank int) int {
	if axis < -rank || axis >= rank {
		refuse(n, "there is no axis %d", axis)
	}
	return (axis + rank) % rank
}

// axesOf marks axes, each given once, among rank.
func axesOf(n *op.Node, axes []int, rank int) []bool {
	marked := make([]bool, rank)
	for _, axis := range axes {
		a := axisOf(n, axis, rank)
		if marked[a] {
			refuse(n, "axis %d is given twice", axis)
		}
		marked[a] = true
	}
	return marked
}

// broadcast is the shape that two shapes stretch to.
func broadcast(n *op.Node, a, b graph.Shape) graph.Shape {
	if len(a) < len(b) {
		a, b = b, a
	}
	s, lead := a.Clone(), len(a)-len(b)
	for i, d := range b {
		switch {
		case s[lead+i] == 1:
			s[lead+i] = d
		case d != 1 && d != s[lead+i]:
			refuse(n, "the shapes %v and %v do not fit together", a, b)
		}
	}
	return s
}

// stretched repeats a along the axes where s is larger; s is a shape that a's broadcasts to.
func stretched(n *op.Node, a graph.Array, s graph.Shape) graph.Array {
	if a.Shape.Equal(s) {
		return a
	}
	strides, lead := make([]int, len(s)), len(s)-len(a.Shape)
	for i, step := range stridesOf(a.Shape) {
		if a.Shape[i] > 1 {
			strides[lead+i] = step
		}
	}
	return pick(a, s, strided(n, s, 0, strides))
}

func expand(n *op.Node) []graph.Array {
	x := operand(n, 0)
	return one(stretched(n, x, broadcast(n, x.Shape, n.IntsIn(1))))
}

func where(n *op.Node) []graph.Array {
	cond, x, y := operand(n, 0), operand(n, 1), operand(n, 2)
	known(n, cond, false, true)
	s := broadcast(n, cond.Shape, broadcast(n, x.Shape, y.Shape))
	cond, x, y = stretched(n, cond, s), stretched(n, x, s), stretched(n, y, s)
	from := make([]int, len(cond.I))
	for i, c := range cond.I {
		from[i] = i
		if c == 0 {
			from[i] += len(from)
		}
	}
	return one(pick(joined(n, x, y), s, from))
}

// reshaped has x's elements in another shape of as many.
func reshaped(n *op.Node, x graph.Array, s graph.Shape) []graph.Array {
	if !fills(count(x), s) {
		refuse(n, "%d elements do not fill %v", count(x), s)
	}
	x.Shape = s
	return one(x)
}

// fills reports whether a shape has so many elements, without computing a product that could overflow.
func fills(size int, s graph.Shape) bool {
	if slices.Contains(s, 0) {
		return size == 0 && slices.Min(s) == 0
	}
	for _, d := range s {
		if d < 0 || size%d != 0 {
			return false
		}
		size /= d
	}
	return size == 1
}

// reshape keeps the input's size where 0 is asked, unless allowzero is set, and works out one size of −1.
func reshape(n *op.Node) []graph.Array {
	x, s := operand(n, 0), graph.Shape(n.IntsIn(1))
	free, rest := -1, count(x)
	for i, d := range s {
		if d == 0 && n.Int("allowzero", 0) == 0 {
			if i >= len(x.Shape) {
				refuse(n, "there is no size %d to keep", i)
			}
			s[i] = x.Shape[i]
		}
		if d == -1 && free < 0 {
			free = i
		} else if s[i] > 0 {
			rest /= s[i]
		}
	}
	if free >= 0 {
		s[free] = rest
	}
	return reshaped(n, x, s)
}

func flatten(n *op.Node) []graph.Array {
	x, axis := operand(n, 0), n.Int("axis", 1)
	if rank := len(x.Shape); axis < -rank || axis > rank {
		refuse(n, "there is no axis %d", axis)
	}
	if axis < 0 {
		axis += len(x.Shape)
	}
	return reshaped(n, x, graph.Shape{x.Shape[:axis].Size(), x.Shape[axis:].Size()})
}

// squeeze drops the axes given, or all of size 1.
func squeeze(n *op.Node) []graph.Array {
	x := operand(n, 0)
	axes := n.Axes(1)
	drop := axesOf(n, axes, len(x.Shape))
	s := graph.Shape{}
	for i, d := range x.Shape {
		if drop[i] && d != 1 {
			refuse(n, "axis %d has size %d, not 1", i, d)
		}
		if !drop[i] && (axes != nil || d != 1) {
			s = append(s, d)
		}
	}
	return reshaped(n, x, s)
}

func unsqueeze(n *op.Node) []graph.Array {
	x, axes := operand(n, 0), n.Axes(1)
	added, rest := axesOf(n, axes, len(x.Shape)+len(axes)), x.Shape
	s := make(graph.Shape, len(added))
	for i := range s {
		if s[i] = 1; !added[i] {
			s[i], rest = rest[0], rest[1:]
		}
	}
	return reshaped(n, x, s)
}

func transpose(n *op.Node) []graph.Array {
	x := operand(n, 0)
	perm := n.Ints("perm")
	if perm == nil {
		for i := len(x.Shape) - 1; i >= 0; i-- {
			perm = append(perm, i)
		}
	}
	if axesOf(n, perm, len(x.Shape)); len(perm) != len(x.Shape) {
		refuse(n, "perm %v does not name every axis", perm)
	}
	return one(permuted(n, x, perm))
}

func permuted(n *op.Node, x graph.Array, perm []int) graph.Array {
	s, strides, from := make(graph.Shape, len(perm)), make([]int, len(perm)), stridesOf(x.Shape)
	for i, p := range perm {
		p = axisOf(n, p, len(perm))
		s[i], strides[i] = x.Shape[p], from[p]
	}
	return pick(x, s, strided(n, s, 0, strides))
}

func shapeOf(n *op.Node) []graph.Array {
	s := operand(n, 0).Shape
	from, to := span(n.Int("start", 0), len(s)), span(n.Int("end", len(s)), len(s))
	s = s[from:max(from, to)]
	return ints(graph.Shape{len(s)}, mapped(s, func(d int) int64 { return int64(d) }))
}

func constantValue(n *op.Node) []graph.Array {
	if len(n.Attrs) != 1 {
		refuse(n, "it has %d attributes, not one value", len(n.Attrs))
	}
	for name, v := range n.Attrs {
		switch v := v.(type) {
		case graph.Array:
			return one(v)
		case int:
			return ints(graph.Shape{}, []int64{int64(v)})
		case float64:
			return floats(graph.Shape{}, []float64{v})
		case []int:
			return ints(graph.Shape{len(v)}, mapped(v, func(i int) int64 { return int64(i) }))
		case []float64:
			return floats(graph.Shape{len(v)}, mapped(v, func(x float64) float64 { return x }))
		default:
			refuse(n, "a value given as %s is not supported", name)
		}
	}
	return nil
}

func constantOfShape(n *op.Node) []graph.Array {
	s := graph.Shape(n.IntsIn(0))
	size := sized(n, s)
	fill := graph.Array{F: []float64{0}}
	if v, ok := n.Attrs["value"]; ok {
		if fill, ok = v.(graph.Array); !ok || count(fill) != 1 {
			refuse(n, "its value must be a tensor of one element")
		}
	}
	return one(pick(fill, s, make([]int, size)))
}

// arithmeticRange counts from start by delta up to, not including, limit.
func arithmeticRange(n *op.Node) []graph.Array {
	start, limit, delta := operand(n, 0), operand(n, 1), operand(n, 2)
	for _, a := range []graph.Array{start, limit, delta} {
		if count(a) != 1 || (a.I == nil) != (start.I == nil) {
			refuse(n, "start, limit and delta must be scalars of one type")
		}
	}
	if start.I == nil {
		size := math.Ceil((limit.F[0] - start.F[0]) / delta.F[0])
		if !(size <= maxConstant) { // NaN, where delta is 0, too
			refuse(n, "%g numbers are more than %d", size, maxConstant)
		}
		v := make([]float64, int(max(size, 0)))
		for i := range v {
			v[i] = start.F[0] + float64(i)*delta.F[0]
		}
		return floats(graph.Shape{len(v)}, v)
	}
	from, to, step := start.I[0], limit.I[0], delta.I[0]
	var size uint64 // the difference of two int64 fits, modulo 2⁶⁴
	switch c := cmp.Compare(to, from); {
	case step == 0:
		refuse(n, "the step is 0")
	case c > 0 && step > 0:
		size = (uint64(to)-uint64(from)-1)/uint64(step) + 1
	case c < 0 && step < 0:
		size = (uint64(from)-uint64(to)-1)/-uint64(step) + 1
	}
	if size > maxConstant {
		refuse(n, "%d numbers are more than %d", size, maxConstant)
	}
	v := make([]int64, size)
	for i := range v {
		v[i] = from + int64(i)*step
	}
	return ints(graph.Shape{len(v)}, v)
}
