package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// unary is an elementwise function of one input of any shape.
type unary struct {
	smooth
	name string
	f    func(x float64) float64
	// grad gives the input's gradient from input x, output y and the output's gradient dy.
	grad func(x, y, dy *G.Node) *G.Node
}

func (u unary) Name() string { return u.name }

func (u unary) Infer(in []graph.Shape) []graph.Shape {
	arity(u.name, in, 1)
	return in
}

func (u unary) Eval(in []graph.Array) []graph.Array { return []graph.Array{mapped(in[0], u.f)} }

func (u unary) Grad(in []*G.Node, out, dout *G.Node) []*G.Node {
	return []*G.Node{u.grad(in[0], out, dout)}
}

func (u unary) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit(u.name, in[0].Shape, names(in))}
}

func mapped(x graph.Array, f func(float64) float64) graph.Array {
	y := graph.Zeros(x.Shape)
	for i, v := range x.F {
		y.F[i] = f(v)
	}
	return y
}

// The functions are made by functions, for their gradients refer to one another.

func relu() unary {
	return unary{name: "Relu", f: func(x float64) float64 { return max(x, 0) },
		grad: func(_, y, dy *G.Node) *G.Node { return Mul(dy, above(y, 0)) }} // of y, so that nothing needs x any more
}

func sigmoid() unary {
	return unary{name: "Sigmoid", f: func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
		grad: func(_, y, dy *G.Node) *G.Node { return Mul(dy, Mul(y, Sub(Scalar(y, 1), y))) }}
}

func tanh() unary {
	return unary{name: "Tanh", f: math.Tanh,
		grad: func(_, y, dy *G.Node) *G.Node { return Mul(dy, Sub(Scalar(y, 1), Mul(y, y))) }}
}

func exp() unary {
	return unary{name: "Exp", f: math.Exp,
		grad: func(_, y, dy *G.Node) *G.Node { return Mul(dy, y) }}
}

func log() unary {
	return unary{name: "Log", f: math.Log,
		grad: func(x, _, dy *G.Node) *G.Node { return Div(dy, x) }}
}

func sqrt() unary {
	return unary{name: "Sqrt", f: math.Sqrt,
		grad: func(_, y, dy *G.Node) *G.Node { return Div(Scale(dy, 0.5), y) }}
}

func neg() unary {
	return unary{name: "Neg", f: func(x float64) float64 { return -x },
		grad: func(_, _, dy *G.Node) *G.Node { return Neg(dy) }}
}

func abs() unary {
	return unary{name: "Abs", f: math.Abs,
		grad: func(x, _, dy *G.Node) *G.Node { return Mul(dy, Shift(Scale(above(x, 0), 2), -1)) }}
}

func erf() unary {
	return unary{name: "Erf", f: math.Erf,
		grad: func(x, _, dy *G.Node) *G.Node {
			return Mul(dy, Scale(Exp(Neg(Mul(x, x))), 2/math.Sqrt(math.Pi)))
		}}
}

func softplus() unary {
	return unary{name: "Softplus", f: func(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) },
		grad: func(x, _, dy *G.Node) *G.Node { return Mul(dy, Sigmoid(x)) }}
}

// Relu is max(x, 0); its gradient at 0 is 0.
func Relu(x *G.Node) *G.Node { return graph.Apply(relu(), x) }

// Sigmoid is 1/(1+e⁻ˣ).
func Sigmoid(x *G.Node) *G.Node { return graph.Apply(sigmoid(), x) }

// Tanh is the hyperbolic tangent.
func Tanh(x *G.Node) *G.Node { return graph.Apply(tanh(), x) }

// Exp is eˣ.
func Exp(x *G.Node) *G.Node { return graph.Apply(exp(), x) }

// Log is the natural logarithm.
func Log(x *G.Node) *G.Node { return graph.Apply(log(), x) }

// Sqrt is the square root.
func Sqrt(x *G.Node) *G.Node { return graph.Apply(sqrt(), x) }

// Neg is −x.
func Neg(x *G.Node) *G.Node { return graph.Apply(neg(), x) }

// Abs is |x|; its gradient at 0 is −1.
func Abs(x *G.Node) *G.Node { return graph.Apply(abs(), x) }

// Erf is the error function.
func Erf(x *G.Node) *G.Node { return graph.Apply(erf(), x) }

// Softplus is log(1+eˣ).
func Softplus(x *G.Node) *G.Node { return graph.Apply(softplus(), x) }

// Silu is x·sigmoid(x), as PyTorch exports it: two nodes.
func Silu(x *G.Node) *G.Node { return Mul(x, Sigmoid(x)) }
