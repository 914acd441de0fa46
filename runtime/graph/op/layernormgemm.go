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
	smooth
	eps float64
}

// LayerNormGemm is Gemm(LayerNorm(x, scale, bias, -1, eps), w, b), in fewer passes over the rows with its gradient than the two have:
// x [R,D], scale [D], bias [D], w [K,D] and b [K] give [R,K].
func LayerNormGemm(x, scale, bias, w, b *G.Node, eps float64) *G.Node {
	return graph.Apply(normGemm{eps: eps}, x, scale, bias, w, b)
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
	y := linear{}.Infer([]graph.Shape{x, w, in[4]})[0]
	return []graph.Shape{y, x, o.norm().Infer(in[:3])[1], w}
}

func (o normGemm) Eval(in []graph.Array) []graph.Array {
	x, scale, w := in[0], in[1], in[3]
	normed, unit := o.norm().Eval(in[:3]), o.norm().Eval([]graph.Array{x, filled(scale.Shape, 1)})
	scaled := graph.Zeros(w.Shape)
	for i, v := range w.F {
		scaled.F[i] = v * scale.F[i%len(scale.F)]
	}
	return []graph.Array{linear{}.Eval([]graph.Array{normed[0], w, in[4]})[0], unit[0], unit[2], scaled}
}

// Grad is, with d the gradient of w·scale, dyᵀ·x̂, and g that of x̂ less the mean of each row, whose share of dx is 0,
//
//	dx = inv·(g − x̂·mean(g·x̂))
//	dw = d·scale + db·biasᵀ
func (o normGemm) Grad(in []*G.Node, y, dy *G.Node) []*G.Node {
	scale, bias, w := in[1], in[2], in[3]
	unit, inv, scaled := graph.Output(y, 1), graph.Output(y, 2), graph.Output(y, 3)
	g := MatMul(dy, Sub(scaled, ReduceMean(scaled, []int{1}, true)))
	dx := Mul(inv, Sub(g, Mul(unit, ReduceMean(Mul(g, unit), []int{1}, true))))
	d, db := MatMulT(dy, unit, true, false), ReduceSum(dy, []int{0}, false)
	dw := Add(Mul(d, scale), MatMul(Reshape(db, -1, 1), Reshape(bias, 1, -1)))
	dscale, dbias := ReduceSum(Mul(d, w), []int{0}, false), Reshape(MatMul(Reshape(db, 1, -1), w), -1)
	return []*G.Node{dx, dscale, dbias, dw, db}
}

// Lower emits the two operators, with scale and bias in the weights where there is a gradient.
func (o normGemm) Lower(e graph.Emitter, in []graph.Operand) []string {
	x, scale, bias, w, b := in[0], in[1], in[2], in[3], in[4]
	dense := func(of, w, b string) string {
		return linear{}.Lower(e, []graph.Operand{{Name: of, Shape: x.Shape}, {Name: w, Shape: in[3].Shape}, {Name: b, Shape: in[4].Shape}})[0]
	}
	if !e.Reads(1) {
		return []string{dense(o.norm().Lower(e, in[:3])[0], w.Name, b.Name)}
	}
	ones := e.Const(graph.Floats(slices.Repeat([]float32{1}, scale.Shape[0]), scale.Shape[0]))
	of := o.norm().Lower(e, []graph.Operand{x, {Name: ones, Shape: scale.Shape}})
	scaled := e.Emit("Mul", w.Shape, []string{w.Name, scale.Name})
	column := emitReshape(e, bias.Name, graph.Shape{bias.Shape[0], 1}, nil)
	shift := e.Emit("MatMul", graph.Shape{b.Shape[0], 1}, []string{w.Name, column})
	shifted := e.Emit("Add", b.Shape, []string{emitReshape(e, shift, b.Shape, nil), b.Name})
	return []string{dense(of[0], scaled, shifted), of[0], of[2], scaled}
}
