package nn

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Resample gives a map [N,C,H,W] h rows and w columns, each axis by the constant matrix [to,from] of line, such as [Averaging].
func Resample(x *G.Node, h, w int, line func(from, to int) graph.Array) *G.Node {
	s := graph.ShapeOf(x)
	if s[3] != w {
		x = op.MatMulT(x, graph.Const(x, line(s[3], w)), false, true)
	}
	if s[2] != h {
		x = op.MatMul(graph.Const(x, line(s[2], h)), x)
	}
	return x
}

// Averaging is PyTorch's adaptive average pool of a line: pixel i is the mean of those from ⌊i·from/to⌋ up to, not including,
// ⌈(i+1)·from/to⌉.
func Averaging(from, to int) graph.Array {
	m := graph.Zeros(graph.Shape{to, from})
	for i := range to {
		first, last := i*from/to, ((i+1)*from+to-1)/to
		for j := first; j < last; j++ {
			m.F[i*from+j] = 1 / float64(last-first)
		}
	}
	return m
}

// Nearest is PyTorch's interpolation of a line by the mode of that name: pixel i is pixel ⌊i·from/to⌋.
func Nearest(from, to int) graph.Array {
	m := graph.Zeros(graph.Shape{to, from})
	for i := range to {
		m.F[i*from+i*from/to] = 1
	}
	return m
}

// Interpolating is PyTorch's linear interpolation of a line without aligned corners: pixel i lies at (i+½)·from/to − ½ between
// two, or at the border.
func Interpolating(from, to int) graph.Array {
	m := graph.Zeros(graph.Shape{to, from})
	for i := range to {
		row := m.F[i*from : (i+1)*from]
		at := max(0, (float64(i)+0.5)*float64(from)/float64(to)-0.5)
		left, share := math.Modf(at)
		j := int(left)
		row[j] += 1 - share
		row[min(j+1, from-1)] += share
	}
	return m
}
