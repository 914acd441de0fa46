package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// AttentionHint is the loss of the differentiable adapter: the mean squared error of what the adapter attention makes of the
// student, against the teacher's tensor, normalised for each channel over the batch and its places (pixels or tokens):
//
//	Σ_pairs mean (s − (t − μ_c)/√(σ²_c + 1e-5))²
//
// s and t are of one shape, [N,C,H,W], [N,L,D] or [N,D]. The target is fixed, for no gradient passes it: compared with what is learnt
// itself, constant features would win. A student whose answer is one constant for each channel does not come below the target's
// variance, which is 1 but for the 1e-5. Channels count the same, whatever their range, so the loss needs no weight of its own.
type AttentionHint struct{}

// normEps is added to variances, as by batch norm.
const normEps = 1e-5

// Validate has nothing to check.
func (*AttentionHint) Validate() error { return nil }

// Build describes the loss.
func (*AttentionHint) Build(in In) *G.Node {
	return sumPairs(in, func(_ int, p Pair) *G.Node {
		in.alike(p)
		s, t := in.places(p, p.Student), in.places(p, p.Teacher)
		in.several(p, t)
		centred := op.Sub(t, op.ReduceMean(t, []int{0}, true))
		variance := op.ReduceMean(op.Mul(centred, centred), []int{0}, true)
		return meanSquare(op.Sub(s, op.Div(centred, op.Sqrt(op.Shift(variance, normEps)))))
	})
}
