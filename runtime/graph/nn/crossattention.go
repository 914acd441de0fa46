package nn

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// CrossAttention is multi-head attention of some tokens to others (Vaswani et al. 2017, arXiv:1706.03762, section 3.2), with
// the parameters of PyTorch's MultiheadAttention where keys and values have a width of their own (kdim and vdim).
type CrossAttention struct {
	Name                string
	Width, Heads, Other int // Heads divides Width; Other is the width of what is attended to
	Out                 int // of the result; PyTorch's is Width
}

// Apply lets each of the L tokens of query [N,L,Width], or [1,L,Width] for all images, attend to M tokens by their keys
// [N,M,Other], mix their values [N,M,Other], and gives [N,L,Out].
func (l CrossAttention) Apply(g *graph.Graph, query, key, value *G.Node) *G.Node {
	bias := g.Param(l.Name+".in_proj_bias", graph.Shape{3 * l.Width}, graph.Constant(0))
	project := func(part string, i int, x *G.Node) *G.Node { // [N,Heads,tokens,size]
		s := graph.ShapeOf(x)
		w := g.Param(l.Name+"."+part+"_proj_weight", graph.Shape{l.Width, s[2]}, XavierUniform)
		b := op.Slice(bias, op.Range{From: i * l.Width, To: (i + 1) * l.Width})
		return op.Transpose(op.Reshape(dense(x, w, b), -1, s[1], l.Heads, l.Width/l.Heads), 0, 2, 1, 3)
	}
	q, k, v := project("q", 0, query), project("k", 1, key), project("v", 2, value)
	size := float64(l.Width / l.Heads)
	scores := op.MatMulT(op.Scale(q, 1/math.Sqrt(size)), k, false, true) // [N,Heads,L,M]
	heads := op.MatMul(op.Softmax(scores, -1), v)                        // [N,Heads,L,size]
	y := op.Reshape(op.Transpose(heads, 0, 2, 1, 3), -1, graph.ShapeOf(query)[1], l.Width)
	return Linear{Name: l.Name + ".out_proj", In: l.Width, Out: l.Out, Init: Uniform(l.Width)}.Apply(g, y)
}
