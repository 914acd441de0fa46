package nn

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// PatchEmbed makes a token of each square patch of an image. It is a convolution whose kernel and stride are the patch, under
// the parameters of one, written as a product of patches and weights: the gradient of the weights is then one product, too,
// where a convolution's takes a copy of the image for each pixel of the kernel.
type PatchEmbed struct {
	Name           string
	In, Out, Patch int // Patch, in pixels, divides the image's height and width
}

// Apply turns x [N,In,H,W] into tokens [N,L,Out], L = H/Patch · W/Patch, row by row.
func (l PatchEmbed) Apply(g *graph.Graph, x *G.Node) *G.Node {
	s, p := graph.ShapeOf(x), l.Patch
	if len(s) != 4 || s[2]%p != 0 || s[3]%p != 0 {
		graph.Fail(l.Name, []graph.Shape{s}, "patches of %dx%d pixels do not cover the image", p, p)
	}
	pixels := l.In * p * p
	w := g.Param(l.Name+".weight", graph.Shape{l.Out, l.In, p, p}, TruncNormal(math.Sqrt(1/float64(pixels))))
	b := g.Param(l.Name+".bias", graph.Shape{l.Out}, graph.Constant(0))
	h, wide := s[2]/p, s[3]/p
	x = op.Transpose(op.Reshape(x, -1, l.In, h, p, wide, p), 0, 2, 4, 1, 3, 5)
	rows := op.Gemm(op.Reshape(x, -1, pixels), op.Reshape(w, l.Out, pixels), b)
	return op.Reshape(rows, -1, h*wide, l.Out)
}
