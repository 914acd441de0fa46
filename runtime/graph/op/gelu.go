package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Gelu is ½x(1+erf(x/√2)), the exact form (Hendrycks and Gimpel 2016, arXiv:1606.08415). Exported, it is the five nodes that PyTorch
// writes; its gradient keeps x alone.
func Gelu(x *G.Node) *G.Node { return graph.Apply(gelu{}, x) }

type gelu struct{ smooth }

func (gelu) Name() string { return "Gelu" }

func (gelu) Infer(in []graph.Shape) []graph.Shape {
	arity("Gelu", in, 1)
	return in
}

func (gelu) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 { return x * normal(x) })}
}

// normal is the distribution function Φ of the standard normal distribution.
func normal(x float64) float64 { return 0.5 * (1 + math.Erf(x/math.Sqrt2)) }

func (gelu) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Mul(dy, graph.Apply(geluSlope{}, in[0]))}
}

func (gelu) Lower(e graph.Emitter, in []graph.Operand) []string {
	x := in[0]
	if e.Target().Fused {
		return []string{e.Emit("com.microsoft:Gelu", x.Shape, names(in))}
	}
	twice := emitScalar(e, "Add", emitErf(e, emitScalar(e, "Mul", x, 1/math.Sqrt2)), 1)
	y := graph.Operand{Name: e.Emit("Mul", x.Shape, []string{x.Name, twice.Name}), Shape: x.Shape}
	return []string{emitScalar(e, "Mul", y, 0.5).Name}
}

// geluSlope is the derivative of Gelu, Φ(x) + xφ(x) with φ the density of the standard normal distribution. It has no
// gradient itself.
type geluSlope struct{}

func (geluSlope) Name() string                         { return "GeluSlope" }
func (geluSlope) Infer(in []graph.Shape) []graph.Shape { return in }

func (geluSlope) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 {
		return normal(x) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	})}
}

// Lower makes, with u = x/√2, Φ = ½erf(u) + ½, which no limit of HardSigmoid touches, and xφ = u·exp(−u² − log√π): each pass over
// the tensor takes as long as another, and there are eight.
func (geluSlope) Lower(e graph.Emitter, in []graph.Operand) []string {
	s := in[0].Shape
	u := emitScalar(e, "Mul", in[0], 1/math.Sqrt2)
	upto := e.Emit("HardSigmoid", s, []string{emitErf(e, u).Name}, graph.Attr{Name: "alpha", Value: float32(0.5)}, graph.Attr{Name: "beta", Value: float32(0.5)})
	square := e.Emit("Mul", s, []string{u.Name, u.Name})
	exponent := e.Emit("Sub", s, []string{e.Const(graph.Scalar(float32(-0.5 * math.Log(math.Pi)))), square})
	at := e.Emit("Mul", s, []string{u.Name, e.Emit("Exp", s, []string{exponent})})
	return []string{e.Emit("Add", s, []string{upto, at})}
}

func emitErf(e graph.Emitter, x graph.Operand) graph.Operand {
	return graph.Operand{Name: e.Emit("Erf", x.Shape, []string{x.Name}), Shape: x.Shape}
}

// emitScalar is x and a constant under an operator.
func emitScalar(e graph.Emitter, op string, x graph.Operand, v float64) graph.Operand {
	return graph.Operand{Name: e.Emit(op, x.Shape, []string{x.Name, e.Const(graph.Scalar(float32(v)))}), Shape: x.Shape}
}
