package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

func reciprocal() unary {
	return unary{name: "Reciprocal", f: func(x float64) float64 { return 1 / x },
		grad: func(_, y, dy *G.Node) *G.Node { return Neg(Mul(dy, Mul(y, y))) }}
}

// Reciprocal is 1/x.
func Reciprocal(x *G.Node) *G.Node { return graph.Apply(reciprocal(), x) }
