package policy

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// LinUCB is the contextual bandit of Li et al. 2010 (arXiv:1003.0146), algorithm 1, with disjoint linear models. Of the rounds in
// which an arm was picked, with contexts x and rewards r, it has
//
//	A = I + Σ x·xᵀ, b = Σ r·x, θ = A⁻¹·b
//
// and it picks the arm of the largest θᵀx + Explore·√(xᵀA⁻¹x), of equals the first: what the round is expected to be worth, and
// how little that is known.
type LinUCB struct {
	Explore float64 `yaml:"explore"` // the paper's α, 0 or more; default 0.5
	Rounds  `yaml:",inline"`
}

// Validate checks the ranges.
func (l LinUCB) Validate() error {
	if !(l.Explore >= 0 && l.Explore <= 1e6) {
		return fmt.Errorf("explore must be in 0..1e6, not %v", l.Explore)
	}
	return l.Rounds.Validate()
}

// Choose implements [Policy].
func (l LinUCB) Choose(f Feedback) int {
	return largest(len(f.Arms), func(arm int) float64 {
		x := mat.NewVecDense(len(f.Arms[arm].Context), f.Arms[arm].Context)
		a, b := model(f.Past, arm, x.Len())
		var chol mat.Cholesky
		if !chol.Factorize(a) { // A ≥ I, but for contexts that are not finite
			return math.Inf(-1)
		}
		var theta, inverse mat.VecDense // A⁻¹·b and A⁻¹·x
		if chol.SolveVecTo(&theta, b) != nil || chol.SolveVecTo(&inverse, x) != nil {
			return math.Inf(-1)
		}
		return mat.Dot(&theta, x) + l.Explore*math.Sqrt(max(0, mat.Dot(x, &inverse)))
	})
}

// model is an arm's A and b.
func model(past []Round, arm, d int) (*mat.SymDense, *mat.VecDense) {
	a, b := mat.NewSymDense(d, nil), mat.NewVecDense(d, nil)
	for i := range d {
		a.SetSym(i, i, 1)
	}
	for _, r := range past {
		if r.Arm == arm {
			x := mat.NewVecDense(d, r.Context)
			a.SymRankOne(a, 1, x)
			b.AddScaledVec(b, r.Reward, x)
		}
	}
	return a, b
}
