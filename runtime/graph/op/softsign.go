package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

func softsign() unary {
	return unary{name: "Softsign", f: func(x float64) float64 { return x / (1 + math.Abs(x)) },
		grad: func(x, _, dy *G.Node) *G.Node {
			d := Shift(Abs(x), 1)
			return Div(dy, Mul(d, d))
		}}
}

// Softsign is x/(1+|x|).
func Softsign(x *G.Node) *G.Node { return graph.Apply(softsign(), x) }
