package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// LayerNorm normalises each element over its last axis, the features (Ba et al. 2016, arXiv:1607.06450).
type LayerNorm struct {
	Name     string
	Features int
	Eps      float64 // zero: PyTorch's 1e-5
}

// Apply normalises x [..,Features].
func (l LayerNorm) Apply(g *graph.Graph, x *G.Node) *G.Node {
	s := graph.Shape{l.Features}
	scale := g.Param(l.Name+".weight", s, graph.Constant(1))
	bias := g.Param(l.Name+".bias", s, graph.Constant(0))
	e := l.Eps
	if e == 0 {
		e = eps
	}
	return op.LayerNorm(x, scale, bias, -1, e)
}
