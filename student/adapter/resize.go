package adapter

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// resize gives a map [N,C,H,W] h rows and w columns: an axis that shrinks is averaged, one that grows is interpolated linearly.
func resize(x *G.Node, h, w int) *G.Node { return nn.Resample(x, h, w, resizing) }

// resizing is the matrix [to,from] that makes from pixels of a line to.
func resizing(from, to int) graph.Array {
	if to < from {
		return nn.Averaging(from, to)
	}
	return nn.Interpolating(from, to)
}

// project gives a map [N,C,H,W] the teacher's channels, by a 1x1 convolution, and its size: [N,c,h,w]. The two commute, so the
// convolution is done on the smaller map.
func project(g *graph.Graph, name string, x *G.Node, c, h, w int) *G.Node {
	s := graph.ShapeOf(x)
	conv := nn.Conv{Name: name, In: s[1], Out: c, Kernel: 1, Bias: true}
	if h*w < s[2]*s[3] {
		return conv.Apply(g, resize(x, h, w))
	}
	return resize(conv.Apply(g, x), h, w)
}

// flatten makes tokens [N,H·W,C] of a map [N,C,H,W], row by row.
func flatten(x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	return op.Transpose(op.Reshape(x, -1, s[1], s[2]*s[3]), 0, 2, 1)
}

// unflatten makes a map [N,D,H,W] of tokens [N,L,D] that lie on a grid, without the class's.
func unflatten(x *G.Node, gr grid) *G.Node {
	if gr.class {
		x = op.Slice(x, op.Range{Axis: 1, From: 1})
	}
	return op.Reshape(op.Transpose(x, 0, 2, 1), -1, graph.ShapeOf(x)[2], gr.h, gr.w)
}
