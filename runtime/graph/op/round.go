package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// step is a function that is constant between its jumps; its gradient is 0 everywhere, as in PyTorch.
func step(name string, f func(x float64) float64) unary {
	return unary{name: name, f: f, grad: func(x, _, _ *G.Node) *G.Node { return zerosLike(x) }}
}

func zerosLike(x *G.Node) *G.Node { return Expand(Scalar(x, 0), graph.ShapeOf(x)) }

// Floor is the largest whole number that is not above x; its gradient is 0.
func Floor(x *G.Node) *G.Node { return graph.Apply(step("Floor", math.Floor), x) }

// Ceil is the smallest whole number that is not below x; its gradient is 0.
func Ceil(x *G.Node) *G.Node { return graph.Apply(step("Ceil", math.Ceil), x) }

// Round is the whole number nearest to x, of two the even one; its gradient is 0.
func Round(x *G.Node) *G.Node { return graph.Apply(step("Round", math.RoundToEven), x) }

// Sign is −1, 0 or 1 as x is negative, 0 or positive; its gradient is 0.
func Sign(x *G.Node) *G.Node {
	return graph.Apply(step("Sign", func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return x // 0 or NaN
	}), x)
}
