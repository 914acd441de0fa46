package nn

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Attention is multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2), with the parameters of
// PyTorch's MultiheadAttention: one projection gives queries, keys and values of all heads.
type Attention struct {
	Name         string
	Width, Heads int // Heads divides Width
}

// Apply lets each of the L tokens of x [N,L,Width] attend to all of its image, and gives [N,L,Width].
func (l Attention) Apply(g *graph.Graph, x *G.Node) *G.Node {
	tokens, size := graph.ShapeOf(x)[1], l.Width/l.Heads
	w := g.Param(l.Name+".in_proj_weight", graph.Shape{3 * l.Width, l.Width}, XavierUniform)
	b := g.Param(l.Name+".in_proj_bias", graph.Shape{3 * l.Width}, graph.Constant(0))
	qkv := op.Reshape(dense(x, w, b), -1, tokens, 3, l.Heads, size)
	part := func(i int) *G.Node { return op.Transpose(op.Index(qkv, 2, i), 0, 2, 1, 3) } // [N,Heads,L,size]
	q, k, v := part(0), part(1), part(2)
	scores := op.MatMulT(op.Scale(q, 1/math.Sqrt(float64(size))), k, false, true) // [N,Heads,L,L]
	heads := op.MatMul(op.Softmax(scores, -1), v)                                 // [N,Heads,L,size]
	y := op.Reshape(op.Transpose(heads, 0, 2, 1, 3), -1, tokens, l.Width)
	return Linear{Name: l.Name + ".out_proj", In: l.Width, Out: l.Width, Init: Uniform(l.Width)}.Apply(g, y)
}
