package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Block is a transformer's block as the vision transformer has it (Dosovitskiy et al. 2021, arXiv:2010.11929, equations 2 and
// 3), with torchvision's parameter names: attention, then a multilayer perceptron with GELU, each after a layer norm and added
// to what it was given.
type Block struct {
	Name         string
	Width, Heads int     // Heads divides Width
	Hidden       int     // features of the perceptron
	Eps          float64 // of the layer norms; zero: PyTorch's 1e-5
}

// Apply turns tokens x [N,L,Width] into as many.
func (l Block) Apply(g *graph.Graph, x *G.Node) *G.Node {
	y := LayerNorm{Name: l.Name + ".ln_1", Features: l.Width, Eps: l.Eps}.Apply(g, x)
	x = op.Add(x, Attention{Name: l.Name + ".self_attention", Width: l.Width, Heads: l.Heads}.Apply(g, y))
	y = LayerNorm{Name: l.Name + ".ln_2", Features: l.Width, Eps: l.Eps}.Apply(g, x)
	// The biases start at 0, where torchvision draws them from N(0, 1e-12).
	y = op.Gelu(Linear{Name: l.Name + ".mlp.0", In: l.Width, Out: l.Hidden, Init: XavierUniform}.Apply(g, y))
	return op.Add(x, Linear{Name: l.Name + ".mlp.3", In: l.Hidden, Out: l.Width, Init: XavierUniform}.Apply(g, y))
}
