package losses

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// PKT compares the probabilities of samples being neighbours (Passalis and Tefas 2018, arXiv:1803.10837, eq. 5 to 8), for
// features f [N,D], flattened:
//
//	mean_ij pᵗ_ij · log((pᵗ_ij+ε) / (pˢ_ij+ε)),  p_ij = S_ij / Σ_j S_ij,  S_ij = (cos(f_i,f_j) + 1)/2
//
// with ε = 1e-7. The mean is over N² entries, though a row is a distribution, so the published weight is 30000. A sample of
// zeros is as near to each as to another.
type PKT struct{}

// pktEps is added to norms and probabilities.
const pktEps = 1e-7

// Validate has nothing to check.
func (*PKT) Validate() error { return nil }

// Build describes the loss.
func (*PKT) Build(in In) *G.Node {
	student, teacher := related(in)
	s, t := neighbours(student), neighbours(teacher)
	ratio := op.Sub(op.Log(op.Shift(t, pktEps)), op.Log(op.Shift(s, pktEps)))
	return op.ReduceMean(op.Mul(t, ratio), nil, false)
}

// neighbours are the probabilities p [N,N] of features [N,D].
func neighbours(f *G.Node) *G.Node {
	s := op.Scale(op.Shift(gram(direction(f, 1, pktEps)), 1), 0.5)
	s = op.Clip(s, 0, math.Inf(1)) // of opposites, rounding may leave less
	return op.Div(s, op.ReduceSum(s, []int{1}, true))
}
