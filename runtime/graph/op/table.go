package op

import (
	"math"
	"slices"
	"strconv"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Row is an operator with examples of its use. Tests range over the rows: each example gets its gradient checked by
// central difference and both engines compared on every target.
type Row struct {
	Name     string // in ONNX
	Examples []Example
	// Lift applies the operator as a node of an ONNX model states it; nil for what is no ONNX operator.
	Lift func(n *Node) []*G.Node
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

// wide is for what bends at ±3.
func wide(list []Example) []Example {
	for i := range list {
		list[i].Lo, list[i].Hi = -5, 5
	}
	return list
}

func notSmooth(list []Example) []Example {
	for i := range list {
		list[i].Wrt = -1
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

func onMany(f func(xs ...*G.Node) *G.Node) []Example {
	build := func(in []*G.Node) *G.Node { return f(in...) }
	return []Example{
		ex(build, graph.Shape{2, 3}, graph.Shape{2, 3}),
		ex(build, graph.Shape{2, 3, 4}, graph.Shape{4}, graph.Shape{3, 1}),
		ex(build, graph.Shape{}, graph.Shape{1, 5}),
	}
}

func onGather(axis int, shape graph.Shape, indices []int64, x graph.Shape) Example {
	return ex(func(in []*G.Node) *G.Node { return Gather(in[0], axis, graph.Array{Shape: shape, I: indices}) }, x)
}

func onEinsum(equation string, shapes ...graph.Shape) Example {
	return ex(func(in []*G.Node) *G.Node { return Einsum(equation, in...) }, shapes...)
}

func onGroupNorm(groups int, x graph.Shape) Example {
	c := graph.Shape{x[1]}
	return ex(func(in []*G.Node) *G.Node { return GroupNorm(in[0], in[1], in[2], groups, 1e-5) }, x, c, c)
}

func onWhere(cond graph.Array, a, b graph.Shape) Example {
	return ex(func(in []*G.Node) *G.Node { return Where(graph.Const(in[0], cond), in[0], in[1]) }, a, b)
}

func onConv(bias bool, a ConvAttrs, x, w graph.Shape) Example {
	if !bias {
		return ex(func(in []*G.Node) *G.Node { return Conv(in[0], in[1], nil, a) }, x, w)
	}
	return ex(func(in []*G.Node) *G.Node { return Conv(in[0], in[1], in[2], a) }, x, w, graph.Shape{w[0]})
}

func onPadFrom(mode string) []Example {
	return on1(func(x *G.Node) *G.Node { return PadFrom(x, mode, []int{0, 0, 1, 2}, []int{0, 0, 2, 0}) }, graph.Shape{1, 2, 3, 4})
}

func onPool(f func(x *G.Node, a PoolAttrs) *G.Node, a PoolAttrs, x graph.Shape) Example {
	return ex(func(in []*G.Node) *G.Node { return f(in[0], a) }, x)
}

var some = []graph.Shape{{}, {5}, {2, 3}, {2, 3, 2, 2}}

func same(p int) [4]int { return [4]int{p, p, p, p} }

// Table lists the operators that networks and losses are built from.
var Table = []Row{
	{"Abs", on1(Abs, some...), lift1(Abs)},
	{"Add", on2(Add), lift2(Add)},
	{"And", notSmooth(on2(func(a, b *G.Node) *G.Node { return Mul(Greater(a, b), Less(a, Scalar(a, 1))) })), liftComparison(Mul)},
	{"AveragePool", []Example{
		onPool(AveragePool, PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}}, graph.Shape{2, 3, 6, 4}),
		onPool(AveragePool, PoolAttrs{Kernel: [2]int{3, 2}, Strides: [2]int{2, 1}, Pads: [4]int{1, 0, 1, 1}}, graph.Shape{1, 2, 7, 5}),
		onPool(AveragePool, PoolAttrs{Kernel: [2]int{3, 3}, Pads: same(1), ExcludePad: true}, graph.Shape{1, 2, 4, 5}),
	}, liftAveragePool},
	{"BatchNormalization", []Example{
		{In: []graph.Shape{{2, 3, 2, 2}, {3}, {3}, {3}, {3}}, Lo: 0.3, Hi: 2, Wrt: 3,
			Build: func(in []*G.Node) *G.Node { return BatchNorm(in[0], in[1], in[2], in[3], in[4], 1e-5) }},
		{In: []graph.Shape{{4, 3}, {3}, {3}, {3}, {3}}, Lo: 0.3, Hi: 2, Wrt: 3,
			Build: func(in []*G.Node) *G.Node { return BatchNorm(in[0], in[1], in[2], in[3], in[4], 1e-5) }},
	}, liftBatchNorm},
	{"BatchNormalizationTraining", []Example{
		ex(func(in []*G.Node) *G.Node { y, _, _ := BatchNormTraining(in[0], in[1], in[2], 1e-5); return y },
			graph.Shape{3, 2, 4, 3}, graph.Shape{2}, graph.Shape{2}),
		ex(func(in []*G.Node) *G.Node { y, _, _ := BatchNormTraining(in[0], in[1], in[2], 1e-5); return y },
			graph.Shape{6, 3}, graph.Shape{3}, graph.Shape{3}),
		{In: []graph.Shape{{3, 2, 4, 3}, {2}, {2}}, Wrt: -1,
			Build: func(in []*G.Node) *G.Node { _, mean, _ := BatchNormTraining(in[0], in[1], in[2], 1e-5); return mean }},
		{In: []graph.Shape{{3, 2, 4, 3}, {2}, {2}}, Wrt: -1,
			Build: func(in []*G.Node) *G.Node { _, _, v := BatchNormTraining(in[0], in[1], in[2], 1e-5); return v }},
	}, nil},
	{"Cast", on1(identity, graph.Shape{2, 3}), liftCast},
	{"Ceil", on1(Ceil, some...), lift1(Ceil)},
	{"Celu", on1(func(x *G.Node) *G.Node { return Celu(x, 1.5) }, some...), liftCelu},
	{"Clip", on1(func(x *G.Node) *G.Node { return Clip(x, -0.5, 1) }, some...), liftClip},
	{"Concat", []Example{
		ex(func(in []*G.Node) *G.Node { return Concat(1, in...) }, graph.Shape{2, 1, 3}, graph.Shape{2, 4, 3}, graph.Shape{2, 2, 3}),
		ex(func(in []*G.Node) *G.Node { return Concat(-1, in...) }, graph.Shape{2, 3}, graph.Shape{2, 1}),
	}, liftConcat},
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
	}, liftConv},
	{"Cos", on1(Cos, some...), lift1(Cos)},
	{"DepthToSpace", []Example{
		ex(func(in []*G.Node) *G.Node { return DepthToSpace(in[0], 2, true) }, graph.Shape{2, 8, 3, 2}),
		ex(func(in []*G.Node) *G.Node { return DepthToSpace(in[0], 3, false) }, graph.Shape{1, 9, 1, 2}),
	}, liftDepthToSpace},
	{"Div", positive(on2(Div)), lift2(Div)},
	{"Dropout", on1(identity, graph.Shape{2, 3}), lift1(identity)},
	{"Einsum", []Example{
		onEinsum("bhid,bhjd->bhij", graph.Shape{2, 2, 3, 4}, graph.Shape{2, 2, 5, 4}),
		onEinsum("nchw, oc -> nohw", graph.Shape{2, 3, 2, 4}, graph.Shape{5, 3}),
		onEinsum("ijk,jk->i", graph.Shape{2, 3, 4}, graph.Shape{3, 4}),
		onEinsum("ij,kj", graph.Shape{2, 3}, graph.Shape{4, 3}),
		onEinsum("ab,cd->da", graph.Shape{2, 3}, graph.Shape{4, 2}),
		onEinsum("ij,ij->", graph.Shape{2, 3}, graph.Shape{2, 3}),
		onEinsum("abc->ca", graph.Shape{2, 3, 4}),
	}, liftEinsum},
	{"Elu", on1(func(x *G.Node) *G.Node { return Elu(x, 0.7) }, some...), liftElu},
	{"Equal", notSmooth(on2(Equal)), liftComparison(Equal)},
	{"Erf", on1(Erf, some...), lift1(Erf)},
	{"Exp", on1(Exp, some...), lift1(Exp)},
	{"Expand", []Example{
		ex(func(in []*G.Node) *G.Node { return Expand(in[0], graph.Shape{2, 3, 4}) }, graph.Shape{3, 1}),
		ex(func(in []*G.Node) *G.Node { return Expand(in[0], graph.Shape{2, 2}) }, graph.Shape{}),
	}, liftExpand},
	{"ExpandBatch", []Example{
		{In: []graph.Shape{{1, 3}, {4, 2}}, Wrt: 1, Build: func(in []*G.Node) *G.Node { return ExpandBatch(in[0], in[1]) }},
		{In: []graph.Shape{{1, 2, 3}, {1}}, Wrt: 1, Build: func(in []*G.Node) *G.Node { return ExpandBatch(in[0], in[1]) }},
	}, nil},
	{"Flatten", on1(Flatten, graph.Shape{2, 3, 2}, graph.Shape{3, 2}, graph.Shape{4}), liftFlatten},
	{"Floor", on1(Floor, some...), lift1(Floor)},
	{"Gather", []Example{
		ex(func(in []*G.Node) *G.Node { return Index(in[0], 1, 0) }, graph.Shape{2, 4, 3}),
		ex(func(in []*G.Node) *G.Node { return Index(in[0], -1, -1) }, graph.Shape{1, 5}),
		onGather(0, graph.Shape{2, 3}, []int64{3, 0, 0, 1, -1, 3}, graph.Shape{4, 2}),
		onGather(-2, graph.Shape{3}, []int64{2, 2, 0}, graph.Shape{2, 3, 2}),
		onGather(1, graph.Shape{1}, []int64{1}, graph.Shape{2, 3, 2}),
	}, liftGather},
	{"Gelu", append(on1(Gelu, some...), on1(GeluTanh, some...)...), liftGelu},
	{"Gemm", []Example{
		ex(func(in []*G.Node) *G.Node { return Gemm(in[0], in[1], in[2]) }, graph.Shape{3, 4}, graph.Shape{2, 4}, graph.Shape{2}),
		ex(func(in []*G.Node) *G.Node { return Gemm(in[0], in[1], in[2]) }, graph.Shape{1, 5}, graph.Shape{3, 5}, graph.Shape{3}),
	}, liftGemm},
	{"GlobalAveragePool", on1(GlobalAveragePool, graph.Shape{2, 3, 4, 5}, graph.Shape{1, 2, 1, 1}), lift1(GlobalAveragePool)},
	{"GlobalMaxPool", on1(GlobalMaxPool, graph.Shape{2, 3, 4, 5}, graph.Shape{1, 2, 1, 1}), lift1(GlobalMaxPool)},
	{"Greater", notSmooth(on2(Greater)), liftComparison(Greater)},
	{"GreaterOrEqual", notSmooth(on2(GreaterOrEqual)), liftComparison(GreaterOrEqual)},
	{"GroupNormalization", []Example{
		onGroupNorm(2, graph.Shape{2, 4, 3, 2}),
		onGroupNorm(1, graph.Shape{1, 3, 5}),
	}, liftGroupNorm},
	{"HardSigmoid", wide(append(on1(func(x *G.Node) *G.Node { return HardSigmoid(x, 1.0/6, 0.5) }, some...),
		on1(func(x *G.Node) *G.Node { return HardSigmoid(x, 0.2, 0.4) }, some...)...)), liftHardSigmoid},
	{"HardSwish", wide(on1(HardSwish, some...)), lift1(HardSwish)},
	{"Identity", on1(identity, graph.Shape{2, 3}), lift1(identity)},
	{"InstanceNormalization", []Example{
		ex(func(in []*G.Node) *G.Node { return InstanceNorm(in[0], in[1], in[2], 1e-5) },
			graph.Shape{2, 3, 4, 3}, graph.Shape{3}, graph.Shape{3}),
		ex(func(in []*G.Node) *G.Node { return InstanceNorm(in[0], in[1], in[2], 1e-3) },
			graph.Shape{1, 2, 7}, graph.Shape{2}, graph.Shape{2}),
	}, liftInstanceNorm},
	{"LayerNormGemm", []Example{
		ex(func(in []*G.Node) *G.Node { return LayerNormGemm(in[0], in[1], in[2], in[3], in[4], 1e-5) },
			graph.Shape{3, 8}, graph.Shape{8}, graph.Shape{8}, graph.Shape{5, 8}, graph.Shape{5}),
		ex(func(in []*G.Node) *G.Node { return LayerNormGemm(in[0], in[1], in[2], in[3], in[4], 1e-2) },
			graph.Shape{1, 2}, graph.Shape{2}, graph.Shape{2}, graph.Shape{3, 2}, graph.Shape{3}),
		ex(func(in []*G.Node) *G.Node { return LayerNormMatMul(in[0], in[1], in[2], in[3], in[4], 1e-5) },
			graph.Shape{2, 3, 8}, graph.Shape{8}, graph.Shape{8}, graph.Shape{8, 5}, graph.Shape{5}),
	}, nil},
	{"LayerNormalization", []Example{
		ex(func(in []*G.Node) *G.Node { return LayerNorm(in[0], in[1], in[2], -1, 1e-5) },
			graph.Shape{2, 3, 8}, graph.Shape{8}, graph.Shape{8}),
		ex(func(in []*G.Node) *G.Node { return LayerNorm(in[0], in[1], in[2], -2, 1e-6) },
			graph.Shape{1, 2, 3, 5}, graph.Shape{3, 5}, graph.Shape{3, 5}),
		ex(func(in []*G.Node) *G.Node { return LayerNorm(in[0], in[1], nil, 1, 1e-5) }, graph.Shape{3, 7}, graph.Shape{7}),
		ex(func(in []*G.Node) *G.Node { return LayerNorm(in[0], nil, nil, 0, 1e-5) }, graph.Shape{2, 5}),
	}, liftLayerNorm},
	{"LeakyRelu", on1(func(x *G.Node) *G.Node { return LeakyRelu(x, 0.1) }, some...), liftLeakyRelu},
	{"Less", notSmooth(on2(Less)), liftComparison(Less)},
	{"LessOrEqual", notSmooth(on2(LessOrEqual)), liftComparison(LessOrEqual)},
	{"Log", positive(on1(Log, some...)), lift1(Log)},
	{"LogSoftmax", on1(func(x *G.Node) *G.Node { return LogSoftmax(x, 1) }, graph.Shape{3, 5}, graph.Shape{2, 4, 3}), liftSoftmax(LogSoftmax)},
	{"LpNormalization", append(on1(func(x *G.Node) *G.Node { return lpNorm(x, 2, -1) }, graph.Shape{3, 4}, graph.Shape{5}),
		on1(func(x *G.Node) *G.Node { return lpNorm(x, 1, 1) }, graph.Shape{2, 3, 4})...), liftLpNorm},
	{"MatMul", []Example{
		ex(func(in []*G.Node) *G.Node { return MatMul(in[0], in[1]) }, graph.Shape{3, 4}, graph.Shape{4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMul(in[0], in[1]) }, graph.Shape{2, 3, 4}, graph.Shape{4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMul(in[0], in[1]) }, graph.Shape{2, 1, 3, 4}, graph.Shape{3, 4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMulT(in[0], in[1], false, true) }, graph.Shape{2, 3, 4}, graph.Shape{2, 5, 4}),
		ex(func(in []*G.Node) *G.Node { return MatMulT(in[0], in[1], true, false) }, graph.Shape{4, 3}, graph.Shape{4, 2}),
		ex(func(in []*G.Node) *G.Node { return MatMulT(in[0], in[1], true, true) }, graph.Shape{4, 3}, graph.Shape{2, 4}),
	}, liftMatMul},
	{"Max", onMany(Max), liftAll(Max)},
	{"MaxPool", []Example{
		onPool(MaxPool, PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}}, graph.Shape{2, 3, 4, 6}),
		onPool(MaxPool, PoolAttrs{Kernel: [2]int{3, 3}, Strides: [2]int{2, 2}, Pads: same(1)}, graph.Shape{2, 2, 7, 6}),
		onPool(MaxPool, PoolAttrs{Kernel: [2]int{2, 3}}, graph.Shape{1, 1, 4, 5}),
	}, liftMaxPool},
	{"Mean", onMany(Mean), liftAll(Mean)},
	{"Min", onMany(Min), liftAll(Min)},
	{"Mish", on1(Mish, some...), lift1(Mish)},
	{"Mul", on2(Mul), lift2(Mul)},
	{"Neg", on1(Neg, some...), lift1(Neg)},
	{"Not", notSmooth(on2(func(a, b *G.Node) *G.Node { return Not(Less(a, b)) })), lift1(Not)},
	{"Or", notSmooth(on2(func(a, b *G.Node) *G.Node { return Max(Greater(a, b), Less(a, Scalar(a, -1))) })),
		liftComparison(func(a, b *G.Node) *G.Node { return Max(a, b) })},
	{"PRelu", []Example{
		ex(func(in []*G.Node) *G.Node { return PRelu(in[0], in[1]) }, graph.Shape{2, 3, 2, 2}, graph.Shape{3, 1, 1}),
		ex(func(in []*G.Node) *G.Node { return PRelu(in[0], in[1]) }, graph.Shape{1, 5}, graph.Shape{1}),
		ex(func(in []*G.Node) *G.Node { return PRelu(in[0], in[1]) }, graph.Shape{2, 3}, graph.Shape{2, 3}),
	}, lift2(PRelu)},
	{"Pad", slices.Concat(
		on1(func(x *G.Node) *G.Node { return Pad(x, []int{0, 1}, []int{2, 0}) }, graph.Shape{2, 3}),
		on1(func(x *G.Node) *G.Node { return PadBy(x, -1.5, []int{1, 0}, []int{0, 2}) }, graph.Shape{2, 3}),
		onPadFrom("reflect"), onPadFrom("edge"), onPadFrom("wrap"),
	), liftPad},
	{"Pow", slices.Concat(
		positive(on2(PowTensor)),
		on1(func(x *G.Node) *G.Node { return Pow(x, 2) }, some...),
		on1(func(x *G.Node) *G.Node { return Pow(x, 3) }, graph.Shape{2, 3}),
		on1(func(x *G.Node) *G.Node { return Pow(x, 1) }, graph.Shape{2, 3}),
		on1(func(x *G.Node) *G.Node { return Pow(x, 0) }, graph.Shape{2, 3}),
		positive(on1(func(x *G.Node) *G.Node { return Pow(x, -0.5) }, graph.Shape{2, 3})),
	), liftPow},
	{"Reciprocal", positive(on1(Reciprocal, some...)), lift1(Reciprocal)},
	{"ReduceL1", onReduce(ReduceL1), liftReduce(ReduceL1)},
	{"ReduceL2", onReduce(ReduceL2), liftReduce(ReduceL2)},
	{"ReduceLogSum", positive(onReduce(ReduceLogSum)), liftReduce(ReduceLogSum)},
	{"ReduceLogSumExp", onReduce(ReduceLogSumExp), liftReduce(ReduceLogSumExp)},
	{"ReduceMax", onReduce(ReduceMax), liftReduce(ReduceMax)},
	{"ReduceMean", onReduce(ReduceMean), liftReduce(ReduceMean)},
	{"ReduceMin", onReduce(ReduceMin), liftReduce(ReduceMin)},
	{"ReduceSum", onReduce(ReduceSum), liftReduce(ReduceSum)},
	{"ReduceSumSquare", onReduce(ReduceSumSquare), liftReduce(ReduceSumSquare)},
	{"Relu", on1(Relu, some...), lift1(Relu)},
	{"Reshape", []Example{
		ex(func(in []*G.Node) *G.Node { return Reshape(in[0], 0, -1) }, graph.Shape{2, 3, 4}),
		ex(func(in []*G.Node) *G.Node { return Reshape(in[0], 6, 4) }, graph.Shape{2, 3, 4}),
		ex(func(in []*G.Node) *G.Node { return Reshape(in[0]) }, graph.Shape{1, 1}),
	}, liftReshape},
	{"Round", on1(Round, some...), lift1(Round)},
	{"Selu", on1(Selu, some...), liftSelu},
	{"Sigmoid", on1(Sigmoid, some...), lift1(Sigmoid)},
	{"Sign", on1(Sign, some...), lift1(Sign)},
	{"Sin", on1(Sin, some...), lift1(Sin)},
	{"Slice", []Example{
		ex(func(in []*G.Node) *G.Node { return Slice(in[0], Range{Axis: 1, From: 1, To: 3}) }, graph.Shape{2, 4, 3}),
		ex(func(in []*G.Node) *G.Node { return Slice(in[0], Range{Axis: 2, Step: 2}, Range{Axis: 3, Step: 2}) }, graph.Shape{2, 2, 4, 5}),
		ex(func(in []*G.Node) *G.Node { return Slice(in[0], Range{Axis: -1, From: 1, To: 6, Step: 3}) }, graph.Shape{2, 7}),
	}, liftSlice},
	{"Softmax", on1(func(x *G.Node) *G.Node { return Softmax(x, -1) }, graph.Shape{3, 5}, graph.Shape{2, 4, 3}), liftSoftmax(Softmax)},
	{"Softplus", on1(Softplus, some...), lift1(Softplus)},
	{"Softsign", on1(Softsign, some...), lift1(Softsign)},
	{"SpaceToDepth", on1(func(x *G.Node) *G.Node { return SpaceToDepth(x, 2) }, graph.Shape{2, 3, 4, 2}), liftSpaceToDepth},
	{"Split", []Example{
		ex(func(in []*G.Node) *G.Node { return Split(in[0], 1, 1, 3)[1] }, graph.Shape{2, 4, 3}),
		ex(func(in []*G.Node) *G.Node { return Split(in[0], -1, 2, 2, 1)[1] }, graph.Shape{1, 5}),
	}, liftSplit},
	{"Sqrt", positive(on1(Sqrt, some...)), lift1(Sqrt)},
	{"Squeeze", on1(func(x *G.Node) *G.Node { return Squeeze(x, 1, -1) }, graph.Shape{2, 1, 3, 1}), liftSqueeze},
	{"Sub", on2(Sub), lift2(Sub)},
	{"Sum", onMany(Sum), liftAll(Sum)},
	{"Tanh", on1(Tanh, some...), lift1(Tanh)},
	{"Transpose", on1(func(x *G.Node) *G.Node { return Transpose(x, 2, 0, 1) }, graph.Shape{2, 3, 4}), liftTranspose},
	{"Unsqueeze", append(on1(func(x *G.Node) *G.Node { return Unsqueeze(x, 1, -1) }, graph.Shape{2, 3}, graph.Shape{4}),
		on1(func(x *G.Node) *G.Node { return Unsqueeze(x, 0) }, graph.Shape{})...), liftUnsqueeze},
	{"Where", []Example{
		onWhere(graph.Array{Shape: graph.Shape{2, 3}, F: []float64{1, 0, 0, 1, 1, 0}}, graph.Shape{2, 3}, graph.Shape{2, 3}),
		onWhere(graph.Array{Shape: graph.Shape{3, 1}, F: []float64{1, 0, 1}}, graph.Shape{2, 1, 4}, graph.Shape{}),
		ex(func(in []*G.Node) *G.Node { return Where(Less(in[0], in[1]), in[0], in[1]) }, graph.Shape{1, 5}, graph.Shape{5}),
	}, liftWhere},
}
