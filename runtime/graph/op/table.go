package op

import (
	"math"
	"strconv"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Row is an operator with examples of its use. Tests range over the rows: each example gets its gradient checked by
// central difference and both engines compared on every target.
type Row struct {
	Name     string // in ONNX
	Examples []Example
}

// Example applies an operator to inputs of the given shapes.
type Example struct {
	In     []graph.Shape
	Lo, Hi float64 // range of random inputs; both zero: −2..2
	Wrt    int     // how many of the inputs, from the first, have a gradient; 0: all, −1: none
	Build  func(in []*G.Node) *G.Node
}

// Inputs are the example's input values: a fixed function of each input's number and element.
func (e Example) Inputs() []graph.Array {
	lo, hi := e.Lo, e.Hi
	if lo == 0 && hi == 0 {
		lo, hi = -2, 2
	}
	in := make([]graph.Array, len(e.In))
	for k, s := range e.In {
		in[k] = graph.Zeros(s)
		for i := range in[k].F {
			in[k].F[i] = lo + (hi-lo)*(0.5+0.5*math.Sin(12.9898*float64(i+1)+78.233*float64(k+1)))
		}
	}
	return in
}

// Program computes the example's result "y", the scalar "cost" Σ y[i]·sin(i+1), and for each input k with a gradient its
// derivative "d<k>". Inputs are named "<k>".
func (e Example) Program() (*graph.Program, error) {
	return graph.Build(graph.Training, func(g *graph.Graph) {
		in := make([]*G.Node, len(e.In))
		for k, s := range e.In {
			in[k] = g.Input(strconv.Itoa(k), graph.Float32, s...)
		}
		y := e.Build(in)
		g.Output("y", y)
		w := graph.Zeros(graph.ShapeOf(y))
		for i := range w.F {
			w.F[i] = math.Sin(float64(i + 1))
		}
		cost := ReduceSum(Mul(y, graph.Const(y, w)), nil, false)
		g.Output("cost", cost)
		wrt := e.Wrt
		if wrt == 0 {
			wrt = len(in)
		}
		if wrt < 0 {
			return
		}
		for _, d := range g.GradInput(cost, in[:wrt]...) {
			g.Output("d"+d.Name, d.Grad)
		}
	})
}

func ex(build func(in []*G.Node) *G.Node, in ...graph.Shape) Example {
	return Example{In: in, Build: build}
}

func on1(f func(x *G.Node) *G.Node, shapes ...graph.Shape) []Example {
	var list []Example
	for _, s := range shapes {
		list = append(list, ex(func(in []*G.Node) *G.Node { return f(in[0]) }, s))
	}
	return list
}

func positive(list []Example) []Example {
	for i := range list {
		list[i].Lo, list[i].Hi = 0.3, 3
	}
	return list
}

func on2(f func(a, b *G.Node) *G.Node) []Example {
	build := func(in []*G.Node) *G.Node { return f(in[0], in[1]) }
	return []Example{
		ex(build, graph.Shape{3, 4}, graph.Shape{3, 4}),
		ex(build, graph.Shape{2, 3, 4}, graph.Shape{4}),
		ex(build, graph.Shape{3, 1}, graph.Shape{2, 1, 5}),
		ex(build, graph.Shape{}, graph.Shape{2, 3}),
		ex(build, graph.Shape{1, 1}, graph.Shape{}),
	}
}

func onReduce(f func(x *G.Node, axes []int, keep bool) *G.Node) []Example {
	build := func(axes []int, keep bool) func([]*G.Node) *G.Node {
		return func(in []*G.Node) *G.Node { return f(in[0], axes, keep) }
	}
	return []Example{
		ex(build(nil, false), graph.Shape{3, 4}),
		ex(build([]int{1}, true), graph.Shape{3, 4}),
		ex(build([]int{0, 2, 3}, false), graph.Shape{2, 3, 4, 5}),
		ex(build([]int{0, 2, 3}, true), graph.Shape{2, 3, 4, 5}),
		ex(build([]int{-1}, false), graph.Shape{1, 2, 3}),
	}
}

func onConv(bias bool, a ConvAttrs, x, w graph.Shape) Example {
	if !bias {
		return ex(func(in []*G.Node) *G.Node { return Conv(in[0], in[1], nil, a) }, x, w)
	}
	return ex(func(in []*G.Node) *G.Node { return Conv(in[0], in[1], in[2], a) }, x, w, graph.Shape{w[0]})
}

func onPool(f func(x *G.Node, a PoolAttrs) *G.Node, a PoolAttrs, x graph.Shape) Example {
	return ex(func(in []*G.Node) *G.Node { return f(in[0], a) }, x)
}

var some = []graph.Shape{{}, {5}, {2, 3}, {2, 3, 2, 2}}

func same(p int) [4]int { return [4]int{p, p, p, p} }

// Table lists the operators that networks and losses are built from.
var Table = []Row{
	{"Abs", on1(Abs, some...)},
	{"Add", on2(Add)},
	{"AveragePool", []Example{
		onPool(AveragePool, PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}}, graph.Shape{2, 3, 6, 4}),
		onPool(AveragePool, PoolAttrs{Kernel: [2]int{3, 2}, Strides: [2]int{2, 1}, Pads: [4]int{1, 0, 1, 1}}, graph.Shape{1, 2, 7, 5}),
		onPool(AveragePool, PoolAttrs{Kernel: [2]int{3, 3}, Pads: same(1), ExcludePad: true}, graph.Shape{1, 2, 4, 5}),
	}},
	{"BatchNormalization", []Example{
		{In: []graph.Shape{{2, 3, 2, 2}, {3}, {3}, {3}, {3}}, Lo: 0.3, Hi: 2, Wrt: 3,
			Build: func(in []*G.Node) *G.Node { return BatchNorm(in[0], in[1], in[2], in[3], in[4], 1e-5) }},
		{In: []graph.Shape{{4, 3}, {3}, {3}, {3}, {3}}, Lo: 0.3, Hi: 2, Wrt: 3,
			Build: func(in []*G.Node) *G.Node { return BatchNorm(in[0], in[1], in[2], in[3], in[4], 1e-5) }},
	}},
	{"BatchNormalizationTraining", []Example{
		ex(func(in []*G.Node) *G.Node { y, _, _ := BatchNormTraining(in[0], in[1], in[2], 1e-5); return y },
			graph.Shape{3, 2, 4, 3}, graph.Shape{2}, graph.Shape{2}),
		ex(func(in []*G.Node) *G.Node { y, _, _ := BatchNormTraining(in[0], in[1], in[2], 1e-5); return y },
			graph.Shape{6, 3}, graph.Shape{3}, graph.Shape{3}),
		{In: []graph.Shape{{3, 2, 4, 3}, {2}, {2}}, Wrt: -1,
			Build: func(in []*G.Node) *G.Node { _, mean, _ := BatchNormTraining(in[0], in[1], in[2], 1e-5); return mean }},
		{In: []graph.Shape{{3, 2, 4, 3}, {2}, {2}}, Wrt: -1,
			Build: func(in []*G.Node) *G.Node { _, _, v := BatchNormTraining(in[0], in[1], in[2], 1e-5); return v }},
	}},
	{"Clip", on1(func(x *G.Node) *G.Node { return Clip(x, -0.5, 1) }, some...)},
	{"Concat", []Example{
		ex(func(in []*G.Node) *G.Node { return Concat(1, in...) }, graph.Shape{2, 1, 3}, graph.Shape{2, 4, 3}, graph.Shape{2, 2, 3}),
		ex(func(in []*G.Node) *G.Node { return Concat(-1, in...) }, graph.Shape{2, 3}, graph.Shape{2, 1}),
	}},
	{"Conv", []Example{
		onConv(false, ConvAttrs{Pads: same(1)}, graph.Shape{2, 3, 5, 6}, graph.Shape{4, 3, 3, 3}),
		onConv(true, ConvAttrs{}, graph.Shape{2, 3, 5, 4}, graph.Shape{2, 3, 1, 1}),
		onConv(true, ConvAttrs{Strides: [2]int{2, 2}, Pads: same(1)}, graph.Shape{2, 2, 6, 7}, graph.Shape{3, 2, 3, 3}),
		onConv(false, ConvAttrs{Strides: [2]int{2, 2}}, graph.Shape{1, 2, 6, 5}, graph.Shape{3, 2, 1, 1}),
		onConv(false, ConvAttrs{Pads: [4]int{0, 1, 2, 0}}, graph.Shape{1, 2, 5, 5}, graph.Shape{2, 2, 3, 2}),
		onConv(false, ConvAttrs{Dilations: [2]int{2, 1}, Pads: [4]int{2, 1, 2, 1}}, graph.Shape{1, 2, 6, 5}, graph.Shape{2, 2, 3, 3}),
		onConv(true, ConvAttrs{Group: 2, Pads: same(1)}, graph.Shape{2, 4, 4, 5}, graph.Shape{6, 2, 3, 3}),
		onConv(false, ConvAttrs{Group: 4, Pads: same(1)}, graph.Shape{2, 4, 5, 4}, graph.Shape{4, 1, 3, 3}),
		onConv(false, ConvAttrs{Group: 4, Strides: [2]int{2, 2}, Pads: same(2)}, graph.Shape{1, 4, 7, 7}, graph.Shape{8, 1, 5, 5}),
		onConv(false, ConvAttrs{Pads: same(1)}, graph.Shape{2, 16, 5, 4}, graph.Shape{16, 16, 3, 3}),
		onConv(true, ConvAttrs{Strides: [2]int{2, 2}, Pads: same(1)}, graph.Shape{1, 16, 6, 6}, graph.Shape{32, 16, 3, 3}),
		onConv(false, ConvAttrs{Group: 16, Pads: same(1)}, graph.Shape{1, 16, 4, 5}, graph.Shape{16, 1, 3, 3}),
		onConv(true, ConvAttrs{Pads: same(1)}, graph.Shape{2, 3, 5, 4}, graph.Shape{16, 3, 3, 3}),
	}},
	{"Div", positive(on2(Div))},
	{"Erf", on1(Erf, some...)},
	{"Exp", on1(Exp, some...)},
	{"Expand", []Example{
		ex(func(in []*G.Node) *G.Node { return Expand(in[0], graph.Shape{2, 3, 4}) }, graph.Shape{3, 1}),
		ex(func(in []*G.Node) *G.Node { return Expand(in[0], graph.Shape{2, 2}) }, graph.Shape{}),
	}},
	{"Flatten", on1(Flatten, graph.Shape{2, 3, 2}, graph.Shape{3, 2}, graph.Shape{4})},
	{"Gemm", []Example{
		ex(func(in []*G.Node) *G.Node { return Gemm(in[0], in[1], in[2]) }, graph.Shape{3, 4}, graph.Shape{2, 4}, graph.Shape{2}),
		ex(func(in []*G.Node) *G.Node { return Gemm(in[0], in[1], in[2]) }, graph.Shape{1, 5}, graph.Shape{3, 5}, graph.Shape{3}),
	}},
	{"GlobalAveragePool", on1(GlobalAveragePool, graph.Shape{2, 3, 4, 5}, graph.Shape{1, 2, 1, 1})},
	{"LeakyRelu", on1(func(x *G.Node) *G.Node { return LeakyRelu(x, 0.1) }, some...)},
	{"Log", positive(on1(Log, some...))},
	{"LogSoftmax", on1(func(x *G.Node) *G.Node { return LogSoftmax(x, 1) }, graph.Shape{3, 5}, graph.Shape{2, 4, 3})},
	{"MatMul", []Example{
		ex(func(in []*G.Node) *G.Node { return MatMul(in[0], in[1]) }, graph.Shape{3, 4}, graph.Shape{4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMul(in[0], in[1]) }, graph.Shape{2, 3, 4}, graph.Shape{4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMul(in[0], in[1]) }, graph.Shape{2, 1, 3, 4}, graph.Shape{3, 4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMulT(in[0], in[1], false, true) }, graph.Shape{2, 3, 4}, graph.Shape{2, 5, 4}),
		ex(func(in []*G.Node) *G.Node { return MatMulT(in[0], in[1], true, false) }, graph.Shape{4, 3}, graph.Shape{4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMulT(in[0], in[1], true, true) }, graph.Shape{4, 3}, graph.Shape{2, 4}),
	}},
	{"MaxPool", []Example{
		onPool(MaxPool, PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}}, graph.Shape{2, 3, 4, 6}),
		onPool(MaxPool, PoolAttrs{Kernel: [2]int{3, 3}, Strides: [2]int{2, 2}, Pads: same(1)}, graph.Shape{2, 2, 7, 6}),
		onPool(MaxPool, PoolAttrs{Kernel: [2]int{2, 3}}, graph.Shape{1, 1, 4, 5}),
	}},
	{"Mul", on2(Mul)},
	{"Neg", on1(Neg, some...)},
	{"Pad", on1(func(x *G.Node) *G.Node { return Pad(x, []int{0, 1}, []int{2, 0}) }, graph.Shape{2, 3})},
	{"ReduceMax", onReduce(ReduceMax)},
	{"ReduceMean", onReduce(ReduceMean)},
	{"ReduceSum", onReduce(ReduceSum)},
	{"Relu", on1(Relu, some...)},
	{"Reshape", []Example{
		ex(func(in []*G.Node) *G.Node { return Reshape(in[0], 0, -1) }, graph.Shape{2, 3, 4}),
		ex(func(in []*G.Node) *G.Node { return Reshape(in[0], 6, 4) }, graph.Shape{2, 3, 4}),
		ex(func(in []*G.Node) *G.Node { return Reshape(in[0]) }, graph.Shape{1, 1}),
	}},
	{"Sigmoid", on1(Sigmoid, some...)},
	{"Slice", []Example{
		ex(func(in []*G.Node) *G.Node { return Slice(in[0], Range{Axis: 1, From: 1, To: 3}) }, graph.Shape{2, 4, 3}),
		ex(func(in []*G.Node) *G.Node { return Slice(in[0], Range{Axis: 2, Step: 2}, Range{Axis: 3, Step: 2}) }, graph.Shape{2, 2, 4, 5}),
		ex(func(in []*G.Node) *G.Node { return Slice(in[0], Range{Axis: -1, From: 1, To: 6, Step: 3}) }, graph.Shape{2, 7}),
	}},
	{"Softmax", on1(func(x *G.Node) *G.Node { return Softmax(x, -1) }, graph.Shape{3, 5}, graph.Shape{2, 4, 3})},
	{"Softplus", on1(Softplus, some...)},
	{"Sqrt", positive(on1(Sqrt, some...))},
	{"Squeeze", on1(func(x *G.Node) *G.Node { return Squeeze(x, 1, -1) }, graph.Shape{2, 1, 3, 1})},
	{"Sub", on2(Sub)},
	{"Tanh", on1(Tanh, some...)},
	{"Transpose", on1(func(x *G.Node) *G.Node { return Transpose(x, 2, 0, 1) }, graph.Shape{2, 3, 4})},
}
