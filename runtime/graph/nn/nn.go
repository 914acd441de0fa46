// Package nn holds layers for anything trainable: each names its parameters as PyTorch does, declares them in the graph and
// applies operators to them.
//
//	x = nn.Conv{Name: "conv1", In: 3, Out: 16, Kernel: 3, Pad: 1}.Apply(g, x)
//	x = op.Relu(nn.BatchNorm{Name: "bn1", Channels: 16}.Apply(g, x))
package nn

import (
	"math"
	"math/rand/v2"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Uniform is PyTorch's default for convolutions and dense layers, weights and bias alike: U(−1/√fanIn, 1/√fanIn)
// (kaiming_uniform with a = √5).
func Uniform(fanIn int) graph.Init {
	bound := 1 / math.Sqrt(float64(max(fanIn, 1)))
	return func(values []float32, _ graph.Shape, rng *rand.Rand) {
		for i := range values {
			values[i] = float32((2*rng.Float64() - 1) * bound)
		}
	}
}

// Conv is a square convolution from In to Out channels.
type Conv struct {
	Name            string
	In, Out, Kernel int
	Stride          int // zero: 1
	Pad             int // zeros on every side
	Group           int // zero: 1
	Bias            bool
}

// Apply convolves x [N,In,H,W] into [N,Out,H',W'].
func (l Conv) Apply(g *graph.Graph, x *G.Node) *G.Node {
	group := max(l.Group, 1)
	fanIn := l.In / group * l.Kernel * l.Kernel
	w := g.Param(l.Name+".weight", graph.Shape{l.Out, l.In / group, l.Kernel, l.Kernel}, Uniform(fanIn))
	var b *G.Node
	if l.Bias {
		b = g.Param(l.Name+".bias", graph.Shape{l.Out}, Uniform(fanIn))
	}
	return op.Conv(x, w, b, op.ConvAttrs{
		Strides: [2]int{l.Stride, l.Stride}, Pads: [4]int{l.Pad, l.Pad, l.Pad, l.Pad}, Group: group,
	})
}

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
	y, batchMean, batchVar := op.BatchNormTraining(x, gamma, beta, eps)
	m := float64(graph.ShapeOf(x).Size() / l.Channels)
	g.Update(l.Name+".running_mean", op.Add(op.Scale(mean, 1-momentum), op.Scale(batchMean, momentum)))
	g.Update(l.Name+".running_var", op.Add(op.Scale(variance, 1-momentum), op.Scale(batchVar, momentum*m/max(m-1, 1))))
	return y
}

// Linear is a dense layer.
type Linear struct {
	Name    string
	In, Out int
}

// Apply turns x [N,In] into [N,Out].
func (l Linear) Apply(g *graph.Graph, x *G.Node) *G.Node {
	w := g.Param(l.Name+".weight", graph.Shape{l.Out, l.In}, Uniform(l.In))
	b := g.Param(l.Name+".bias", graph.Shape{l.Out}, Uniform(l.In))
	return op.Gemm(x, w, b)
}
