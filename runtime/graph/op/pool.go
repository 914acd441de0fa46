package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// PoolAttrs are the attributes of a pooling window. Zero strides mean 1.
type PoolAttrs struct {
	Kernel  [2]int // kh and kw
	Strides [2]int
	Pads    [4]int // top, left, bottom, right; smaller than the kernel
	// ExcludePad leaves the padding out of an average (PyTorch's count_include_pad=False).
	ExcludePad bool
}

func (a PoolAttrs) conv() ConvAttrs { return ConvAttrs{Strides: a.Strides, Pads: a.Pads}.filled() }

func (a PoolAttrs) onnx() []graph.Attr {
	c := a.conv()
	return []graph.Attr{
		{Name: "kernel_shape", Value: a.Kernel[:]},
		{Name: "strides", Value: c.Strides[:]},
		{Name: "pads", Value: c.Pads[:]},
	}
}

func (a PoolAttrs) shape(op string, in []graph.Shape) graph.Shape {
	arity(op, in, 1)
	rank(op, in, 0, 4)
	x, c := in[0], a.conv()
	for i, k := range a.Kernel {
		if k < 1 || a.Pads[i] >= k || a.Pads[i+2] >= k {
			graph.Fail(op, in, "kernel %v must be positive and larger than its pads %v", a.Kernel, a.Pads)
		}
	}
	s := graph.Shape{x[0], x[1], c.out(0, x[2], a.Kernel[0]), c.out(1, x[3], a.Kernel[1])}
	if s[2] < 1 || s[3] < 1 {
		graph.Fail(op, in, "the image is smaller than the window")
	}
	return s
}

// windows visits every place of the result with the elements of x under its window.
func (a PoolAttrs) windows(x, y graph.Shape, visit func(i int, under []int)) {
	c := a.conv()
	under := make([]int, 0, a.Kernel[0]*a.Kernel[1])
	for i := range y.Size() {
		plane, oh, ow := i/(y[2]*y[3]), i/y[3]%y[2], i%y[3]
		under = under[:0]
		for kh := range a.Kernel[0] {
			for kw := range a.Kernel[1] {
				h, w := oh*c.Strides[0]-c.Pads[0]+kh, ow*c.Strides[1]-c.Pads[1]+kw
				if h >= 0 && h < x[2] && w >= 0 && w < x[3] {
					under = append(under, (plane*x[2]+h)*x[3]+w)
				}
			}
		}
		visit(i, under)
	}
}

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
	return []*G.Node{graph.Apply(maxPoolGrad{p.PoolAttrs, graph.ShapeOf(in[0])}, dy, graph.Output(y, 1))}
}

func (p maxPool) Lower(e graph.Emitter, in []graph.Operand) []string {
	s := p.shape("MaxPool", []graph.Shape{in[0].Shape})
	return e.EmitN("MaxPool", []graph.Shape{s, s}, names(in), p.onnx()...)
}

// maxPoolGrad adds each gradient at the element it came from.
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
	dy, where := in[0], in[1]
	n, m := p.x.Size(), dy.Shape.Size()
	zeros := e.Emit("ConstantOfShape", graph.Shape{n}, []string{graph.ConstInts(e, n)})
	flatWhere := emitReshape(e, where.Name, graph.Shape{m}, nil)
	flatDy := emitReshape(e, dy.Name, graph.Shape{m}, nil)
	sum := e.Emit("ScatterElements", graph.Shape{n}, []string{zeros, flatWhere, flatDy},
		graph.Attr{Name: "axis", Value: 0}, graph.Attr{Name: "reduction", Value: "add"})
	return []string{emitReshape(e, sum, p.x, nil)}
}

// averagePool is the mean of each window.
type averagePool struct {
	smooth
	PoolAttrs
}

// AveragePool is the mean of each window of x [N,C,H,W]; padding counts as zeros unless ExcludePad.
func AveragePool(x *G.Node, a PoolAttrs) *G.Node { return graph.Apply(averagePool{PoolAttrs: a}, x) }

func (averagePool) Name() string { return "AveragePool" }

func (p averagePool) Infer(in []graph.Shape) []graph.Shape { return one(p.shape("AveragePool", in)) }

