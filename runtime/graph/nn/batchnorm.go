package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// BatchNorm normalises each channel (Ioffe and Szegedy 2015, arXiv:1502.03167), with PyTorch's momentum of 0.1 and eps of
// 1e-5. In training it uses the batch's statistics and updates the running ones, the variance by its unbiased estimate.
type BatchNorm struct {
	Name     string
	Channels int
}

const (
	momentum = 0.1
	eps      = 1e-5
)

// Apply normalises x [N,C] or [N,C,H,W].
func (l BatchNorm) Apply(g *graph.Graph, x *G.Node) *G.Node {
	c := graph.Shape{l.Channels}
	gamma := g.Param(l.Name+".weight", c, graph.Constant(1))
	beta := g.Param(l.Name+".bias", c, graph.Constant(0))
	mean := g.State(l.Name+".running_mean", graph.State, c, graph.Constant(0))
	variance := g.State(l.Name+".running_var", graph.State, c, graph.Constant(1))
	if g.Mode == graph.Inference {
		return op.BatchNorm(x, gamma, beta, mean, variance, eps)
	}
	y, batchMean, batchVar := op.BatchNormTrainingNear(x, gamma, beta, mean, eps)
	m := float64(graph.ShapeOf(x).Size() / l.Channels)
	g.Update(l.Name+".running_mean", op.Add(op.Scale(mean, 1-momentum), op.Scale(batchMean, momentum)))
	g.Update(l.Name+".running_var", op.Add(op.Scale(variance, 1-momentum), op.Scale(batchVar, momentum*m/max(m-1, 1))))
	return y
}
