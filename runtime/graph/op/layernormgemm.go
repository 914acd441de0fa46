package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// normGemm is a dense layer of a layer norm. With x̂ the rows less their means over their deviations, (x̂·scale + bias)·wᵀ + b is
// x̂·(w·scale)ᵀ + (w·bias + b): the gradients of scale and bias are then sums over w instead of the rows, x̂ needs no second pass over x,
// and dx no mean to be taken off where it is taken off w. The outputs after the first are, for the R rows of x [..,D], x̂ [R,D],
// 1/√(variance + eps) [R,1] and w·scale [K,D].
type normGemm struct {
	linear
	eps float64
}

// LayerNormGemm is LayerNorm(x, scale, bias, -1, eps)·wᵀ + b, in fewer passes over the rows with its gradient than the two have:
// x [..,D], scale [D], bias [D], w [K,D] and b [K] give [..,K]. Exported, it is the two, rows of more than two axes one matrix between.
func LayerNormGemm(x, scale, bias, w, b *G.Node, eps float64) *G.Node {
	return graph.Apply(normGemm{eps: eps}, x, scale, bias, w, b)
}

// LayerNormMatMul is LayerNormGemm with w [D,K]. Exported, it is a layer norm, a MatMul and an Add.
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

// rows is the shape of x [..,D] as one matrix.
func (normGemm) rows(x graph.Shape) graph.Shape {
	last := len(x) - 1
	return graph.Shape{x[:last].Size(), x[last]}
}

// out is the shape of what comes of x [..,D].
func (normGemm) out(x graph.Shape, k int) graph.Shape { return append(x[:len(x)-1].Clone(), k) }

func (o normGemm) Infer(in []graph.Shape) []graph.Shape {
	arity(o.Name(), in, 5)
	x, w := in[0], in[3]
	if len(x) < 2 {
		graph.Fail(o.Name(), in, "x must be [..,D]")
	}
	rows := o.rows(x)
	y := o.linear.Infer([]graph.Shape{rows, w, in[4]})[0]
	of := o.norm().Infer([]graph.Shape{rows, in[1], in[2]})
	return []graph.Shape{o.out(x, y[1]), rows, of[1], w}
}

func (o normGemm) Eval(in []graph.Array) []graph.Array {
	x, scale, w := graph.Array{Shape: o.rows(in[0].Shape), F: in[0].F}, in[1], in[3]
	normed, unit := o.norm().Eval([]graph.Array{x, scale, in[2]}), o.norm().Eval([]graph.Array{x, filled(scale.Shape, 1)})
	y := o.linear.Eval([]graph.Array{normed[0], w, in[4]})[0]
	y.Shape = o.out(in[0].Shape, y.Shape[1])
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
	dy = Reshape(dy, -1, in[4].Shape()[0])
	g := o.gradX(dy, Sub(scaled, ReduceMean(scaled, []int{columns}, true)))
	dx := Mul(inv, Sub(g, Mul(unit, ReduceMean(Mul(g, unit), []int{1}, true))))
	d, db := o.gradW(dy, unit), ReduceSum(dy, []int{0}, false)
	dw := Add(Mul(d, Reshape(scale, o.along(scale.Shape()[0])...)), o.gradW(Reshape(db, 1, -1), Reshape(bias, 1, -1)))
	dscale := ReduceSum(Mul(d, w), []int{outputs}, false)
	dbias := Reshape(o.gradX(Reshape(db, 1, -1), w), -1)
	return []*G.Node{Reshape(dx, graph.ShapeOf(in[0])...), dscale, dbias, dw, db}
}

// Lower emits the operators as they are; but for a gradient those of one matrix, with scale and bias in the weights.
func (o normGemm) Lower(e graph.Emitter, in []graph.Operand) []string {
	x, scale, bias, w, b := in[0], in[1], in[2], in[3], in[4]
	rows, last, out := o.rows(x.Shape), len(x.Shape)-1, o.out(x.Shape, b.Shape[0])
	matrix := func(x string) graph.Operand {
		if last > 1 {
			x = emitReshape(e, x, rows, []int{-1, rows[1]})
		}
		return graph.Operand{Name: x, Shape: rows}
	}
	dense := func(x, w, b graph.Operand) string {
		y := o.linear.Lower(e, []graph.Operand{x, w, b})[0]
		if last > 1 {
			y = emitReshape(e, y, out, append([]int{-1}, out[1:]...))
		}
		return y
	}
	if !e.Reads(1) {
		normed := layerNorm{axis: last, eps: o.eps}.Lower(e, in[:3])[0]
		if o.turned {
			y := matmul{}.Lower(e, []graph.Operand{{Name: normed, Shape: x.Shape}, w})[0]
			return []string{e.Emit("Add", out, []string{y, b.Name})}
		}
		return []string{dense(matrix(normed), w, b)}
	}
	ones := e.Const(graph.Floats(slices.Repeat([]float32{1}, rows[1]), rows[1]))
	of := o.norm().Lower(e, []graph.Operand{matrix(x.Name), {Name: ones, Shape: scale.Shape}})
	scaled := e.Emit("Mul", w.Shape, []string{w.Name, emitReshape(e, scale.Name, o.along(rows[1]), nil)})
	row := graph.Operand{Name: emitReshape(e, bias.Name, graph.Shape{1, rows[1]}, nil), Shape: graph.Shape{1, rows[1]}}
	shifted := emitReshape(e, o.linear.Lower(e, []graph.Operand{row, w, b})[0], b.Shape, nil)
	y := dense(graph.Operand{Name: of[0], Shape: rows}, graph.Operand{Name: scaled, Shape: w.Shape}, graph.Operand{Name: shifted, Shape: b.Shape})
	return []string{y, of[0], of[2], scaled}
}
