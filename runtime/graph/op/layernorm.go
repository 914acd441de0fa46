package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// layerNorm has a second and a third output: the mean and 1/√(variance + eps) of what is normalised together.
type layerNorm struct {
	smooth
	axis int
	eps  float64
}

// LayerNorm is (x − mean)/√(var + eps)·scale + bias, the mean and the (biased) variance taken over the axes from axis on,
// negative counting from the last (Ba et al. 2016, arXiv:1607.06450). scale and bias have the shape of those axes; nil is
// 1 and 0. PyTorch's eps is 1e-5.
func LayerNorm(x, scale, bias *G.Node, axis int, eps float64) *G.Node {
	s := graph.ShapeOf(x)
	o := layerNorm{axis: axisOf("LayerNormalization", axis, s), eps: eps}
	if scale == nil {
		scale = graph.Const(x, filled(s[o.axis:], 1))
	}
	if bias == nil {
		return graph.Apply(o, x, scale)
	}
	return graph.Apply(o, x, scale, bias)
}

// filled is an array of one value.
func filled(s graph.Shape, v float64) graph.Array {
	a := graph.Zeros(s)
	for i := range a.F {
		a.F[i] = v
	}
	return a
}

func (layerNorm) Name() string { return "LayerNormalization" }

func (o layerNorm) Infer(in []graph.Shape) []graph.Shape {
	x := in[0]
	for _, s := range in[1:] {
		if !s.Equal(x[o.axis:]) {
			graph.Fail("LayerNormalization", in, "scale and bias must be %v", x[o.axis:])
		}
	}
	each := x.Clone()
	for i := o.axis; i < len(each); i++ {
		each[i] = 1
	}
	return []graph.Shape{x, each, each}
}

func (o layerNorm) Eval(in []graph.Array) []graph.Array {
	x, scale := in[0], in[1]
	each := o.Infer([]graph.Shape{x.Shape})[1]
	y, mean, inv := graph.Zeros(x.Shape), graph.Zeros(each), graph.Zeros(each)
	n := x.Shape[o.axis:].Size()
	for r := range mean.F {
		row := x.F[r*n : (r+1)*n]
		for _, v := range row {
			mean.F[r] += v / float64(n)
		}
		variance := 0.0
		for _, v := range row {
			d := v - mean.F[r]
			variance += d * d / float64(n)
		}
		inv.F[r] = 1 / math.Sqrt(variance+o.eps)
		for i, v := range row {
			y.F[r*n+i] = (v - mean.F[r]) * inv.F[r] * scale.F[i]
			if len(in) > 2 {
				y.F[r*n+i] += in[2].F[i]
			}
		}
	}
	return []graph.Array{y, mean, inv}
}

// Grad is, with x̂ = (x − mean)·inv and g = dy·scale,
//
//	dx = inv·(g − mean(g) − x̂·mean(g·x̂))
func (o layerNorm) Grad(in []*G.Node, y, dy *G.Node) []*G.Node {
	x, scale := in[0], in[1]
	mean, inv := graph.Output(y, 1), graph.Output(y, 2)
	s := graph.ShapeOf(x)
	var axes []int
	for i := o.axis; i < len(s); i++ {
		axes = append(axes, i)
	}
	unit := Mul(Sub(x, mean), inv)
	g := Mul(dy, scale)
	dx := Mul(inv, Sub(Sub(g, ReduceMean(g, axes, true)), Mul(unit, ReduceMean(Mul(g, unit), axes, true))))
	grads := []*G.Node{dx, sumTo(Mul(dy, unit), s[o.axis:])}
	if len(in) > 2 {
		grads = append(grads, sumTo(dy, s[o.axis:]))
	}
	return grads
}

func (o layerNorm) Lower(e graph.Emitter, in []graph.Operand) []string {
	return e.EmitN("LayerNormalization", o.Infer([]graph.Shape{in[0].Shape}), names(in),
		graph.Attr{Name: "axis", Value: o.axis}, graph.Attr{Name: "epsilon", Value: float32(o.eps)})
}

func liftLayerNorm(n *Node) []*G.Node {
	y := LayerNorm(n.X(0), n.X(1), n.Optional(2), n.Int("axis", -1), n.Float("epsilon", 1e-5))
	return []*G.Node{y, graph.Output(y, 1), graph.Output(y, 2)}
}
