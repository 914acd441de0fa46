package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Gelu is ½x(1+erf(x/√2)), the exact form (Hendrycks and Gimpel 2016, arXiv:1606.08415). Exported, it is the five nodes that PyTorch
// writes; its gradient keeps x alone.
func Gelu(x *G.Node) *G.Node { return GeluOver(x, math.Sqrt2) }

// GeluOver is ½x(1+erf(x/root)): Gelu where root is √2 as a file has rounded it.
func GeluOver(x *G.Node, root float64) *G.Node { return graph.Apply(gelu{root: root}, x) }

type gelu struct {
	smooth
	root float64
}

func (gelu) Name() string { return "Gelu" }

func (gelu) Infer(in []graph.Shape) []graph.Shape {
	arity("Gelu", in, 1)
	return in
}

func (o gelu) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 { return x * upto(x/o.root) })}
}

// upto is ½(1+erf(u)), with u = x/√2 the distribution function Φ(x) of the standard normal distribution.
func upto(u float64) float64 { return 0.5 * (1 + math.Erf(u)) }

func (o gelu) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Mul(dy, graph.Apply(geluSlope{o.root}, in[0]))}
}

func (o gelu) Lower(e graph.Emitter, in []graph.Operand) []string {
	x := in[0]
	if e.Target().Fused {
		return []string{e.Emit("com.microsoft:Gelu", x.Shape, names(in))}
	}
	twice := emitScalar(e, "Add", emitErf(e, emitScalar(e, "Mul", x, 1/o.root)), 1)
	y := graph.Operand{Name: e.Emit("Mul", x.Shape, []string{x.Name, twice.Name}), Shape: x.Shape}
	return []string{emitScalar(e, "Mul", y, 0.5).Name}
}

// geluSlope is the derivative of Gelu, Φ(x) + xφ(x) with φ the density of the standard normal distribution. It has no
// gradient itself.
type geluSlope struct{ root float64 }

func (geluSlope) Name() string                         { return "GeluSlope" }
func (geluSlope) Infer(in []graph.Shape) []graph.Shape { return in }

func (o geluSlope) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 {
		u := x / o.root
		return upto(u) + u*math.Exp(-u*u)/math.Sqrt(math.Pi)
	})}
}

// Lower makes, with u = x/√2, Φ = ½erf(u) + ½, which no limit of HardSigmoid touches, and xφ = u·exp(−u² − log√π): each pass over
// the tensor takes as long as another, and there are eight.
func (o geluSlope) Lower(e graph.Emitter, in []graph.Operand) []string {
	s := in[0].Shape
	u := emitScalar(e, "Mul", in[0], 1/o.root)
	half := e.Emit("HardSigmoid", s, []string{emitErf(e, u).Name}, graph.Attr{Name: "alpha", Value: float32(0.5)}, graph.Attr{Name: "beta", Value: float32(0.5)})
	square := e.Emit("Mul", s, []string{u.Name, u.Name})
	exponent := e.Emit("Sub", s, []string{e.Const(graph.Scalar(float32(-0.5 * math.Log(math.Pi)))), square})
	at := e.Emit("Mul", s, []string{u.Name, e.Emit("Exp", s, []string{exponent})})
	return []string{e.Emit("Add", s, []string{half, at})}
}

func emitErf(e graph.Emitter, x graph.Operand) graph.Operand {
	return graph.Operand{Name: e.Emit("Erf", x.Shape, []string{x.Name}), Shape: x.Shape}
}

// emitScalar is x and a constant under an operator.
func emitScalar(e graph.Emitter, op string, x graph.Operand, v float64) graph.Operand {
	return graph.Operand{Name: e.Emit(op, x.Shape, []string{x.Name, e.Const(graph.Scalar(float32(v)))}), Shape: x.Shape}
}
