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

func liftMaxPool(n *Node) []*G.Node {
	if n.Int("storage_order", 0) != 0 {
		n.fail("column-major indices are not supported")
	}
	y := MaxPool(n.X(0), n.poolAttrs(graph.ShapeOf(n.X(0))))
	return []*G.Node{y, graph.Output(y, 1)}
}
