package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Dropout leaves out a share of the elements at each training step, and scales the others up so that the mean stays
// (Srivastava et al. 2014). At inference it does nothing.
type Dropout struct {
	Name  string
	Share float64 // 0..1, 1 excluded; zero: none
}

// Apply drops elements of x, of any shape.
func (l Dropout) Apply(g *graph.Graph, x *G.Node) *G.Node {
	if g.Mode != graph.Training || l.Share == 0 {
		return x
	}
	return op.Mul(x, g.Mask(l.Name, 1-l.Share, graph.ShapeOf(x)...))
}
