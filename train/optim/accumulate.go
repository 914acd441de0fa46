package optim

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// SumSuffix follows a parameter's name in that of the sum of its gradients over the batches of a step. Between steps it is zeros.
const SumSuffix = ".gradients"

// Accumulate makes a program add its gradients to their sums, and leave the parameters to the program of Accumulated.
func Accumulate(g *graph.Graph, grads []graph.Gradient) {
	for _, d := range grads {
		g.Update(d.Name+SumSuffix, op.Add(sumOf(g, d.Name, graph.ShapeOf(d.Param)), d.Grad))
	}
}

// Accumulated are the means of the gradients that a program has summed by Accumulate in n runs; it makes their sums zeros.
func Accumulated(g *graph.Graph, summed *graph.Program, n int) []graph.Gradient {
	var grads []graph.Gradient
	for _, l := range summed.Stored {
		if l.Kind != graph.Param || !slices.ContainsFunc(summed.Updates, func(u graph.Named) bool { return u.Name == l.Name+SumSuffix }) {
			continue // frozen, or idle
		}
		sum := sumOf(g, l.Name, l.Shape)
		grads = append(grads, graph.Gradient{Name: l.Name, Param: g.Param(l.Name, l.Shape, l.Init), Grad: op.Scale(sum, 1/float64(n))})
		g.Update(l.Name+SumSuffix, op.Expand(op.Scalar(sum, 0), l.Shape))
	}
	return grads
}

func sumOf(g *graph.Graph, param string, s graph.Shape) *G.Node {
	return g.State(param+SumSuffix, graph.Moment, s, graph.Constant(0))
}
