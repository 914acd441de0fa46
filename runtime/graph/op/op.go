// Package op holds the operators that programs are made of, a file for each or for each family: shape rule, plain evaluation, gradient and
// lowering to ONNX side by side.
//
//	y := op.Relu(op.Conv(x, w, nil, op.ConvAttrs{Pads: [4]int{1, 1, 1, 1}}))
package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// smooth is embedded by an op that has a gradient with respect to every input.
type smooth struct{}

func (smooth) Wrt(int) bool { return true }

func names(in []graph.Operand) []string {
	s := make([]string, len(in))
	for i, o := range in {
		s[i] = o.Name
	}
	return s
}

func one(s graph.Shape) []graph.Shape { return []graph.Shape{s} }

func arity(op string, in []graph.Shape, n int) {
	if len(in) != n {
		graph.Fail(op, in, "takes %d inputs", n)
	}
}

func rank(op string, in []graph.Shape, i, n int) {
	if len(in[i]) != n {
		graph.Fail(op, in, "input %d must have rank %d", i, n)
	}
}

// axisOf turns an axis counted from the end into one counted from the start.
func axisOf(op string, axis int, s graph.Shape) int {
	a := axis
	if a < 0 {
		a += len(s)
	}
	if a < 0 || a >= len(s) {
		graph.Fail(op, one(s), "there is no axis %d", axis)
	}
	return a
}

// strides are the distances, in elements, between neighbours along each axis of a row-major array.
func strides(s graph.Shape) []int {
	st := make([]int, len(s))
	n := 1
	for i := len(s) - 1; i >= 0; i-- {
		st[i] = n
		n *= s[i]
	}
	return st
}

// walk calls visit for each index of shape in row-major order with the offsets that several sets of strides give it.
func walk(s graph.Shape, sets [][]int, visit func(i int, at []int)) {
	n := s.Size()
	idx := make([]int, len(s))
	at := make([]int, len(sets))
	for i := range n {
		visit(i, at)
		for d := len(s) - 1; d >= 0; d-- {
			idx[d]++
			for k, st := range sets {
				at[k] += st[d]
			}
			if idx[d] < s[d] {
				break
			}
			for k, st := range sets {
				at[k] -= st[d] * s[d]
			}
			idx[d] = 0
		}
	}
}

// Scalar is a constant of rank 0 in the graph that like belongs to.
func Scalar(like *G.Node, v float64) *G.Node {
	return graph.Const(like, graph.Array{Shape: graph.Shape{}, F: []float64{v}})
}

// Scale multiplies by a constant.
func Scale(x *G.Node, v float64) *G.Node { return Mul(x, Scalar(x, v)) }

// Shift adds a constant.
func Shift(x *G.Node, v float64) *G.Node { return Add(x, Scalar(x, v)) }
