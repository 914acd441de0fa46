package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// GroupNorm normalises each sample over groups of its channels (Wu and He 2018, arXiv:1803.08494), with PyTorch's eps of 1e-5.
type GroupNorm struct {
	Name             string
	Channels, Groups int // Groups divides Channels
}

// Apply normalises x [N,Channels,…], which has a third axis at least.
func (l GroupNorm) Apply(g *graph.Graph, x *G.Node) *G.Node {
	s := graph.Shape{l.Channels}
	scale := g.Param(l.Name+".weight", s, graph.Constant(1))
	bias := g.Param(l.Name+".bias", s, graph.Constant(0))
	return op.GroupNorm(x, scale, bias, l.Groups, eps)
}
