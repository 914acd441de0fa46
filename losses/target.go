package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Losses that set the target, the class of the label, apart from the others.

// excluded is the logit of a class that is left out: so far below any other that its probability is exactly 0, and finite in
// float32.
const excluded = -1e30

// target is 1 at each sample's label and 0 elsewhere, [N,K]. It fails where there is no other class.
func (in In) target() *G.Node {
	if in.Classes() < 2 {
		graph.Fail("loss "+in.term.Name, nil, "it sets the label's class apart from the others, and there is only one")
	}
	return op.OneHot(in.Labels(), in.Classes())
}

// others are the log-probabilities of the classes other than the target, as if there were no target: z [N,K] to [N,K]. At the
// target the probability is 0, and its logarithm a finite number that means nothing.
func others(z, target *G.Node) *G.Node {
	return op.LogSoftmax(op.Where(target, op.Scalar(z, excluded), z), 1)
}

// ofTarget is x [N,K] at the target, [N,1].
func ofTarget(x, target *G.Node) *G.Node { return op.ReduceSum(op.Mul(x, target), []int{1}, true) }

// binary are the log-probabilities of the target and of all others together, z [N,K] to [N,2]. The second is summed up from
// the others' logarithms, since 1 − p rounds to 0 for a confident network.
func binary(z, target *G.Node) *G.Node {
	all := op.LogSoftmax(z, 1)
	rest := op.ReduceLogSumExp(op.Where(target, op.Scalar(z, excluded), all), []int{1}, true)
	return op.Concat(1, ofTarget(all, target), rest)
}
