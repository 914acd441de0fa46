package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

func sin() unary {
	return unary{name: "Sin", f: math.Sin,
		grad: func(x, _, dy *G.Node) *G.Node { return Mul(dy, Cos(x)) }}
}

func cos() unary {
	return unary{name: "Cos", f: math.Cos,
		grad: func(x, _, dy *G.Node) *G.Node { return Neg(Mul(dy, Sin(x))) }}
}

// Sin is the sine of x in radians.
func Sin(x *G.Node) *G.Node { return graph.Apply(sin(), x) }

// Cos is the cosine of x in radians.
func Cos(x *G.Node) *G.Node { return graph.Apply(cos(), x) }
