package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// linear is a dense layer: x·wᵀ + b with w [K,D], or x·w + b with w [D,K], turned.
type linear struct {
	smooth
	turned bool
}

// Gemm is a dense layer, x·wᵀ + b: x [N,D], w [K,D] and b [K] give [N,K].
func Gemm(x, w, b *G.Node) *G.Node { return graph.Apply(linear{}, x, w, b) }

func (linear) Name() string { return "Gemm" }

// axes are those of w: of what x has, and of what comes out.
func (o linear) axes() (in, out int) {
	if o.turned {
		return 0, 1
	}
	return 1, 0
}

func (o linear) Infer(in []graph.Shape) []graph.Shape {
	arity("Gemm", in, 3)
	rank("Gemm", in, 0, 2)
	rank("Gemm", in, 1, 2)
	d, k := o.axes()
	if in[0][1] != in[1][d] || !in[2].Equal(graph.Shape{in[1][k]}) {
		graph.Fail("Gemm", in, "x [N,D] needs w [K,D], or [D,K] turned, and b [K]")
	}
	return one(graph.Shape{in[0][0], in[1][k]})
}

func (o linear) Eval(in []graph.Array) []graph.Array {
	x, w, b := in[0], in[1], in[2]
	n, d, k := x.Shape[0], x.Shape[1], b.Shape[0]
	y := graph.Zeros(graph.Shape{n, k})
	for i := range n {
		copy(y.F[i*k:], b.F)
	}
	gemm(false, !o.turned, n, k, d, x.F, w.F, 1, y.F)
	return []graph.Array{y}
}

func (o linear) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{o.gradX(dy, in[1]), o.gradW(dy, in[0]), ReduceSum(dy, []int{0}, false)}
}

func (o linear) gradX(dy, w *G.Node) *G.Node { return MatMulT(dy, w, false, o.turned) }

func (o linear) gradW(dy, x *G.Node) *G.Node {
	if o.turned {
		return MatMulT(x, dy, true, false)
	}
	return MatMulT(dy, x, true, false)
}

// Lower adds the bias of a large product apart: a Gemm first fills its output with it, which one thread does while the others wait.
func (o linear) Lower(e graph.Emitter, in []graph.Operand) []string {
	out, turn := o.Infer([]graph.Shape{in[0].Shape, in[1].Shape, in[2].Shape})[0], graph.Attr{Name: "transB", Value: flag(!o.turned)}
	if op := inBlocks(e.Target(), in[0].Shape, in[1].Shape, false, !o.turned); op != "" {
		return []string{e.Emit(graph.BlockedDomain+":"+op, out, names(in), turn)}
	}
	if e.Target().Fused && out.Size() >= largeMatrix {
		return []string{e.Emit("Add", out, []string{emitFused(e, out, in[0].Name, in[1].Name, false, !o.turned), in[2].Name})}
	}
	return []string{e.Emit("Gemm", out, names(in), turn)}
}

// liftGemm reads alpha·A·B + beta·C. A dense layer as PyTorch writes it is a Gemm again; anything else is made of its parts.
func liftGemm(n *Node) []*G.Node {
	a, b, c := n.X(0), n.X(1), n.Optional(2)
	alpha, beta := n.Float("alpha", 1), n.Float("beta", 1)
	ta, tb := n.Int("transA", 0) == 1, n.Int("transB", 0) == 1
	if !ta && tb && alpha == 1 && beta == 1 && c != nil && graph.ShapeOf(c).Equal(graph.ShapeOf(b)[:1]) {
		return []*G.Node{Gemm(a, b, c)}
	}
	if ta {
		a = Transpose(a, 1, 0)
	}
	if tb {
		b = Transpose(b, 1, 0)
	}
	y := MatMul(a, b)
	if alpha != 1 {
		y = Scale(y, alpha)
	}
	if c != nil && beta != 0 {
		if beta != 1 {
			c = Scale(c, beta)
		}
		y = Add(y, c)
	}
	return []*G.Node{y}
}
