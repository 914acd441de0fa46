package runtime

import (
	"math"
	"math/rand/v2"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// dice draws shapes and attributes, small ones: what goes wrong with shapes goes wrong with small ones.
type dice struct{ *rand.Rand }

func (d dice) chance(p float64) bool { return d.Float64() < p }

// among is one of the values.
func among[T any](d dice, values ...T) T { return values[d.IntN(len(values))] }

// size is of one axis: odd more often than even, and 1 often.
func (d dice) size() int { return among(d, 1, 1, 2, 3, 4, 5, 7) }

// most is how many elements a tensor of shape has at most.
const most = 150

// shape has from least to greatest axes.
func (d dice) shape(least, greatest int) graph.Shape {
	s := make(graph.Shape, least+d.IntN(greatest-least+1))
	for {
		for i := range s {
			s[i] = d.size()
		}
		if s.Size() <= most {
			return s
		}
	}
}

// stretching is a shape that stretches to s: axes are missing from the front, and some others are 1.
func (d dice) stretching(s graph.Shape) graph.Shape {
	t := s[d.IntN(len(s)+1)*d.IntN(2):].Clone()
	for i := range t {
		if d.chance(0.3) {
			t[i] = 1
		}
	}
	return t
}

// broadcasting are n shapes that stretch to one another.
func (d dice) broadcasting(n int) []graph.Shape {
	whole := d.shape(0, 4)
	shapes := make([]graph.Shape, n)
	for i := range shapes {
		shapes[i] = d.stretching(whole)
	}
	return shapes
}

// either is an axis counted from the start or from the end.
func (d dice) either(axis, rank int) int { return axis - rank*d.IntN(2) }

// axis is one of rank axes.
func (d dice) axis(rank int) int { return d.either(d.IntN(rank), rank) }

// axes are some of rank axes, none or all among them, in any order.
func (d dice) axes(rank int) []int {
	some := d.Perm(rank)[:d.IntN(rank+1)]
	for i := range some {
		some[i] = d.either(some[i], rank)
	}
	return some
}

// draws make an example of each row of op.Table. Their inputs lie where their gradients are smooth; see values.
var draws = map[string]func(d dice) op.Example{
	"Abs":               ofOne(op.Abs),
	"Add":               ofTwo(op.Add),
	"And":               still(ofTwo(func(a, b *G.Node) *G.Node { return op.Mul(op.Greater(a, b), op.Less(a, op.Scalar(a, 1))) })),
	"AveragePool":       pool(op.AveragePool),
	"Cast":              ofOne(same),
	"Ceil":              ofOne(op.Ceil),
	"Celu":              alpha(op.Celu),
	"Clip":              drawClip,
	"Concat":            drawConcat,
	"Conv":              drawConv,
	"Cos":               ofOne(op.Cos),
	"DepthToSpace":      drawDepthToSpace,
	"Div":               positive(ofTwo(op.Div)),
	"Dropout":           ofOne(same),
	"Einsum":            drawEinsum,
	"Elu":               alpha(op.Elu),
	"Equal":             still(ofTwo(op.Equal)),
	"Erf":               ofOne(op.Erf),
	"Exp":               ofOne(op.Exp),
	"Expand":            drawExpand,
	"ExpandBatch":       drawExpandBatch,
	"Flatten":           shaped(op.Flatten, 1, 4),
	"Floor":             ofOne(op.Floor),
	"Gather":            drawGather,
	"Gelu":              either(ofOne(op.Gelu), ofOne(op.GeluTanh)),
	"Gemm":              drawGemm,
	"GlobalAveragePool": shaped(op.GlobalAveragePool, 4, 4),
	"GlobalMaxPool":     shaped(op.GlobalMaxPool, 3, 5),
	"Greater":           still(ofTwo(op.Greater)),
	"GreaterOrEqual":    still(ofTwo(op.GreaterOrEqual)),
	"HardSigmoid":       wide(drawHardSigmoid),
	"HardSwish":         wide(ofOne(op.HardSwish)),
	"Identity":          ofOne(same),
	"LeakyRelu":         alpha(op.LeakyRelu),
	"Less":              still(ofTwo(op.Less)),
	"LessOrEqual":       still(ofTwo(op.LessOrEqual)),
	"Log":               positive(ofOne(op.Log)),
	"LogSoftmax":        along(op.LogSoftmax),
	"LpNormalization":   drawLpNorm,
	"MatMul":            drawMatMul,
	"Max":               ofMany(op.Max),
	"MaxPool":           pool(op.MaxPool),
	"Mean":              ofMany(op.Mean),
	"Min":               ofMany(op.Min),
	"Mish":              ofOne(op.Mish),
	"Mul":               ofTwo(op.Mul),
	"Neg":               ofOne(op.Neg),
	"Not":               still(ofTwo(func(a, b *G.Node) *G.Node { return op.Not(op.Less(a, b)) })),
	"Or":                still(ofTwo(func(a, b *G.Node) *G.Node { return op.Max(op.Greater(a, b), op.Less(a, op.Scalar(a, -1))) })),
	"PRelu":             drawPRelu,
	"Pad":               drawPad,
	"Pow":               positive(either(ofTwo(op.PowTensor), drawPow)),
	"Reciprocal":        positive(ofOne(op.Reciprocal)),
	"ReduceL1":          reduction(op.ReduceL1),
	"ReduceL2":          reduction(op.ReduceL2),
	"ReduceLogSum":      positive(reduction(op.ReduceLogSum)),
	"ReduceLogSumExp":   reduction(op.ReduceLogSumExp),
	"ReduceMax":         reduction(op.ReduceMax),
	"ReduceMean":        reduction(op.ReduceMean),
	"ReduceMin":         reduction(op.ReduceMin),
	"ReduceSum":         reduction(op.ReduceSum),
	"ReduceSumSquare":   reduction(op.ReduceSumSquare),
	"Relu":              ofOne(op.Relu),
	"Reshape":           drawReshape,
	"Round":             ofOne(op.Round),
	"Selu":              ofOne(op.Selu),
	"Sigmoid":           ofOne(op.Sigmoid),
	"Sign":              ofOne(op.Sign),
	"Sin":               ofOne(op.Sin),
	"Slice":             drawSlice,
	"Softmax":           along(op.Softmax),
	"Softplus":          ofOne(op.Softplus),
	"Softsign":          ofOne(op.Softsign),
	"SpaceToDepth":      drawSpaceToDepth,
	"Split":             drawSplit,
	"Sqrt":              positive(ofOne(op.Sqrt)),
	"Squeeze":           drawSqueeze,
	"Sub":               ofTwo(op.Sub),
	"Sum":               ofMany(op.Sum),
	"Tanh":              ofOne(op.Tanh),
	"Transpose":         drawTranspose,
	"Unsqueeze":         drawUnsqueeze,
	"Where":             drawWhere,

	"BatchNormalization":         positive(drawBatchNorm),
	"BatchNormalizationTraining": drawBatchNormTraining,
	"GroupNormalization":         drawGroupNorm,
	"InstanceNormalization":      drawInstanceNorm,
	"LayerNormGemm":              drawLayerNormGemm,
	"LayerNormalization":         drawLayerNorm,
}

func same(x *G.Node) *G.Node { return x }

// on is an example of a function of one tensor.
func on(f func(x *G.Node) *G.Node, x graph.Shape) op.Example {
	return op.Example{In: []graph.Shape{x}, Build: func(in []*G.Node) *G.Node { return f(in[0]) }}
}

func shaped(f func(x *G.Node) *G.Node, least, greatest int) func(d dice) op.Example {
	return func(d dice) op.Example { return on(f, d.shape(least, greatest)) }
}

func ofOne(f func(x *G.Node) *G.Node) func(d dice) op.Example { return shaped(f, 0, 4) }

// alpha draws the parameter of a function that bends at 0.
func alpha(f func(x *G.Node, alpha float64) *G.Node) func(d dice) op.Example {
	return func(d dice) op.Example {
		a := among(d, 0.01, 0.5, 1, 1.5)
		return on(func(x *G.Node) *G.Node { return f(x, a) }, d.shape(0, 4))
	}
}

func along(f func(x *G.Node, axis int) *G.Node) func(d dice) op.Example {
	return func(d dice) op.Example {
		s := d.shape(1, 4)
		axis := d.axis(len(s))
		return on(func(x *G.Node) *G.Node { return f(x, axis) }, s)
	}
}

func ofTwo(f func(a, b *G.Node) *G.Node) func(d dice) op.Example {
	return func(d dice) op.Example {
		return op.Example{In: d.broadcasting(2), Build: func(in []*G.Node) *G.Node { return f(in[0], in[1]) }}
	}
}

func ofMany(f func(xs ...*G.Node) *G.Node) func(d dice) op.Example {
	return func(d dice) op.Example {
		return op.Example{In: d.broadcasting(1 + d.IntN(4)), Build: func(in []*G.Node) *G.Node { return f(in...) }}
	}
}

func reduction(f func(x *G.Node, axes []int, keep bool) *G.Node) func(d dice) op.Example {
	return func(d dice) op.Example {
		s := d.shape(0, 4)
		axes, keep := d.axes(len(s)), d.chance(0.5)
		return on(func(x *G.Node) *G.Node { return f(x, axes, keep) }, s)
	}
}

func either(first, second func(d dice) op.Example) func(d dice) op.Example {
	return func(d dice) op.Example { return among(d, first, second)(d) }
}

// still is for what has no gradient.
func still(draw func(d dice) op.Example) func(d dice) op.Example {
	return func(d dice) op.Example {
		e := draw(d)
		e.Wrt = -1
		return e
	}
}

func positive(draw func(d dice) op.Example) func(d dice) op.Example {
	return func(d dice) op.Example {
		e := draw(d)
		e.Lo, e.Hi = 0.25, 2.25
		return e
	}
}

// wide is for what bends at ±3.
func wide(draw func(d dice) op.Example) func(d dice) op.Example {
	return func(d dice) op.Example {
		e := draw(d)
		e.Lo, e.Hi = -4, 4
		return e
	}
}

// values are an example's inputs. All are distinct, so that no maximum is shared, and none is a multiple of 1/16, where
// functions of the table bend or jump; whole ones are small whole numbers, so that there are ties and zeros. All are exact
// in float32.
func (d dice) values(e op.Example, whole bool) []graph.Array {
	lo, hi := e.Lo, e.Hi
	if lo == 0 && hi == 0 {
		lo, hi = -2, 2
	}
	in := make([]graph.Array, len(e.In))
	for k, s := range e.In {
		in[k] = graph.Zeros(s)
		cells := 64
		for cells < s.Size() {
			cells *= 2
		}
		at := d.Perm(cells)
		for i := range in[k].F {
			const parts = 16 // of a cell, of which input k has its own
			in[k].F[i] = lo + (hi-lo)*(float64(at[i])+(2*float64(k)+1)/parts)/float64(cells)
			if whole {
				in[k].F[i] = max(math.Trunc(in[k].F[i]), math.Ceil(lo))
			}
		}
	}
	return in
}
