package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// maxPool has a second output: for each result, where in x it came from.
type maxPool struct {
	smooth
	PoolAttrs
}

// MaxPool is the maximum of each window of x [N,C,H,W]; padding never is the maximum. The first of equal elements gets
// the gradient.
func MaxPool(x *G.Node, a PoolAttrs) *G.Node { return graph.Apply(maxPool{PoolAttrs: a}, x) }

func (maxPool) Name() string { return "MaxPool" }

func (maxPool) DType(output int) graph.DType {
	if output == 1 {
		return graph.Int64
	}
	return graph.Float32
}

func (p maxPool) Infer(in []graph.Shape) []graph.Shape {
	s := p.shape("MaxPool", in)
	return []graph.Shape{s, s}
}

func (p maxPool) Eval(in []graph.Array) []graph.Array {
	x := in[0]
	s := p.shape("MaxPool", []graph.Shape{x.Shape})
	y, where := graph.Zeros(s), graph.Array{Shape: s, I: make([]int64, s.Size())}
	p.windows(x.Shape, s, func(i int, under []int) {
		y.F[i] = math.Inf(-1)
		for _, at := range under {
			if x.F[at] > y.F[i] {
				y.F[i], where.I[i] = x.F[at], int64(at)
			}
		}
	})
	return []graph.Array{y, where}
}

func (p maxPool) Grad(in []*G.Node, y, dy *G.Node) []*G.Node {
	return []*G.Node{graph.Apply(maxPoolGrad{p.PoolAttrs, graph.ShapeOf(in[0])}, dy, graph.Output(y, 1), in[0])}
}

func (p maxPool) Lower(e graph.Emitter, in []graph.Operand) []string {
	s := p.shape("MaxPool", []graph.Shape{in[0].Shape})
	return e.EmitN("MaxPool", []graph.Shape{s, s}, names(in), p.onnx()...)
}

// maxPoolGrad adds each gradient at the element it came from, which the second input says. The third, x, tells it again.
type maxPoolGrad struct {
	PoolAttrs
	x graph.Shape
}

func (maxPoolGrad) Name() string                        { return "MaxPoolGrad" }
func (p maxPoolGrad) Infer([]graph.Shape) []graph.Shape { return one(p.x) }

func (p maxPoolGrad) Eval(in []graph.Array) []graph.Array {
	dx := graph.Zeros(p.x)
	for i, at := range in[1].I {
		dx.F[at] += in[0].F[i]
	}
	return []graph.Array{dx}
}

func (p maxPoolGrad) Lower(e graph.Emitter, in []graph.Operand) []string {
	if e.Target().Portable {
		return []string{p.lowerTaps(e, in[0], in[2])}
	}
	if e.Target().Fills(p.x[1]) && p.tiles() {
		return []string{e.Emit(graph.BlockedDomain+":MaxPoolGrad", p.x, []string{in[0].Name, in[2].Name}, p.onnx()...)}
	}
	dy, where := in[0], in[1]
	n, m := p.x.Size(), dy.Shape.Size()
	zeros := e.Emit("ConstantOfShape", graph.Shape{n}, []string{graph.ConstInts(e, n)})
	flatWhere := emitReshape(e, where.Name, graph.Shape{m}, nil)
	flatDy := emitReshape(e, dy.Name, graph.Shape{m}, nil)
	sum := e.Emit("ScatterElements", graph.Shape{n}, []string{zeros, flatWhere, flatDy},
		graph.Attr{Name: "axis", Value: 0}, graph.Attr{Name: "reduction", Value: "add"})
	return []string{emitReshape(e, sum, p.x, nil)}
}

// tiles reports whether windows, of few elements, lie side by side and cover the image.
func (p maxPoolGrad) tiles() bool {
	few := p.Kernel[0]*p.Kernel[1] <= 9
	return few && p.conv().Strides == p.Kernel && p.Pads == [4]int{} && p.x[2]%p.Kernel[0] == 0 && p.x[3]%p.Kernel[1] == 0
}

// lowerTaps does without indices: with one copy of x for each tap of the window, the first largest of them gets the gradient,
// and a ConvTranspose of each plane, with a kernel for each tap that is 1 there, puts it back.
func (p maxPoolGrad) lowerTaps(e graph.Emitter, dy, x graph.Operand) string {
	c, planes := p.conv(), p.x[0]*p.x[1]
	kh, kw, ho, wo := p.Kernel[0], p.Kernel[1], dy.Shape[2], dy.Shape[3]
	flat := func(v string, h, w int) graph.Operand {
		s := graph.Shape{planes, 1, h, w}
		return graph.Operand{Name: emitReshape(e, v, s, nil), Shape: s}
	}
	padded := flat(x.Name, p.x[2], p.x[3])
	if p.Pads != [4]int{} {
		padded.Shape = graph.Shape{planes, 1, p.x[2] + p.Pads[0] + p.Pads[2], p.x[3] + p.Pads[1] + p.Pads[3]}
		pads := graph.ConstInts(e, 0, 0, p.Pads[0], p.Pads[1], 0, 0, p.Pads[2], p.Pads[3])
		padded.Name = e.Emit("Pad", padded.Shape, []string{padded.Name, pads, e.Const(graph.Scalar(-math.MaxFloat32))})
	}
	taps := make([]string, kh*kw)
	number, back := graph.NewTensor(graph.Float32, 1, kh*kw, 1, 1), graph.NewTensor(graph.Float32, kh*kw, 1, kh, kw)
	for t := range taps {
		taps[t] = emitSlice(e, padded,
			Range{Axis: 2, From: t / kw, To: t/kw + (ho-1)*c.Strides[0] + 1, Step: c.Strides[0]},
			Range{Axis: 3, From: t % kw, To: t%kw + (wo-1)*c.Strides[1] + 1, Step: c.Strides[1]}).Name
		number.F[t], back.F[t*kh*kw+t] = float32(t), 1
	}
	s, one := graph.Shape{planes, kh * kw, ho, wo}, graph.Shape{planes, 1, ho, wo}
	float := func(v string, s graph.Shape) string {
		return e.Emit("Cast", s, []string{v}, graph.Attr{Name: "to", Value: onnxFloat})
	}
	largest := e.Emit("ArgMax", one, []string{emitConcat(e, 1, s, taps)}, graph.Attr{Name: "axis", Value: 1})
	mask := float(e.Emit("Equal", s, []string{float(largest, one), e.Const(number)}), s)
	parts := graph.Operand{Name: e.Emit("Mul", s, []string{mask, flat(dy.Name, ho, wo).Name}), Shape: s}
	spread := convGradX{c, graph.Shape{planes, 1, p.x[2], p.x[3]}}
	dx := spread.Lower(e, []graph.Operand{{Name: e.Const(back), Shape: back.Shape}, parts})
	return emitReshape(e, dx[0], p.x, nil)
}

func liftMaxPool(n *Node) []*G.Node {
	if n.Int("storage_order", 0) != 0 {
		n.fail("column-major indices are not supported")
	}
	y := MaxPool(n.X(0), n.poolAttrs(graph.ShapeOf(n.X(0))))
	return []*G.Node{y, graph.Output(y, 1)}
}
