package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// normGemm is a dense layer of a layer norm. With x̂ the rows less their means over their deviations, (x̂·scale + bias)·wᵀ + b is
// x̂·(w·scale)ᵀ + (w·bias + b): the gradients of scale and bias are then sums over w instead of the rows, x̂ needs no second pass over x,
// and dx no mean to be taken off where it is taken off w. The outputs after the first are x̂ [R,D], 1/√(variance + eps) [R,1] and
// w·scale [K,D].
type normGemm struct {
	linear
	eps float64
}

// LayerNormGemm is Gemm(LayerNorm(x, scale, bias, -1, eps), w, b), in fewer passes over the rows with its gradient than the two have:
// x [R,D], scale [D], bias [D], w [K,D] and b [K] give [R,K].
func LayerNormGemm(x, scale, bias, w, b *G.Node, eps float64) *G.Node {
	return graph.Apply(normGemm{eps: eps}, x, scale, bias, w, b)
}

// LayerNormMatMul is LayerNormGemm with w [D,K].
func LayerNormMatMul(x, scale, bias, w, b *G.Node, eps float64) *G.Node {
	return graph.Apply(normGemm{linear{turned: true}, eps}, x, scale, bias, w, b)
}

// LayerNormed is what a node is LayerNorm of over the last axis, with a scale and a bias; ok is false where it is something else.
func LayerNormed(n *G.Node) (x, scale, bias *G.Node, eps float64, ok bool) {
	made, in := graph.Made(n)
	o, ok := made.(layerNorm)
	if !ok || len(in) != 3 || o.axis != len(graph.ShapeOf(n))-1 {
		return nil, nil, nil, 0, false
	}
	return in[0], in[1], in[2], o.eps, true
}

func (normGemm) Name() string { return "LayerNormGemm" }

func (o normGemm) norm() layerNorm { return layerNorm{axis: 1, eps: o.eps} }

func (o normGemm) Infer(in []graph.Shape) []graph.Shape {
	arity(o.Name(), in, 5)
	x, w := in[0], in[3]
	y := o.linear.Infer([]graph.Shape{x, w, in[4]})[0]
	return []graph.Shape{y, x, o.norm().Infer(in[:3])[1], w}
}

func (o normGemm) Eval(in []graph.Array) []graph.Array {
	x, scale, w := in[0], in[1], in[3]
	normed, unit := o.norm().Eval(in[:3]), o.norm().Eval([]graph.Array{x, filled(scale.Shape, 1)})
	y := o.linear.Eval([]graph.Array{normed[0], w, in[4]})[0]
	scaled := mul().Eval([]graph.Array{w, {Shape: o.along(scale.Shape[0]), F: scale.F}})[0]
	return []graph.Array{y, unit[0], unit[2], scaled}
}

// along is the shape in which what x has one of for each column stretches over w.
func (o normGemm) along(columns int) graph.Shape {
	if o.turned {
		return graph.Shape{columns, 1}
	}
	return graph.Shape{columns}
}

// Grad is, with d the gradient of w·scale, dyᵀ·x̂, and g that of x̂ less the mean of each row, whose share of dx is 0,
//
//	dx = inv·(g − x̂·mean(g·x̂))
//	dw = d·scale + db·biasᵀ
func (o normGemm) Grad(in []*G.Node, y, dy *G.Node) []*G.Node {
	scale, bias, w := in[1], in[2], in[3]
	unit, inv, scaled := graph.Output(y, 1), graph.Output(y, 2), graph.Output(y, 3)
	columns, outputs := o.axes()
	g := o.gradX(dy, Sub(scaled, ReduceMean(scaled, []int{columns}, true)))
	dx := Mul(inv, Sub(g, Mul(unit, ReduceMean(Mul(g, unit), []int{1}, true))))
	d, db := o.gradW(dy, unit), ReduceSum(dy, []int{0}, false)
	dw := Add(Mul(d, Reshape(scale, o.along(scale.Shape()[0])...)), o.gradW(Reshape(db, 1, -1), Reshape(bias, 1, -1)))
	dscale := ReduceSum(Mul(d, w), []int{outputs}, false)
	dbias := Reshape(o.gradX(Reshape(db, 1, -1), w), -1)
	return []*G.Node{dx, dscale, dbias, dw, db}
}

// Lower emits the two operators, with scale and bias in the weights where there is a gradient.
func (o normGemm) Lower(e graph.Emitter, in []graph.Operand) []string {
	x, scale, bias, w, b := in[0], in[1], in[2], in[3], in[4]
	if !e.Reads(1) {
		normed := o.norm().Lower(e, in[:3])[0]
		return o.linear.Lower(e, []graph.Operand{{Name: normed, Shape: x.Shape}, w, b})
	}
	d := scale.Shape[0]
	ones := e.Const(graph.Floats(slices.Repeat([]float32{1}, d), d))
	of := o.norm().Lower(e, []graph.Operand{x, {Name: ones, Shape: scale.Shape}})
	scaled := e.Emit("Mul", w.Shape, []string{w.Name, emitReshape(e, scale.Name, o.along(d), nil)})
	row := graph.Operand{Name: emitReshape(e, bias.Name, graph.Shape{1, d}, nil), Shape: graph.Shape{1, d}}
	shifted := emitReshape(e, o.linear.Lower(e, []graph.Operand{row, w, b})[0], b.Shape, nil)
	y := o.linear.Lower(e, []graph.Operand{{Name: of[0], Shape: x.Shape}, {Name: scaled, Shape: w.Shape}, {Name: shifted, Shape: b.Shape}})
	return []string{y[0], of[0], of[2], scaled}
}
