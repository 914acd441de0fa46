package op

import (
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// matmul multiplies the last two axes, each operand transposed first where its flag says so; the axes before broadcast.
type matmul struct {
	smooth
	ta, tb bool
}

// MatMul is the matrix product of [..,M,K] and [..,K,N]; axes before the last two broadcast.
func MatMul(a, b *G.Node) *G.Node { return graph.Apply(matmul{}, a, b) }

// MatMulT is MatMul with a, b or both transposed in their last two axes.
func MatMulT(a, b *G.Node, ta, tb bool) *G.Node { return graph.Apply(matmul{ta: ta, tb: tb}, a, b) }

func (matmul) Name() string { return "MatMul" }

// sizes are M, K and N.
func (o matmul) sizes(a, b graph.Shape) (m, k, kb, n int) {
	m, k = a[len(a)-2], a[len(a)-1]
	kb, n = b[len(b)-2], b[len(b)-1]
	if o.ta {
		m, k = k, m
	}
	if o.tb {
		kb, n = n, kb
	}
	return m, k, kb, n
}

func (o matmul) Infer(in []graph.Shape) []graph.Shape {
	arity("MatMul", in, 2)
	if len(in[0]) < 2 || len(in[1]) < 2 {
		graph.Fail("MatMul", in, "both inputs need rank 2 or more")
	}
	m, k, kb, n := o.sizes(in[0], in[1])
	if k != kb {
		graph.Fail("MatMul", in, "inner sizes %d and %d differ", k, kb)
	}
	batch, ok := broadcast(in[0][:len(in[0])-2], in[1][:len(in[1])-2])
	if !ok {
		graph.Fail("MatMul", in, "the batch axes do not broadcast")
	}
	return one(append(batch, m, n))
}

func (o matmul) Eval(in []graph.Array) []graph.Array {
	a, b := in[0], in[1]
	y := graph.Zeros(o.Infer([]graph.Shape{a.Shape, b.Shape})[0])
	m, k, _, n := o.sizes(a.Shape, b.Shape)
	batch := y.Shape[:len(y.Shape)-2]
	sa := stretched(a.Shape[:len(a.Shape)-2], batch)
	sb := stretched(b.Shape[:len(b.Shape)-2], batch)
	walk(batch, [][]int{sa, sb}, func(i int, at []int) {
		gemm(o.ta, o.tb, m, n, k, a.F[at[0]*m*k:], b.F[at[1]*k*n:], 0, y.F[i*m*n:])
	})
	return []graph.Array{y}
}

// gemm is c = op(a)·op(b) + beta·c on row-major matrices.
func gemm(ta, tb bool, m, n, k int, a, b []float64, beta float64, c []float64) {
	if m == 0 || n == 0 || k == 0 {
		return
	}
	mat := func(t bool, rows, cols int, data []float64) (blas.Transpose, blas64.General) {
		if t {
			return blas.Trans, blas64.General{Rows: cols, Cols: rows, Stride: rows, Data: data[:rows*cols]}
		}
		return blas.NoTrans, blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: data[:rows*cols]}
	}
	fa, ga := mat(ta, m, k, a)
	fb, gb := mat(tb, k, n, b)
	blas64.Gemm(fa, fb, 1, ga, gb, beta, blas64.General{Rows: m, Cols: n, Stride: n, Data: c[:m*n]})
}

func (o matmul) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	a, b := in[0], in[1]
	if s := graph.ShapeOf(a); o.dense(s, graph.ShapeOf(b)) {
		// As one matrix of all rows, where a batch would give a gradient of b for each element, to be summed.
		rows := func(x *G.Node) *G.Node { return Reshape(x, -1, graph.ShapeOf(x)[len(s)-1]) }
		grads := o.Grad([]*G.Node{rows(a), b}, nil, rows(dy))
		grads[0] = Reshape(grads[0], slices.Concat([]int{-1}, s[1:])...)
		return grads
	}
	// For y = A·B: dA = dy·Bᵀ, dB = Aᵀ·dy; a transposed operand takes the transpose of that.
	da := MatMulT(dy, b, false, !o.tb)
	if o.ta {
		da = MatMulT(b, dy, o.tb, true)
	}
	db := MatMulT(a, dy, !o.ta, false)
	if o.tb {
		db = MatMulT(dy, a, true, o.ta)
	}
	return []*G.Node{sumTo(da, graph.ShapeOf(a)), sumTo(db, graph.ShapeOf(b))}
}

// dense reports whether the product is that of rows with one matrix.
func (o matmul) dense(a, b graph.Shape) bool { return len(a) > 2 && len(b) == 2 && !o.ta }

func (o matmul) Lower(e graph.Emitter, in []graph.Operand) []string {
	a, b := in[0], in[1]
	out := o.Infer([]graph.Shape{a.Shape, b.Shape})[0]
	if o.dense(a.Shape, b.Shape) {
		rows := func(s graph.Shape) graph.Shape { return graph.Shape{s[:len(s)-1].Size(), s[len(s)-1]} }
		if flat := rows(a.Shape); inBlocks(e.Target(), flat, b.Shape, false, o.tb) != "" {
			a = graph.Operand{Name: emitReshape(e, a.Name, flat, nil), Shape: flat}
			return []string{emitReshape(e, emitMatMul(e, rows(out), a, b, false, o.tb), out, nil)}
		}
	}
	return []string{emitMatMul(e, out, a, b, o.ta, o.tb)}
}

