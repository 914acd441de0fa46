package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// ConvTranspose is a square transposed convolution, which enlarges an image by its stride, under PyTorch's parameters and
// initial values. It is written as a convolution by the turned kernel of the image with Stride−1 zeros between its pixels.
type ConvTranspose struct {
	Name            string
	In, Out, Kernel int
	Stride          int // 1 or more
	Pad             int // rows and columns cut off on every side; less than Kernel
}

// Apply turns x [N,In,H,W] into [N,Out,H',W'], H' = (H−1)·Stride − 2·Pad + Kernel.
func (l ConvTranspose) Apply(g *graph.Graph, x *G.Node) *G.Node {
	taps := l.Kernel * l.Kernel
	init := Uniform(l.Out * taps) // PyTorch's fan-in is of the weight's second axis
	w := g.Param(l.Name+".weight", graph.Shape{l.In, l.Out, l.Kernel, l.Kernel}, init)
	b := g.Param(l.Name+".bias", graph.Shape{l.Out}, init)
	reversal := graph.Zeros(graph.Shape{taps, taps})
	for i := range taps {
		reversal.F[i*taps+taps-1-i] = 1
	}
	turned := op.MatMul(op.Reshape(op.Transpose(w, 1, 0, 2, 3), l.Out*l.In, taps), g.Const(reversal))
	s := graph.ShapeOf(x)
	x = op.MatMul(x, g.Const(spread(s[3], l.Stride)))               // along W
	x = op.MatMulT(g.Const(spread(s[2], l.Stride)), x, true, false) // along H
	p := l.Kernel - 1 - l.Pad
	return op.Conv(x, op.Reshape(turned, l.Out, l.In, l.Kernel, l.Kernel), b, op.ConvAttrs{Pads: [4]int{p, p, p, p}})
}

// spread is the matrix [n,(n−1)·stride+1] that puts stride−1 zeros between the elements of a row.
func spread(n, stride int) graph.Array {
	m := graph.Zeros(graph.Shape{n, (n-1)*stride + 1})
	for i := range n {
		m.F[i*m.Shape[1]+i*stride] = 1
	}
	return m
}
