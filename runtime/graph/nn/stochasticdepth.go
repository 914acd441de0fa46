package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// StochasticDepth leaves out a residual branch for a share of the images of each training step, each image alone, and scales
// the branch of the others up so that its mean stays (Huang et al. 2016, arXiv:1603.09382; EfficientNet calls it drop connect).
// At inference it does nothing.
type StochasticDepth struct {
	Name  string
	Share float64 // 0..1, 1 excluded; zero: none
}

// Apply drops images of the branch x [N,…].
func (l StochasticDepth) Apply(g *graph.Graph, x *G.Node) *G.Node {
	if g.Mode != graph.Training || l.Share == 0 {
		return x
	}
	mask := graph.ShapeOf(x).Clone() // [N,1,…]
	for i := range mask[1:] {
		mask[i+1] = 1
	}
	return op.Mul(x, g.Mask(l.Name, 1-l.Share, mask...))
}