// size is what a window of n elements inside the image is divided by.
func (p averagePool) size(n int) float64 {
	if p.ExcludePad {
		return float64(n)
	}
	return float64(p.Kernel[0] * p.Kernel[1])
}

func (p averagePool) Eval(in []graph.Array) []graph.Array {
	x := in[0]
	y := graph.Zeros(p.shape("AveragePool", []graph.Shape{x.Shape}))
	p.windows(x.Shape, y.Shape, func(i int, under []int) {
		for _, at := range under {
			y.F[i] += x.F[at]
		}
		y.F[i] /= p.size(len(under))
	})
	return []graph.Array{y}
}

func (p averagePool) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{graph.Apply(averagePoolGrad{p, graph.ShapeOf(in[0])}, dy)}
}

func (p averagePool) Lower(e graph.Emitter, in []graph.Operand) []string {
	attrs := append(p.onnx(), graph.Attr{Name: "count_include_pad", Value: flag(!p.ExcludePad)})
	return []string{e.Emit("AveragePool", p.shape("AveragePool", []graph.Shape{in[0].Shape}), names(in), attrs...)}
}

// averagePoolGrad spreads each gradient evenly over its window.
type averagePoolGrad struct {
	averagePool
	x graph.Shape
}

func (averagePoolGrad) Name() string                        { return "AveragePoolGrad" }
func (p averagePoolGrad) Infer([]graph.Shape) []graph.Shape { return one(p.x) }

func (p averagePoolGrad) Eval(in []graph.Array) []graph.Array {
	dx := graph.Zeros(p.x)
	p.windows(p.x, in[0].Shape, func(i int, under []int) {
		for _, at := range under {
			dx.F[at] += in[0].F[i] / p.size(len(under))
		}
	})
	return []graph.Array{dx}
}

// Lower is a ConvTranspose of each plane, scaled by what its window is divided by, with a kernel of ones.
func (p averagePoolGrad) Lower(e graph.Emitter, in []graph.Operand) []string {
	dy := in[0]
	ho, wo := dy.Shape[2], dy.Shape[3]
	scale := graph.NewTensor(graph.Float32, ho, wo)
	p.windows(graph.Shape{1, 1, p.x[2], p.x[3]}, graph.Shape{1, 1, ho, wo}, func(i int, under []int) {
		scale.F[i] = float32(1 / p.size(len(under)))
	})
	scaled := e.Emit("Mul", dy.Shape, []string{dy.Name, e.Const(scale)})
	planes := p.x[0] * p.x[1]
	flat := graph.Operand{Shape: graph.Shape{planes, 1, ho, wo}}
	flat.Name = emitReshape(e, scaled, flat.Shape, nil)
	ones := graph.NewTensor(graph.Float32, 1, 1, p.Kernel[0], p.Kernel[1])
	for i := range ones.F {
		ones.F[i] = 1
	}
	spread := convGradX{p.conv(), graph.Shape{planes, 1, p.x[2], p.x[3]}}
	dx := spread.Lower(e, []graph.Operand{{Name: e.Const(ones), Shape: ones.Shape}, flat})
	return []string{emitReshape(e, dx[0], p.x, nil)}
}

// GlobalAveragePool is the mean over H and W: x [N,C,H,W] gives [N,C,1,1].
func GlobalAveragePool(x *G.Node) *G.Node { return graph.Apply(globalAveragePool{}, x) }

type globalAveragePool struct{ smooth }

func (globalAveragePool) Name() string { return "GlobalAveragePool" }

func (globalAveragePool) Infer(in []graph.Shape) []graph.Shape {
	arity("GlobalAveragePool", in, 1)
	rank("GlobalAveragePool", in, 0, 4)
	return one(graph.Shape{in[0][0], in[0][1], 1, 1})
}

func (globalAveragePool) Eval(in []graph.Array) []graph.Array {
	return reduce{name: "ReduceMean", axes: []int{2, 3}, keep: true}.Eval(in)
}

func (globalAveragePool) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	s := graph.ShapeOf(in[0])
	return []*G.Node{Expand(Scale(dy, 1/float64(s[2]*s[3])), s)}
}

func (o globalAveragePool) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("GlobalAveragePool", o.Infer([]graph.Shape{in[0].Shape})[0], names(in))}
}
