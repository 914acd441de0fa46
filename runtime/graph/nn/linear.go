package nn

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Linear is a dense layer.
type Linear struct {
	Name    string
	In, Out int
	Init    graph.Init // of the weight, the bias then starting at 0; nil: PyTorch's default for both
}

// Apply turns x [..,In] into [..,Out].
func (l Linear) Apply(g *graph.Graph, x *G.Node) *G.Node {
	weight, bias := initials(l.Init, l.In)
	w := g.Param(l.Name+".weight", graph.Shape{l.Out, l.In}, weight)
	return dense(x, w, g.Param(l.Name+".bias", graph.Shape{l.Out}, bias))
}

// dense is x·wᵀ + b over the last axis: x [..,In], w [Out,In] and b [Out] give [..,Out]. All rows are one product, forward
// and for the weight's gradient, where a batched product would sum one for each image. A layer norm is part of it: what else reads x
// has a norm of its own.
func dense(x, w, b *G.Node) *G.Node {
	if of, scale, bias, eps, ok := op.LayerNormed(x); ok {
		return op.LayerNormGemm(of, scale, bias, w, b, eps)
	}
	s := graph.ShapeOf(x)
	if len(s) <= 2 {
		return op.Gemm(x, w, b)
	}
	last := len(s) - 1
	rows := op.Gemm(op.Reshape(x, -1, s[last]), w, b)
	return op.Reshape(rows, slices.Concat([]int{-1}, s[1:last], []int{graph.ShapeOf(w)[0]})...)
}
