package runtime

import (
	"slices"
	"strings"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// drawConv draws every attribute of a convolution for itself; one in four has channels that ONNX Runtime's blocked kernels take.
func drawConv(d dice) op.Example {
	a := op.ConvAttrs{Group: among(d, 1, 1, 1, 2, 3, 4)}
	x := graph.Shape{among(d, 1, 1, 2, 3), a.Group * (1 + d.IntN(3)), 0, 0}
	w := graph.Shape{a.Group * (1 + d.IntN(3)), x[1] / a.Group, 0, 0}
	if d.chance(0.25) {
		a.Group, x[1], w[0] = 1, among(d, 3, 16, 32), among(d, 16, 32)
		if w[1] = x[1]; x[1] == 16 && d.chance(0.3) { // depthwise
			a.Group, w[0], w[1] = 16, 16, 1
		}
	}
	for i := range 2 {
		w[2+i] = among(d, 1, 1, 2, 3, 3, 4, 5)
		a.Strides[i], a.Dilations[i] = among(d, 1, 1, 2, 3), among(d, 1, 1, 2, 3)
		a.Pads[i], a.Pads[i+2] = d.IntN(4), d.IntN(4)
		reach := a.Dilations[i]*(w[2+i]-1) + 1 - a.Pads[i] - a.Pads[i+2]
		x[2+i] = max(1, reach) + d.IntN(6)
	}
	e := op.Example{In: []graph.Shape{x, w}, Build: func(in []*G.Node) *G.Node { return op.Conv(in[0], in[1], nil, a) }}
	if d.chance(0.5) {
		e.In = append(e.In, graph.Shape{w[0]})
		e.Build = func(in []*G.Node) *G.Node { return op.Conv(in[0], in[1], in[2], a) }
	}
	return e
}

func pool(f func(x *G.Node, a op.PoolAttrs) *G.Node) func(d dice) op.Example {
	return func(d dice) op.Example {
		a := op.PoolAttrs{ExcludePad: d.chance(0.5)}
		x := graph.Shape{among(d, 1, 1, 2, 3), among(d, 1, 2, 3), 0, 0}
		for i := range 2 {
			k := 1 + d.IntN(4)
			a.Kernel[i], a.Strides[i], a.Pads[i], a.Pads[i+2] = k, 1+d.IntN(3), d.IntN(k), d.IntN(k)
			x[2+i] = max(1, k-a.Pads[i]-a.Pads[i+2]) + d.IntN(5)
		}
		return on(func(x *G.Node) *G.Node { return f(x, a) }, x)
	}
}

func drawClip(d dice) op.Example {
	lo := among(d, -1.5, -0.5, 0, 0.25)
	hi := lo + among(d, 0.25, 1, 6)
	return on(func(x *G.Node) *G.Node { return op.Clip(x, lo, hi) }, d.shape(0, 4))
}

func drawHardSigmoid(d dice) op.Example {
	a := among(d, [2]float64{1.0 / 6, 0.5}, [2]float64{0.2, 0.4}, [2]float64{0.25, 0.5})
	return on(func(x *G.Node) *G.Node { return op.HardSigmoid(x, a[0], a[1]) }, d.shape(0, 4))
}

func drawPow(d dice) op.Example {
	exponent := among(d, -2, -0.5, 0, 0.5, 1, 2, 3)
	return on(func(x *G.Node) *G.Node { return op.Pow(x, exponent) }, d.shape(0, 4))
}

func drawConcat(d dice) op.Example {
	s := d.shape(1, 4)
	axis := d.IntN(len(s))
	e := op.Example{}
	for range 1 + d.IntN(4) {
		s := s.Clone()
		s[axis] = d.size()
		e.In = append(e.In, s)
	}
	axis = d.either(axis, len(s))
	e.Build = func(in []*G.Node) *G.Node { return op.Concat(axis, in...) }
	return e
}

func drawDepthToSpace(d dice) op.Example {
	b, inner := 1+d.IntN(3), d.chance(0.5)
	x := graph.Shape{among(d, 1, 2), b * b * (1 + d.IntN(3)), 1 + d.IntN(3), 1 + d.IntN(3)}
	return on(func(x *G.Node) *G.Node { return op.DepthToSpace(x, b, inner) }, x)
}

func drawSpaceToDepth(d dice) op.Example {
	b := 1 + d.IntN(3)
	x := graph.Shape{among(d, 1, 2), 1 + d.IntN(3), b * (1 + d.IntN(3)), b * (1 + d.IntN(3))}
	return on(func(x *G.Node) *G.Node { return op.SpaceToDepth(x, b) }, x)
}

// drawEinsum has one or two operands of some axes, and a result of some of theirs or none stated.
func drawEinsum(d dice) op.Example {
	size := map[rune]int{'a': among(d, 1, 2, 3), 'b': among(d, 1, 3, 5), 'c': 2, 'd': among(d, 1, 4), 'e': 3}
	some := func(letters string) string {
		kept := []rune(letters)
		d.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
		return string(kept[:d.IntN(len(kept)+1)])
	}
	var e op.Example
	operands := []string{some("abcde"), some("abcde")}[:1+d.IntN(2)]
	all := ""
	for _, letters := range operands {
		s := graph.Shape{}
		for _, l := range letters {
			if s = append(s, size[l]); !strings.ContainsRune(all, l) {
				all += string(l)
			}
		}
		e.In = append(e.In, s)
	}
	equation := strings.Join(operands, ",")
	if d.chance(0.8) {
		equation += "->" + some(all)
	}
	e.Build = func(in []*G.Node) *G.Node { return op.Einsum(equation, in...) }
	return e
}

func drawExpand(d dice) op.Example {
	to := d.shape(0, 4)
	return on(func(x *G.Node) *G.Node { return op.Expand(x, to) }, d.stretching(to))
}

func drawExpandBatch(d dice) op.Example {
	x := d.shape(1, 4)
	x[0] = 1
	return op.Example{In: []graph.Shape{x, d.shape(1, 3)}, Wrt: 1,
		Build: func(in []*G.Node) *G.Node { return op.ExpandBatch(in[0], in[1]) }}
}

func drawGather(d dice) op.Example {
	s, at := d.shape(1, 4), d.shape(0, 2)
	axis := d.IntN(len(s))
	indices := graph.Array{Shape: at, I: make([]int64, at.Size())}
	for i := range indices.I {
		indices.I[i] = int64(d.either(d.IntN(s[axis]), s[axis]))
	}
	axis = d.either(axis, len(s))
	return on(func(x *G.Node) *G.Node { return op.Gather(x, axis, indices) }, s)
}

func drawGemm(d dice) op.Example {
	n, in, out := d.size(), d.size(), d.size()
	return op.Example{In: []graph.Shape{{n, in}, {out, in}, {out}},
		Build: func(in []*G.Node) *G.Node { return op.Gemm(in[0], in[1], in[2]) }}
}

func drawMatMul(d dice) op.Example {
	m, k, n, ta, tb := d.size(), d.size(), d.size(), d.chance(0.5), d.chance(0.5)
	batch := d.shape(0, 2)
	a, b := append(d.stretching(batch), m, k), append(d.stretching(batch), k, n)
	for s, t := range map[*graph.Shape]bool{&a: ta, &b: tb} {
		if last := len(*s) - 1; t {
			(*s)[last], (*s)[last-1] = (*s)[last-1], (*s)[last]
		}
	}
	return op.Example{In: []graph.Shape{a, b}, Build: func(in []*G.Node) *G.Node { return op.MatMulT(in[0], in[1], ta, tb) }}
}

func drawLpNorm(d dice) op.Example {
	s := d.shape(1, 4)
	attrs := map[string]any{"p": 1 + d.IntN(2), "axis": d.axis(len(s))}
	return on(func(x *G.Node) *G.Node {
		return op.Lift(&op.Node{Op: "LpNormalization", Opset: 17, Attrs: attrs, In: []op.Input{{Tensor: x}}})[0]
	}, s)
}

func drawPRelu(d dice) op.Example {
	s := d.shape(0, 4)
	return op.Example{In: []graph.Shape{s, d.stretching(s)}, Build: func(in []*G.Node) *G.Node { return op.PRelu(in[0], in[1]) }}
}

// drawPad pads by a number or, by less than an axis is long, by the tensor's own elements.
func drawPad(d dice) op.Example {
	s := d.shape(0, 4)
	before, after := make([]int, len(s)), make([]int, len(s))
	mode := among(d, "constant", "constant", "constant", "reflect", "edge", "wrap")
	for i, n := range s {
		if mode == "constant" {
			n = 3
		}
		before[i], after[i] = d.IntN(n), d.IntN(n)
	}
	if mode == "constant" {
		by := among(d, 0, 0, -1.5)
		return on(func(x *G.Node) *G.Node { return op.PadBy(x, by, before, after) }, s)
	}
	return on(func(x *G.Node) *G.Node { return op.PadFrom(x, mode, before, after) }, s)
}

// drawReshape spreads the prime factors of the size over new axes; some are then left for Reshape to work out.
func drawReshape(d dice) op.Example {
	s := d.shape(0, 4)
	rank := d.IntN(5)
	if s.Size() > 1 {
		rank = max(rank, 1)
	}
	to := slices.Repeat([]int{1}, rank)
	for rest, p := s.Size(), 2; rest > 1; {
		if rest%p != 0 {
			p++
			continue
		}
		to[d.IntN(rank)] *= p
		rest /= p
	}
	for i := range to {
		if i < len(s) && to[i] == s[i] && d.chance(0.5) {
			to[i] = 0
		}
	}
	if rank > 0 && d.chance(0.5) {
		to[d.IntN(rank)] = -1
	}
	return on(func(x *G.Node) *G.Node { return op.Reshape(x, to...) }, s)
}

func drawSlice(d dice) op.Example {
	s := d.shape(1, 4)
	var ranges []op.Range
	for _, axis := range d.Perm(len(s))[:1+d.IntN(len(s))] {
		from := d.IntN(s[axis])
		r := op.Range{Axis: d.either(axis, len(s)), From: from, To: from + 1 + d.IntN(s[axis]-from), Step: d.IntN(4)}
		if d.chance(0.3) {
			r.To = 0
		}
		ranges = append(ranges, r)
	}
	return on(func(x *G.Node) *G.Node { return op.Slice(x, ranges...) }, s)
}

func drawSplit(d dice) op.Example {
	s := d.shape(1, 4)
	axis := d.IntN(len(s))
	var sizes []int
	for rest := s[axis]; rest > 0; rest -= sizes[len(sizes)-1] {
		sizes = append(sizes, 1+d.IntN(rest))
	}
	part := d.IntN(len(sizes))
	axis = d.either(axis, len(s))
	return on(func(x *G.Node) *G.Node { return op.Split(x, axis, sizes...)[part] }, s)
}

func drawSqueeze(d dice) op.Example {
	s := d.shape(1, 5)
	some := d.Perm(len(s))[:1+d.IntN(len(s))]
	for i, axis := range some {
		s[axis] = 1
		some[i] = d.either(axis, len(s))
	}
	return on(func(x *G.Node) *G.Node { return op.Squeeze(x, some...) }, s)
}

func drawUnsqueeze(d dice) op.Example {
	s := d.shape(0, 3)
	n := 1 + d.IntN(3)
	some := d.Perm(len(s) + n)[:n]
	for i, axis := range some {
		some[i] = d.either(axis, len(s)+n)
	}
	return on(func(x *G.Node) *G.Node { return op.Unsqueeze(x, some...) }, s)
}

func drawTranspose(d dice) op.Example {
	s := d.shape(1, 5)
	perm := d.Perm(len(s))
	return on(func(x *G.Node) *G.Node { return op.Transpose(x, perm...) }, s)
}

// drawWhere chooses by a constant or by a comparison.
func drawWhere(d dice) op.Example {
	if d.chance(0.5) {
		return ofTwo(func(a, b *G.Node) *G.Node { return op.Where(op.Less(a, b), a, b) })(d)
	}
	s := d.broadcasting(3)
	cond := graph.Zeros(s[2])
	for i := range cond.F {
		cond.F[i] = float64(d.IntN(2))
	}
	return op.Example{In: s[:2], Build: func(in []*G.Node) *G.Node { return op.Where(graph.Const(in[0], cond), in[0], in[1]) }}
}

// drawBatchNorm is of the statistics that it is given.
func drawBatchNorm(d dice) op.Example {
	x := d.shape(2, 2)
	if d.chance(0.7) {
		x = d.shape(4, 4)
	}
	c, eps := graph.Shape{x[1]}, among(d, 1e-5, 1e-3)
	return op.Example{In: []graph.Shape{x, c, c, c, c}, Wrt: 3,
		Build: func(in []*G.Node) *G.Node { return op.BatchNorm(in[0], in[1], in[2], in[3], in[4], eps) }}
}

// drawBatchNormTraining has several elements a channel: of one, the gradient is what rounding leaves of a difference.
func drawBatchNormTraining(d dice) op.Example {
	e := drawBatchNorm(d)
	x, eps, output := e.In[0], among(d, 1e-5, 1e-3), among(d, 0, 0, 1, 2)
	x[0] = max(x[0], 4)
	e.In = e.In[:3]
	if output > 0 {
		e.Wrt = -1
	}
	e.Build = func(in []*G.Node) *G.Node {
		y, mean, variance := op.BatchNormTraining(in[0], in[1], in[2], eps)
		return []*G.Node{y, mean, variance}[output]
	}
	return e
}

func drawGroupNorm(d dice) op.Example {
	x := d.shape(3, 5)
	groups := 1
	for g := range x[1] {
		if x[1]%(g+1) == 0 && d.chance(0.5) {
			groups = g + 1
		}
	}
	c := graph.Shape{x[1]}
	return op.Example{In: []graph.Shape{x, c, c},
		Build: func(in []*G.Node) *G.Node { return op.GroupNorm(in[0], in[1], in[2], groups, 1e-5) }}
}

func drawInstanceNorm(d dice) op.Example {
	x := d.shape(3, 5)
	c := graph.Shape{x[1]}
	return op.Example{In: []graph.Shape{x, c, c},
		Build: func(in []*G.Node) *G.Node { return op.InstanceNorm(in[0], in[1], in[2], 1e-5) }}
}

func drawLayerNormGemm(d dice) op.Example {
	x, out := d.shape(2, 4), d.size()
	in := x[len(x)-1]
	apply, w := op.LayerNormGemm, graph.Shape{out, in}
	if d.chance(0.5) {
		apply, w = op.LayerNormMatMul, graph.Shape{in, out}
	}
	return op.Example{In: []graph.Shape{x, {in}, {in}, w, {out}},
		Build: func(in []*G.Node) *G.Node { return apply(in[0], in[1], in[2], in[3], in[4], 1e-5) }}
}

// drawLayerNorm has a scale and a bias, a scale alone, or neither.
func drawLayerNorm(d dice) op.Example {
	x := d.shape(1, 4)
	axis := d.IntN(len(x))
	each := x[axis:]
	axis = d.either(axis, len(x))
	e := op.Example{In: []graph.Shape{x, each, each}[:1+d.IntN(3)]}
	e.Build = func(in []*G.Node) *G.Node {
		given := append(slices.Clone(in), nil, nil)
		return op.LayerNorm(in[0], given[1], given[2], axis, 1e-5)
	}
	return e
}
