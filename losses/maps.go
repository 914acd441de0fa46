package losses

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// leastNorm is what a norm is taken for at least where something is divided by it: PyTorch's F.normalize has it.
const leastNorm = 1e-12

// norm is the root of the sum of squares over axes, which it keeps as sizes of 1, and leastNorm at least. Below that it has no
// gradient, as the root of 0 has none.
func norm(x *G.Node, axes ...int) *G.Node {
	return op.Sqrt(op.Clip(op.ReduceSumSquare(x, axes, true), leastNorm*leastNorm, math.Inf(1)))
}

// unit is x/‖x‖ over axes; what is 0 stays 0.
func unit(x *G.Node, axes ...int) *G.Node { return op.Div(x, norm(x, axes...)) }

// meanSquare is the mean of x² over axes, all of them where none is given.
func meanSquare(x *G.Node, axes ...int) *G.Node {
	return op.ReduceMean(op.Mul(x, x), axes, false)
}

// sumPairs adds up what compare makes of each pair, the i-th from input to output, counted from 0.
func sumPairs(in In, compare func(i int, p Pair) *G.Node) *G.Node {
	var all []*G.Node
	for i, p := range in.Pairs() {
		all = append(all, compare(i, p))
	}
	return op.Sum(all...)
}

// refuse fails over a pair, whose shapes the message shows, the student's first.
func (in In) refuse(p Pair, format string, args ...any) {
	graph.Fail("loss "+in.term.Name, []graph.Shape{graph.ShapeOf(p.Student), p.Shape}, format, args...)
}

// maps wants a pair of maps [N,C,H,W].
func (in In) maps(p Pair) Pair {
	if len(graph.ShapeOf(p.Student)) != 4 || len(p.Shape) != 4 {
		in.refuse(p, "it compares maps [N,C,H,W]; tap others, or give the tap an adapter that makes one (map, of tokens)")
	}
	return p
}

// alike wants a pair of one shape.
func (in In) alike(p Pair) Pair {
	if !graph.ShapeOf(p.Student).Equal(p.Shape) {
		in.refuse(p, "it compares tensors of one shape; give the tap an adapter, as adapter: auto")
	}
	return p
}

// toSmaller averages each axis of two maps, H and W, to the shorter of the two.
func toSmaller(a, b *G.Node) (*G.Node, *G.Node) {
	s, t := graph.ShapeOf(a), graph.ShapeOf(b)
	h, w := min(s[2], t[2]), min(s[3], t[3])
	return nn.Resample(a, h, w, nn.Averaging), nn.Resample(b, h, w, nn.Averaging)
}
