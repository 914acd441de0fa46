package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Gelu is ½x(1+erf(x/√2)), the exact form (Hendrycks and Gimpel 2016, arXiv:1606.08415). Exported, it is the five nodes that PyTorch
// writes.
func Gelu(x *G.Node) *G.Node { return GeluOver(x, math.Sqrt2) }

// GeluOver is ½x(1+erf(x/root)): Gelu where root is √2 as a file has rounded it.
func GeluOver(x *G.Node, root float64) *G.Node { return graph.Apply(gelu{root: root}, x) }

// gelu is x·Φ(x), Φ the distribution function of the standard normal distribution. Its outputs after the first, for the gradient, are
// u = x/√2 and Φ(x) = ½(1+erf(u)).
type gelu struct {
	smooth
	root float64
}

func (gelu) Name() string { return "Gelu" }

func (gelu) Infer(in []graph.Shape) []graph.Shape {
	arity("Gelu", in, 1)
	return []graph.Shape{in[0], in[0], in[0]}
}

func (o gelu) Eval(in []graph.Array) []graph.Array {
	u := mapped(in[0], func(x float64) float64 { return x / o.root })
	upto := mapped(u, func(u float64) float64 { return 0.5 * (1 + math.Erf(u)) })
	y := graph.Zeros(in[0].Shape)
	for i, x := range in[0].F {
		y.F[i] = x * upto.F[i]
	}
	return []graph.Array{y, u, upto}
}

func (o gelu) Grad(_ []*G.Node, y, dy *G.Node) []*G.Node {
	return []*G.Node{Mul(dy, graph.Apply(geluSlope{}, graph.Output(y, 1), graph.Output(y, 2)))}
}

// Lower makes Φ = ½erf(u) + ½ where it is read, which no limit of HardSigmoid touches: each pass over a tensor takes as long as another.
func (o gelu) Lower(e graph.Emitter, in []graph.Operand) []string {
	x := in[0]
	if !e.Reads(1) && e.Target().Fused {
		return []string{e.Emit("com.microsoft:Gelu", x.Shape, names(in))}
	}
	u := emitScalar(e, "Mul", x, 1/o.root)
	erf := graph.Operand{Name: e.Emit("Erf", x.Shape, []string{u.Name}), Shape: x.Shape}
	if e.Reads(1) {
		half := graph.Attr{Name: "beta", Value: float32(0.5)}
		upto := e.Emit("HardSigmoid", x.Shape, []string{erf.Name}, graph.Attr{Name: "alpha", Value: float32(0.5)}, half)
		return []string{e.Emit("Mul", x.Shape, []string{x.Name, upto}), u.Name, upto}
	}
	y := graph.Operand{Name: e.Emit("Mul", x.Shape, []string{x.Name, emitScalar(e, "Add", erf, 1).Name}), Shape: x.Shape}
	return []string{emitScalar(e, "Mul", y, 0.5).Name}
}

// geluSlope is the derivative of Gelu, Φ(x) + xφ(x) with φ the density of the standard normal distribution, of x/√2 and Φ(x). It has no
// gradient itself.
type geluSlope struct{}

func (geluSlope) Name() string                         { return "GeluSlope" }
func (geluSlope) Infer(in []graph.Shape) []graph.Shape { return in[:1] }

func (geluSlope) Eval(in []graph.Array) []graph.Array {
	u, upto := in[0], in[1]
	slope := graph.Zeros(u.Shape)
	for i, u := range u.F {
		slope.F[i] = upto.F[i] + u*math.Exp(-u*u)/math.Sqrt(math.Pi)
	}
	return []graph.Array{slope}
}

// Lower makes xφ = u·exp(−u² − log√π).
func (geluSlope) Lower(e graph.Emitter, in []graph.Operand) []string {
	u, upto, s := in[0].Name, in[1].Name, in[0].Shape
	square := e.Emit("Mul", s, []string{u, u})
	exponent := e.Emit("Sub", s, []string{e.Const(graph.Scalar(float32(-0.5 * math.Log(math.Pi)))), square})
	at := e.Emit("Mul", s, []string{u, e.Emit("Exp", s, []string{exponent})})
	return []string{e.Emit("Add", s, []string{upto, at})}
}

// emitScalar is x and a constant under an operator.
func emitScalar(e graph.Emitter, op string, x graph.Operand, v float64) graph.Operand {
	return graph.Operand{Name: e.Emit(op, x.Shape, []string{x.Name, e.Const(graph.Scalar(float32(v)))}), Shape: x.Shape}
}
