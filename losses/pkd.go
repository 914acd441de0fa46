package losses

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// PKD compares maps by Pearson's correlation (Cao et al. 2022, arXiv:2207.02039): each channel of a map
// [N,C,H,W] is standardised over batch and pixels, ẑ = (z − mean)/(std + 1e-6), with the unbiased deviation, and
//
//	Σ_pairs ½ · mean (ŝ − t̂)²
//
// which is 1 − ρ, the correlation of a channel, averaged over channels, but for the 1e-6 and for N·H·W where N·H·W − 1 divides.
// The maps have one shape. The weight of 6 is the authors' for the maps of a detector.
type PKD struct{}

// pkdEps is added to deviations.
const pkdEps = 1e-6

// Validate has nothing to check.
func (*PKD) Validate() error { return nil }

// Build describes the loss.
func (*PKD) Build(in In) *G.Node {
	return sumPairs(in, func(_ int, p Pair) *G.Node {
		in.alike(in.maps(p))
		if p.Shape[0]*p.Shape[2]*p.Shape[3] < 2 {
			in.refuse(p, "one number in a channel has no deviation; take a batch of two or more, or larger maps")
		}
		return op.Scale(meanSquare(op.Sub(standardized(p.Student), standardized(p.Teacher))), 0.5)
	})
}

// standardized is a map [N,C,H,W] with the mean 0 and the deviation 1 in each channel.
func standardized(x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	axes := []int{0, 2, 3}
	centred := op.Sub(x, op.ReduceMean(x, axes, true))
	variance := op.Scale(op.ReduceSumSquare(centred, axes, true), 1/float64(s.Size()/s[1]-1))
	return op.Div(centred, op.Shift(op.Sqrt(op.Clip(variance, leastVariance, math.Inf(1))), pkdEps))
}
