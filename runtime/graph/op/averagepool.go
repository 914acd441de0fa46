package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

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

// liftAveragePool reads an AveragePool. What ceil_mode adds to the padding never counts; the rest may.
func liftAveragePool(n *Node) []*G.Node {
	x := graph.ShapeOf(n.X(0))
	a := n.poolAttrs(x)
	stated := n.pads(x[2:], a.Kernel[:], a.Strides, [2]int{1, 1})
	a.ExcludePad = n.Int("count_include_pad", 0) == 0 || stated == [4]int{}
	if a.Pads != stated && !a.ExcludePad {
		n.fail("ceil_mode is not supported where it adds windows and padding counts; export the network with ceil_mode=False")
	}
	return []*G.Node{AveragePool(n.X(0), a)}
}
