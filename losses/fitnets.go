package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// FitNets matches hints (Romero et al. 2015, arXiv:1412.6550, equation 3):
//
//	Σ_pairs mean (r(s) − t)²
//
// over all elements of a student's tensor s, which the regressor r, the tap's adapter, gives the shape of the teacher's t. The
// paper has half the sum of squares; the mean, and with it the weight of 100, is what later comparisons of methods use. They
// take one pair, the second of the three stages of a CIFAR network, and train with the other losses from the start, where the
// paper first trains up to the hint alone. A recipe without taps compares the last maps.
type FitNets struct{}

// Validate has nothing to check.
func (*FitNets) Validate() error { return nil }

// Build describes the loss.
func (*FitNets) Build(in In) *G.Node {
	return sumPairs(in, func(_ int, p Pair) *G.Node {
		in.alike(p)
		return meanSquare(op.Sub(p.Student, p.Teacher))
	})
}
