package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// batchNorm normalises by given statistics.
type batchNorm struct{ eps float64 }

// BatchNorm is (x − mean)/√(var + eps)·gamma + beta for each channel, with statistics given as [C], through which no
// gradient flows. x is [N,C] or [N,C,H,W]. PyTorch's eps is 1e-5.
func BatchNorm(x, gamma, beta, mean, variance *G.Node, eps float64) *G.Node {
	return graph.Apply(batchNorm{eps}, x, gamma, beta, mean, variance)
}

func (batchNorm) Name() string   { return "BatchNormalization" }
func (batchNorm) Wrt(i int) bool { return i < 3 }

func (batchNorm) Infer(in []graph.Shape) []graph.Shape {
	arity("BatchNormalization", in, 5)
	return one(channelwise(in))
}

// channelwise checks that every input after the first is [C].
func channelwise(in []graph.Shape) graph.Shape {
	x := in[0]
	if len(x) != 2 && len(x) != 4 {
		graph.Fail("BatchNormalization", in, "x must be [N,C] or [N,C,H,W]")
	}
	for _, s := range in[1:] {
		if !s.Equal(graph.Shape{x[1]}) {
			graph.Fail("BatchNormalization", in, "inputs after x must be [%d]", x[1])
		}
	}
	return x
}

func (b batchNorm) Eval(in []graph.Array) []graph.Array {
	x, gamma, beta, mean, variance := in[0], in[1], in[2], in[3], in[4]
	y := graph.Zeros(x.Shape)
	plane := x.Shape[2:].Size()
	for i, v := range x.F {
		c := i / plane % x.Shape[1]
		y.F[i] = (v-mean.F[c])/math.Sqrt(variance.F[c]+b.eps)*gamma.F[c] + beta.F[c]
	}
	return []graph.Array{y}
}

// perChannel gives a [C] node the shape in which it broadcasts against x.
func perChannel(v *G.Node, x graph.Shape) *G.Node {
	if len(x) == 2 {
		return v
	}
	return Reshape(v, x[1], 1, 1)
}

// acrossChannels are the axes of x but the channel's.
func acrossChannels(x graph.Shape) []int {
	if len(x) == 2 {
		return []int{0}
	}
	return []int{0, 2, 3}
}

func (b batchNorm) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	x, gamma, mean, variance := in[0], in[1], in[3], in[4]
	s := graph.ShapeOf(x)
	inv := Div(Scalar(x, 1), Sqrt(Shift(variance, b.eps)))
	dbeta := ReduceSum(dy, acrossChannels(s), false)
	dgamma := Mul(inv, Sub(ReduceSum(Mul(dy, x), acrossChannels(s), false), Mul(mean, dbeta)))
	return []*G.Node{Mul(dy, perChannel(Mul(gamma, inv), s)), dgamma, dbeta, nil, nil}
}

func (b batchNorm) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("BatchNormalization", in[0].Shape, names(in),
		graph.Attr{Name: "epsilon", Value: float32(b.eps)})}
}

// batchNormTraining normalises by the batch's own statistics, which are its second and third output. A fourth input is an
// estimate of the mean.
type batchNormTraining struct{ eps float64 }

// BatchNormTraining is BatchNorm by the batch's own mean and (biased) variance, which it returns too, each [C]
// (Ioffe and Szegedy 2015, arXiv:1502.03167). The gradient with respect to x takes its part in the statistics into account.
func BatchNormTraining(x, gamma, beta *G.Node, eps float64) (y, mean, variance *G.Node) {
	y = graph.Apply(batchNormTraining{eps}, x, gamma, beta)
	return y, graph.Output(y, 1), graph.Output(y, 2)
}

// BatchNormTrainingNear is BatchNormTraining that is told about where the mean will be, [C]: sums are taken of what differs from
// it, which is faster where images are laid out in blocks. Only rounding depends on it; a running mean is good enough.
func BatchNormTrainingNear(x, gamma, beta, near *G.Node, eps float64) (y, mean, variance *G.Node) {
	y = graph.Apply(batchNormTraining{eps}, x, gamma, beta, near)
	return y, graph.Output(y, 1), graph.Output(y, 2)
}

func (batchNormTraining) Name() string   { return "BatchNormalizationTraining" }
func (batchNormTraining) Wrt(i int) bool { return i < 3 }

func (batchNormTraining) Infer(in []graph.Shape) []graph.Shape {
	if len(in) != 4 {
		arity("BatchNormalization", in, 3)
	}
	x := channelwise(in)
	return []graph.Shape{x, {x[1]}, {x[1]}}
}

func (b batchNormTraining) Eval(in []graph.Array) []graph.Array {
	x := in[0]
	c := x.Shape[1]
	mean, variance := graph.Zeros(graph.Shape{c}), graph.Zeros(graph.Shape{c})
	plane := x.Shape[2:].Size()
	m := float64(len(x.F) / c)
	for i, v := range x.F {
		mean.F[i/plane%c] += v / m
	}
	for i, v := range x.F {
		d := v - mean.F[i/plane%c]
		variance.F[i/plane%c] += d * d / m
	}
	y := batchNorm(b).Eval([]graph.Array{x, in[1], in[2], mean, variance})
	return []graph.Array{y[0], mean, variance}
}