// liftMatMul reads a product. A Transpose of an operand's last two axes becomes part of it, which an export writes again.
func liftMatMul(n *Node) []*G.Node {
	a, ta := untransposed(n.X(0))
	b, tb := untransposed(n.X(1))
	return []*G.Node{MatMulT(a, b, ta, tb)}
}

// untransposed is what x is of by a Transpose of the last two axes alone, or x itself.
func untransposed(x *G.Node) (*G.Node, bool) {
	made, in := graph.Made(x)
	t, ok := made.(transpose)
	if !ok || len(t.perm) < 2 {
		return x, false
	}
	last := len(t.perm) - 1
	swap := slices.Clone(t.perm)
	swap[last-1], swap[last] = swap[last], swap[last-1]
	if !slices.IsSorted(swap) {
		return x, false
	}
	return in[0], true
}

// emitMatMul emits a product with transposed operands: one FusedMatMul, or Transposes and a MatMul in plain ONNX.
func emitMatMul(e graph.Emitter, out graph.Shape, a, b graph.Operand, ta, tb bool) string {
	if op := inBlocks(e.Target(), a.Shape, b.Shape, ta, tb); op != "" {
		return e.Emit(graph.BlockedDomain+":"+op, out, []string{a.Name, b.Name}, graph.Attr{Name: "transB", Value: flag(tb)})
	}
	switch {
	case !e.Target().Fused || !ta && !tb:
		return e.Emit("MatMul", out, []string{turned(e, a, ta), turned(e, b, tb)})
	case ta && !tb && tall(a.Shape, b.Shape):
		return emitHalves(e, out, a, b)
	}
	return emitFused(e, out, a.Name, b.Name, ta, tb)
}

func emitFused(e graph.Emitter, out graph.Shape, a, b string, ta, tb bool) string {
	return e.Emit("com.microsoft:FusedMatMul", out, []string{a, b},
		graph.Attr{Name: "transA", Value: flag(ta)}, graph.Attr{Name: "transB", Value: flag(tb)})
}

// emitHalves emits aᵀ·b as the sum of that of each half of the rows.
func emitHalves(e graph.Emitter, out graph.Shape, a, b graph.Operand) string {
	half := func(x graph.Operand) string {
		return emitReshape(e, x.Name, graph.Shape{2, x.Shape[0] / 2, x.Shape[1]}, nil)
	}
	each := emitFused(e, graph.Shape{2, out[0], out[1]}, half(a), half(b), true, false)
	each = emitReshape(e, each, graph.Shape{2, out.Size()}, nil)
	sum := e.Emit("MatMul", graph.Shape{1, out.Size()}, []string{onesRow(e, 2), each}) // a ReduceSum of two rows takes many times as long
	return emitReshape(e, sum, out, nil)
}

// inBlocks names the product in blocks of channels that a product is to be, "" for none: RowsMatMul for many rows by weights, or
// RowsGradW for the gradient of these. A convolution of one place takes three quarters of the time of a product, but the narrow side
// must be laid out in blocks and back, which is little only beside a wide one, as in the perceptrons of transformers.
func inBlocks(t graph.Target, a, b graph.Shape, ta, tb bool) string {
	if len(a) != 2 || len(b) != 2 || ta && tb {
		return ""
	}
	rows, narrow, wide, op := a[0], a[1], b.Size()/a[1], "RowsMatMul"
	if ta {
		wide, op = b[1], "RowsGradW"
	}
	if narrow > wide {
		narrow, wide = wide, narrow
	}
	whole := t.Block > 0 && rows%t.Block == 0 && narrow%t.Block == 0 && wide%t.Block == 0
	if !whole || wide < 3*narrow || rows < wide || rows*wide < largeMatrix {
		return ""
	}
	return op
}

// onesRow is a constant [1,n].
func onesRow(e graph.Emitter, n int) string {
	return e.Const(graph.Tensor{Shape: graph.Shape{1, n}, F: slices.Repeat([]float32{1}, n)})
}

// tall reports whether aᵀ·b, as the gradient of a dense layer's weights, is to be the sum of that of each half of the rows. Each of
// two threads then reads the rows that it wrote, not half of every row of a, and leaves the memory of both to the core that writes
// there next; which matters where the two share no cache.
func tall(a, b graph.Shape) bool {
	if len(a) != 2 || len(b) != 2 || a[0]%2 > 0 {
		return false
	}
	read := a.Size() + b.Size()
	return read >= largeMatrix && read >= 8*a[1]*b[1]
}

func turned(e graph.Emitter, x graph.Operand, t bool) string {
	if !t {
		return x.Name
	}
	perm := make([]int, len(x.Shape))
	s := x.Shape.Clone()
	for i := range perm {
		perm[i] = i
	}
	n := len(s)
	perm[n-1], perm[n-2] = n-2, n-1
	s[n-1], s[n-2] = s[n-2], s[n-1]
	return e.Emit("Transpose", s, []string{x.Name}, graph.Attr{Name: "perm", Value: perm})
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
