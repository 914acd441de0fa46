package runtime

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// piece makes images of images. It stands between others, by which what it gets comes in blocks and what it gives is read in
// blocks.
type piece struct {
	name string
	make func(n *net, x *G.Node) *G.Node
	// alone keeps it out of random networks: a channel that hardly varies is many deviations away from any estimate of its mean.
	alone bool
}

var stride2 = [2]int{2, 2}

var pieces = []piece{
	{"convolution", func(n *net, x *G.Node) *G.Node { return n.same(x, channelsOf(x), 3) }, false},
	{"convolution to more channels", func(n *net, x *G.Node) *G.Node { return n.same(x, channelsOf(x)+8, 1) }, false},
	{"convolution to 16 channels", func(n *net, x *G.Node) *G.Node { return n.same(x, 16, 3) }, false},
	{"convolution to 4 channels and back", func(n *net, x *G.Node) *G.Node { return n.same(n.same(x, 4, 1), channelsOf(x), 3) }, false},
	{"convolution with stride 2", func(n *net, x *G.Node) *G.Node {
		return n.conv(x, channelsOf(x), 3, op.ConvAttrs{Strides: stride2, Pads: all(1)})
	}, false},
	{"convolution with dilation 2", func(n *net, x *G.Node) *G.Node {
		return n.conv(x, channelsOf(x), 3, op.ConvAttrs{Pads: all(2), Dilations: [2]int{2, 2}})
	}, false},
	{"convolution in 2 groups", func(n *net, x *G.Node) *G.Node {
		return n.conv(x, channelsOf(x), 3, op.ConvAttrs{Pads: all(1), Group: 2})
	}, false},
	{"convolution, bias and relu", func(n *net, x *G.Node) *G.Node {
		a := op.ConvAttrs{Pads: all(1)}
		return n.relu(op.Conv(x, n.filter(x, channelsOf(x), 3, a), n.input(0, 1, channelsOf(x)), a))
	}, false},
	{"depthwise", func(n *net, x *G.Node) *G.Node { return n.depthwise(x, 3, op.ConvAttrs{Pads: all(1)}) }, false},
	{"depthwise 5x5 with stride 2", func(n *net, x *G.Node) *G.Node {
		return n.depthwise(x, 5, op.ConvAttrs{Pads: all(2), Strides: stride2})
	}, false},

	{"batch norm", (*net).norm, false},
	{"batch norm near a mean", (*net).normNear, true},
	{"batch norm near a mean of a convolution", func(n *net, x *G.Node) *G.Node { return n.normNear(n.same(x, channelsOf(x), 3)) }, false},
	{"batch norm near a mean of a biased convolution", func(n *net, x *G.Node) *G.Node {
		bias := n.fixed(0, 1, channelsOf(x)) // its gradient is nothing but rounding
		return n.normNear(op.Conv(x, n.filter(x, channelsOf(x), 1, op.ConvAttrs{}), bias, op.ConvAttrs{}))
	}, false},
	{"batch norm near a mean of what another reads", func(n *net, x *G.Node) *G.Node {
		y := n.same(x, channelsOf(x), 3)
		return op.Add(n.relu(n.normNear(y)), y)
	}, false},
	{"batch norm near a mean of a sum", func(n *net, x *G.Node) *G.Node {
		return n.normNear(op.Add(n.same(x, channelsOf(x), 3), x))
	}, false},
	{"batch norm near a mean of a relu", func(n *net, x *G.Node) *G.Node { return n.normNear(n.relu(n.same(x, channelsOf(x), 3))) }, true},
	{"batch norm near a mean, read plain", func(n *net, x *G.Node) *G.Node { return upright(n.normNear(upright(x))) }, true},
	{"batch norm near a mean of a depthwise", func(n *net, x *G.Node) *G.Node {
		return n.normNear(n.depthwise(x, 3, op.ConvAttrs{Pads: all(1)}))
	}, true},
	{"batch norm near a mean of a depthwise with stride 2", func(n *net, x *G.Node) *G.Node {
		return n.normNear(n.depthwise(x, 3, op.ConvAttrs{Pads: all(1), Strides: stride2}))
	}, true},
	{"batch norms in turn", func(n *net, x *G.Node) *G.Node { return n.norm(op.Tanh(n.norm(x))) }, false},
	{"batch norm and relu", func(n *net, x *G.Node) *G.Node { return n.relu(n.norm(x)) }, false},
	{"batch norm of a relu", func(n *net, x *G.Node) *G.Node { return n.norm(n.relu(x)) }, false},
	{"batch norm of plain images", func(n *net, x *G.Node) *G.Node { return n.norm(upright(x)) }, false},
	{"batch norm read plain", func(n *net, x *G.Node) *G.Node { return upright(n.norm(x)) }, false},
	{"batch norm, frozen", (*net).frozen, false},
	{"batch norm, frozen, of plain images", func(n *net, x *G.Node) *G.Node { return n.frozen(upright(x)) }, false},
	{"batch norms of one image", func(n *net, x *G.Node) *G.Node { return op.Add(n.norm(x), n.norm(x)) }, false},
	{"batch norm of [N,C]", func(n *net, x *G.Node) *G.Node {
		means := n.norm(op.ReduceMean(x, []int{2, 3}, false))
		return op.Add(x, op.Reshape(means, x.Shape()[0], channelsOf(x), 1, 1))
	}, false},
	{"statistics read", func(n *net, x *G.Node) *G.Node {
		y, mean, variance := op.BatchNormTraining(x, n.input(1, 0.5, channelsOf(x)), n.input(0, 0.5, channelsOf(x)), 1e-5)
		return op.Add(y, op.StopGradient(op.Reshape(op.Add(mean, variance), channelsOf(x), 1, 1)))
	}, false},

	{"relu", (*net).relu, false},
	{"relu read twice", func(n *net, x *G.Node) *G.Node { r := n.relu(x); return op.Add(n.same(r, channelsOf(x), 3), r) }, false},
	{"relu beside its input", func(n *net, x *G.Node) *G.Node { return op.Add(n.relu(x), x) }, false},
	{"relu6", func(n *net, x *G.Node) *G.Node { return op.Clip(n.bent(op.Scale(x, 4), 0, 6), 0, 6) }, false},
	{"leaky relu", func(n *net, x *G.Node) *G.Node { return op.LeakyRelu(n.bent(x, 0), 0.1) }, false},
	{"elu", func(n *net, x *G.Node) *G.Node { return op.Elu(n.bent(x, 0), 0.5) }, false},
	{"silu", func(_ *net, x *G.Node) *G.Node { return op.Silu(x) }, false},
	{"gelu", func(_ *net, x *G.Node) *G.Node { return op.Gelu(x) }, false},
	{"mish", func(_ *net, x *G.Node) *G.Node { return op.Mish(x) }, false},
	{"exponential", func(_ *net, x *G.Node) *G.Node { return op.Exp(op.Tanh(x)) }, false},
	{"hard swish", func(n *net, x *G.Node) *G.Node { return op.HardSwish(n.bent(op.Scale(x, 2), -3, 3)) }, false},
	{"hard sigmoid", func(n *net, x *G.Node) *G.Node {
		return op.HardSigmoid(n.bent(op.Scale(x, 2), -3, 3), 1./6, 0.5)
	}, false},
	{"slope for each channel", func(n *net, x *G.Node) *G.Node { return op.PRelu(n.bent(x, 0), n.input(0, 1, channelsOf(x), 1, 1)) }, false},

	{"sum of two convolutions", func(n *net, x *G.Node) *G.Node {
		return op.Add(n.same(x, channelsOf(x), 3), n.same(x, channelsOf(x), 1))
	}, false},
	{"sum of a convolution and its input", func(n *net, x *G.Node) *G.Node { return op.Add(x, n.same(x, channelsOf(x), 3)) }, false},
	{"sum of no convolution", func(n *net, x *G.Node) *G.Node { return op.Add(op.Sigmoid(x), n.relu(x)) }, false},
	{"sum of a convolution with itself", func(n *net, x *G.Node) *G.Node { y := n.same(x, channelsOf(x), 3); return op.Add(y, y) }, false},
	{"sum with what came after the convolution", func(n *net, x *G.Node) *G.Node {
		y := n.same(x, channelsOf(x), 3)
		return op.Add(y, op.Sigmoid(n.same(op.Tanh(x), channelsOf(x), 1)))
	}, false},
	{"sum of convolutions of one another", func(n *net, x *G.Node) *G.Node {
		y := n.same(x, channelsOf(x), 3)
		return op.Add(y, n.same(y, channelsOf(x), 1))
	}, false},
	{"sum of three", func(n *net, x *G.Node) *G.Node {
		return op.Add(op.Add(n.same(x, channelsOf(x), 3), x), n.same(x, channelsOf(x), 1))
	}, false},
	{"sum with a number", func(n *net, x *G.Node) *G.Node { return op.Shift(n.same(x, channelsOf(x), 3), 2) }, false},
	{"sum with plain images", func(n *net, x *G.Node) *G.Node { return op.Add(n.same(x, channelsOf(x), 3), upright(upright(x))) }, false},
	{"sum and relu", func(n *net, x *G.Node) *G.Node { return n.relu(op.Add(n.same(x, channelsOf(x), 3), x)) }, false},
	{"sum read twice", func(n *net, x *G.Node) *G.Node {
		s := op.Add(n.same(x, channelsOf(x), 3), x)
		return op.Mul(s, op.Sigmoid(s))
	}, false},
	{"convolution of a relu summed with it", func(n *net, x *G.Node) *G.Node {
		r := n.relu(n.same(x, channelsOf(x), 3))
		return op.Add(r, n.relu(n.same(r, channelsOf(x), 1)))
	}, false},
	{"sum with one image for all samples", func(n *net, x *G.Node) *G.Node {
		s := x.Shape()
		return op.Add(n.same(x, s[1], 3), n.input(0, 1, 1, s[1], s[2], s[3]))
	}, false},
	{"sum with one channel for all", func(n *net, x *G.Node) *G.Node {
		return op.Add(n.same(x, channelsOf(x), 3), n.same(x, 1, 1))
	}, false},
	{"difference, product and quotient", func(n *net, x *G.Node) *G.Node {
		y := n.same(x, channelsOf(x), 3)
		return op.Div(op.Mul(op.Sub(y, x), y), op.Shift(op.Sigmoid(x), 1))
	}, false},
	{"pixels normed between convolutions", func(n *net, x *G.Node) *G.Node {
		c := channelsOf(x)
		y := op.Transpose(n.same(x, c, 3), 0, 2, 3, 1)
		y = op.LayerNorm(y, n.input(1, 0.5, c), n.input(0, 0.5, c), -1, 1e-5)
		return op.Add(n.same(op.Transpose(y, 0, 3, 1, 2), c, 1), x)
	}, false},
	{"pixels and back, read plain", func(n *net, x *G.Node) *G.Node {
		return op.Softmax(op.Transpose(op.Tanh(op.Transpose(n.same(x, channelsOf(x), 3), 0, 2, 3, 1)), 0, 3, 1, 2), 2)
	}, false},
	{"quotients", func(n *net, x *G.Node) *G.Node {
		y := op.Div(op.Tanh(n.same(x, channelsOf(x), 1)), op.Scalar(x, 0.7))
		return n.same(op.Div(y, n.input(5, 1, x.Shape()...)), channelsOf(x), 3)
	}, false},
	{"larger of two", func(n *net, x *G.Node) *G.Node {
		y := n.same(x, channelsOf(x), 3)
		n.bent(op.Sub(x, y), 0)
		return op.Max(x, y)
	}, false},
	{"gradient stopped", func(n *net, x *G.Node) *G.Node {
		return op.Add(x, op.StopGradient(op.Tanh(x)))
	}, false},

	{"scale for each channel", func(n *net, x *G.Node) *G.Node { return op.Mul(x, n.input(1, 0.5, channelsOf(x), 1, 1)) }, false},
	{"scale and shift for each channel", func(n *net, x *G.Node) *G.Node {
		return op.Add(op.Mul(n.input(1, 0.5, 1, channelsOf(x), 1, 1), x), n.input(0, 1, channelsOf(x), 1, 1))
	}, false},
	{"scale for all", func(n *net, x *G.Node) *G.Node { return op.Mul(n.fixed(1, 0.5, 1), op.Shift(op.Scale(x, 2), 1)) }, false},
	{"gate", func(n *net, x *G.Node) *G.Node {
		squeezed := n.relu(n.same(op.GlobalAveragePool(x), 8, 1))
		return op.Mul(x, op.Sigmoid(n.same(squeezed, channelsOf(x), 1)))
	}, false},
	{"gate by a batch norm", func(n *net, x *G.Node) *G.Node {
		y := n.norm(n.same(x, channelsOf(x), 1))
		return op.Mul(op.Sigmoid(n.same(op.GlobalAveragePool(y), channelsOf(x), 1)), y)
	}, false},
	{"sum over places", func(_ *net, x *G.Node) *G.Node {
		return op.Add(x, op.Scale(op.ReduceSum(x, []int{2, 3}, true), 0.1))
	}, false},
	{"mean over places", func(n *net, x *G.Node) *G.Node {
		means := op.ReduceMean(n.same(x, channelsOf(x), 3), []int{2, 3}, false)
		return op.Add(x, op.Reshape(means, x.Shape()[0], channelsOf(x), 1, 1))
	}, false},
	{"mean over channels", func(n *net, x *G.Node) *G.Node {
		return op.Sub(x, op.ReduceMean(n.same(x, channelsOf(x), 3), []int{1}, true))
	}, false},
	{"softmax of channels", func(_ *net, x *G.Node) *G.Node { return op.Add(x, op.Softmax(x, 1)) }, false},
	{"layer norm of channels", func(n *net, x *G.Node) *G.Node {
		y := op.LayerNorm(op.Transpose(x, 0, 2, 3, 1), n.input(1, 0.5, channelsOf(x)), n.input(0, 0.5, channelsOf(x)), -1, 1e-5)
		return op.Transpose(y, 0, 3, 1, 2)
	}, false},

	{"max pool", func(n *net, x *G.Node) *G.Node {
		n.untied(x)
		return op.MaxPool(x, op.PoolAttrs{Kernel: stride2, Strides: stride2})
	}, false},
	{"max pool of rows", func(n *net, x *G.Node) *G.Node {
		n.untied(x)
		return op.MaxPool(n.relu(n.same(x, channelsOf(x), 3)), op.PoolAttrs{Kernel: [2]int{2, 1}, Strides: [2]int{2, 1}})
	}, false},
	{"max pool of equals", func(n *net, x *G.Node) *G.Node {
		y := op.Add(n.same(op.Scale(x, 0), channelsOf(x), 1), n.input(0, 0, x.Shape()...))
		return op.MaxPool(y, op.PoolAttrs{Kernel: [2]int{2, 1}, Strides: [2]int{2, 1}})
	}, false},
	{"max pool of a relu, overlapping", func(n *net, x *G.Node) *G.Node {
		x = n.relu(x)
		n.untied(x)
		return op.MaxPool(x, op.PoolAttrs{Kernel: stride2, Pads: [4]int{1, 0, 0, 1}})
	}, false},
	{"average pool", func(_ *net, x *G.Node) *G.Node {
		return op.AveragePool(x, op.PoolAttrs{Kernel: stride2, Strides: stride2})
	}, false},
	{"average pool, padded", func(_ *net, x *G.Node) *G.Node {
		return op.AveragePool(x, op.PoolAttrs{Kernel: [2]int{3, 3}, Strides: stride2, Pads: all(1)})
	}, false},
	{"average pool without the padding", func(_ *net, x *G.Node) *G.Node {
		return op.AveragePool(x, op.PoolAttrs{Kernel: [2]int{3, 3}, Pads: all(1), ExcludePad: true})
	}, false},

	{"concatenation", func(n *net, x *G.Node) *G.Node { return op.Concat(1, n.same(x, 16, 3), x) }, false},
	{"halves exchanged", func(_ *net, x *G.Node) *G.Node {
		h := op.Split(x, 1, channelsOf(x)/2, channelsOf(x)-channelsOf(x)/2)
		return op.Concat(1, h[1], h[0])
	}, false},
	{"first row taken", func(n *net, x *G.Node) *G.Node { return op.Slice(n.norm(x), op.Range{Axis: 2, To: 1}) }, false},
	{"turned", func(_ *net, x *G.Node) *G.Node { return upright(x) }, false},
	{"places in one line", func(_ *net, x *G.Node) *G.Node {
		s := x.Shape()
		return op.Reshape(x, s[0], s[1], 1, s[2]*s[3])
	}, false},
	{"padded", func(n *net, x *G.Node) *G.Node { return op.Pad(n.relu(x), []int{0, 0, 1, 0}, []int{0, 0, 0, 1}) }, false},
	{"read plain and in blocks", func(n *net, x *G.Node) *G.Node {
		y := n.same(x, channelsOf(x), 3)
		return op.Add(n.same(y, channelsOf(x), 1), upright(upright(y)))
	}, false},

	{"residual block", func(n *net, x *G.Node) *G.Node {
		y := n.relu(n.normNear(n.same(x, channelsOf(x), 3)))
		return n.relu(op.Add(n.normNear(n.same(y, channelsOf(x), 3)), x))
	}, false},
	{"residual block with a projection", func(n *net, x *G.Node) *G.Node {
		wide := channelsOf(x) + 16
		down := func(kernel int) *G.Node {
			return n.normNear(n.conv(x, wide, kernel, op.ConvAttrs{Strides: stride2, Pads: all(kernel / 2)}))
		}
		y := n.norm(n.same(n.relu(down(3)), wide, 3))
		return n.relu(op.Add(y, down(1)))
	}, false},
	{"inverted residual", func(n *net, x *G.Node) *G.Node {
		y := n.norm(n.same(x, 2*channelsOf(x), 1))
		y = op.Clip(n.bent(y, 0, 2), 0, 2)
		y = n.relu(n.norm(n.depthwise(y, 3, op.ConvAttrs{Pads: all(1)})))
		return op.Add(x, n.norm(n.same(y, channelsOf(x), 1)))
	}, false},
}

// upright exchanges rows and columns: a node that has no form in blocks.
func upright(x *G.Node) *G.Node { return op.Transpose(x, 0, 1, 3, 2) }

// untied marks the ties between neighbours.
func (n *net) untied(x *G.Node) {
	h, w := x.Shape()[2], x.Shape()[3]
	part := func(i, j int) *G.Node { // without the last row and column, moved by i and j
		return op.Slice(x, op.Range{Axis: 2, From: i, To: h - 1 + i}, op.Range{Axis: 3, From: j, To: w - 1 + j})
	}
	for _, pair := range [][4]int{{0, 0, 0, 1}, {0, 0, 1, 0}, {0, 0, 1, 1}, {0, 1, 1, 0}, {1, 0, 1, 1}, {0, 1, 1, 1}} {
		n.bent(op.Sub(part(pair[0], pair[1]), part(pair[2], pair[3])), 0)
	}
}