// Grad is one operator, since it shares what it needs of x with the forward pass where images are laid out in blocks.
func (b batchNormTraining) Grad(in []*G.Node, y, dy *G.Node) []*G.Node {
	dx := graph.Apply(batchNormGrad(b), in[0], in[1], graph.Output(y, 1), graph.Output(y, 2), dy)
	return []*G.Node{dx, graph.Output(dx, 1), graph.Output(dx, 2), nil}[:len(in)]
}

// Lower writes the formula out where the target wants it so. Else it uses training_mode with momentum 0, so that the statistic
// outputs are the batch's. Those outputs alias inputs 3 and 4 in ONNX Runtime, hence fresh tensors of zeros for each layer: a
// shared initializer would be overwritten.
func (b batchNormTraining) Lower(e graph.Emitter, in []graph.Operand) []string {
	x, c := in[0].Shape, graph.Shape{in[0].Shape[1]}
	if len(x) == 4 && e.Target().Fills(x[1]) {
		return e.EmitN(graph.BlockedDomain+":BatchNorm", []graph.Shape{x, c, c}, names(in), graph.Attr{Name: "epsilon", Value: float32(b.eps)})
	}
	if e.Target().Portable {
		return b.lowerFormula(e, in)
	}
	zero := e.Const(graph.Scalar(0))
	mean := e.Emit("Mul", c, []string{in[1].Name, zero})
	variance := e.Emit("Mul", c, []string{in[2].Name, zero})
	return e.EmitN("BatchNormalization", []graph.Shape{x, c, c}, append(names(in[:3]), mean, variance),
		graph.Attr{Name: "epsilon", Value: float32(b.eps)}, graph.Attr{Name: "momentum", Value: float32(0)},
		graph.Attr{Name: "training_mode", Value: 1})
}

// lowerFormula takes the variance of what is left without the mean, as float32 needs it.
func (b batchNormTraining) lowerFormula(e graph.Emitter, in []graph.Operand) []string {
	x, c := in[0].Shape, in[1].Shape
	share := e.Const(graph.Scalar(float32(x[1]) / float32(x.Size())))
	average := func(v string) string { return e.Emit("Mul", c, []string{emitChannelSums(e, v, x), share}) }
	image := func(op string, a, b string) string { return e.Emit(op, x, []string{a, emitPerChannel(e, b, x)}) }
	mean := average(in[0].Name)
	d := image("Sub", in[0].Name, mean)
	variance := average(e.Emit("Mul", x, []string{d, d}))
	scale := e.Emit("Mul", c, []string{in[1].Name, emitInverseDeviation(e, variance, c, b.eps)})
	return []string{image("Add", image("Mul", d, scale), in[2].Name), mean, variance}
}

// emitInverseDeviation is 1/√(variance + eps).
func emitInverseDeviation(e graph.Emitter, variance string, c graph.Shape, eps float64) string {
	shifted := e.Emit("Add", c, []string{variance, e.Const(graph.Scalar(float32(eps)))})
	return e.Emit("Reciprocal", c, []string{e.Emit("Sqrt", c, []string{shifted})})
}

// emitChannelSums sums v, of shape x, to [C].
func emitChannelSums(e graph.Emitter, v string, x graph.Shape) string {
	c := graph.Shape{x[1]}
	if len(x) == 2 {
		return emitSum0(e, v, c)
	}
	// Two sums take a third of the time of one over three axes.
	places := e.Emit("ReduceSum", graph.Shape{x[0], x[1]}, []string{v, graph.ConstInts(e, 2, 3)}, graph.Attr{Name: "keepdims", Value: 0})
	return emitSum0(e, places, c)
}

// emitPerChannel gives v, [C], the shape in which it broadcasts against x.
func emitPerChannel(e graph.Emitter, v string, x graph.Shape) string {
	if len(x) == 2 {
		return v
	}
	return emitReshape(e, v, graph.Shape{x[1], 1, 1}, nil)
}

// liftBatchNorm reads a BatchNormalization for inference. In a graph for training it uses the batch's statistics and moves
// the stored ones by the node's momentum, which ONNX counts the other way round from PyTorch; frozen ones it keeps and uses.
func liftBatchNorm(n *Node) []*G.Node {
	if n.Int("training_mode", 0) != 0 || n.Int("spatial", 1) != 1 {
		n.fail("only the inference form of one statistic a channel is supported; call eval() on each batch norm before the export")
	}
	eps := n.Float("epsilon", 1e-5)
	fixed := n.In[3].Name == "" || n.In[4].Name == "" || n.In[3].Frozen || n.In[4].Frozen
	if n.Graph.Mode == graph.Inference || fixed {
		return []*G.Node{BatchNorm(n.X(0), n.X(1), n.X(2), n.X(3), n.X(4), eps)}
	}
	y, mean, variance := BatchNormTrainingNear(n.X(0), n.X(1), n.X(2), n.X(3), eps)
	x, keep := graph.ShapeOf(n.X(0)), n.Float("momentum", 0.9)
	m := float64(x.Size() / x[1])
	n.Graph.Update(n.In[3].Name, Add(Scale(n.X(3), keep), Scale(mean, 1-keep)))
	n.Graph.Update(n.In[4].Name, Add(Scale(n.X(4), keep), Scale(variance, (1-keep)*m/max(m-1, 1))))
	return []*G.Node{y}
}
