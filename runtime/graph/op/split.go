package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Split cuts x along an axis into parts of the given sizes: one Slice each, of which the last goes to the end.
func Split(x *G.Node, axis int, sizes ...int) []*G.Node {
	s := graph.ShapeOf(x)
	axis = axisOf("Split", axis, s)
	parts := make([]*G.Node, len(sizes))
	at := 0
	for i, n := range sizes {
		r := Range{Axis: axis, From: at, To: at + n}
		at += n
		if i == len(sizes)-1 && at == s[axis] {
			r.To = 0
		}
		if n < 1 || at > s[axis] {
			break
		}
		parts[i] = Slice(x, r)
	}
	if at != s[axis] {
		graph.Fail("Split", one(s), "parts of %v do not make up axis %d", sizes, axis)
	}
	return parts
}

// liftSplit reads the sizes from an attribute, since opset 13 an input, or divides by num_outputs, which opset 18 brought.
func liftSplit(n *Node) []*G.Node {
	x, axis := n.X(0), n.Int("axis", 0)
	sizes := n.Ints("split")
	if n.Has(1) {
		sizes = n.IntsIn(1)
	}
	if parts := n.Int("num_outputs", 0); len(sizes) == 0 && parts > 0 {
		sizes = n.divide(graph.ShapeOf(x)[axisOf("Split", axis, graph.ShapeOf(x))], parts)
	}
	if len(sizes) == 0 {
		n.fail("the sizes of the parts are not given")
	}
	return Split(x, axis, sizes...)
}

// divide makes parts of equal size but for the last, which may be smaller.
func (n *Node) divide(size, parts int) []int {
	if parts > size {
		n.fail("%d elements do not make %d parts", size, parts)
	}
	each := (size + parts - 1) / parts
	sizes := make([]int, parts)
	for i := range sizes {
		sizes[i] = min(each, size-i*each)
	}
	return sizes
}
