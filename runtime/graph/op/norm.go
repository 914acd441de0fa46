package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// The reductions below are made of others. They reduce over axes, all of them where none is given; keep leaves each as a
// size of 1.

// ReduceL1 is Σ|x|.
func ReduceL1(x *G.Node, axes []int, keep bool) *G.Node { return ReduceSum(Abs(x), axes, keep) }

// ReduceL2 is √Σx²; it has no gradient where that is 0.
func ReduceL2(x *G.Node, axes []int, keep bool) *G.Node { return Sqrt(ReduceSumSquare(x, axes, keep)) }

// ReduceSumSquare is Σx².
func ReduceSumSquare(x *G.Node, axes []int, keep bool) *G.Node {
	return ReduceSum(Mul(x, x), axes, keep)
}

// ReduceLogSum is log Σx.
func ReduceLogSum(x *G.Node, axes []int, keep bool) *G.Node { return Log(ReduceSum(x, axes, keep)) }

// ReduceLogSumExp is log Σeˣ, finite for finite x of any size.
func ReduceLogSumExp(x *G.Node, axes []int, keep bool) *G.Node {
	top := StopGradient(ReduceMax(x, axes, true))
	y := Add(Log(ReduceSum(Exp(Sub(x, top)), axes, true)), top)
	if keep || len(graph.ShapeOf(x)) == 0 {
		return y
	}
	if len(axes) == 0 {
		return Reshape(y)
	}
	return Squeeze(y, axes...)
}

// ReduceMin is the minimum. Where several elements are the minimum, each gets the gradient.
func ReduceMin(x *G.Node, axes []int, keep bool) *G.Node { return Neg(ReduceMax(Neg(x), axes, keep)) }

// GlobalMaxPool is the maximum over all axes of x [N,C,…] after the second, kept as sizes of 1.
func GlobalMaxPool(x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	if len(s) < 3 {
		graph.Fail("GlobalMaxPool", one(s), "x must be [N,C,…]")
	}
	var axes []int
	for i := 2; i < len(s); i++ {
		axes = append(axes, i)
	}
	return ReduceMax(x, axes, true)
}

// lpNorm is x over its norm along an axis; p is 1 or 2.
func lpNorm(x *G.Node, p, axis int) *G.Node {
	axes := []int{axisOf("LpNormalization", axis, graph.ShapeOf(x))}
	switch p {
	case 1:
		return Div(x, ReduceL1(x, axes, true))
	case 2:
		return Div(x, ReduceL2(x, axes, true))
	}
	graph.Fail("LpNormalization", one(graph.ShapeOf(x)), "the norm of p = %d is not supported", p)
	return nil
}

func liftLpNorm(n *Node) []*G.Node {
	return []*G.Node{lpNorm(n.X(0), n.Int("p", 2), n.Int("axis", -1))}
}
