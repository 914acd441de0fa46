package op

import G "gorgonia.org/gorgonia"

// Sum adds its inputs, one or more, broadcast.
func Sum(xs ...*G.Node) *G.Node {
	y := xs[0]
	for _, x := range xs[1:] {
		y = Add(y, x)
	}
	return y
}

// Mean is the mean of its inputs, one or more, elementwise and broadcast.
func Mean(xs ...*G.Node) *G.Node { return Scale(Sum(xs...), 1/float64(len(xs))) }

// liftAll lifts an operator of any number of tensors, at least one.
func liftAll(f func(xs ...*G.Node) *G.Node) func(n *Node) []*G.Node {
	return func(n *Node) []*G.Node {
		if len(n.In) == 0 {
			n.fail("it has no input")
		}
		xs := make([]*G.Node, len(n.In))
		for i := range xs {
			xs[i] = n.floats(i)
		}
		if len(xs) == 1 {
			return xs
		}
		return []*G.Node{f(xs...)}
	}
}
