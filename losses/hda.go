package losses

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// HDA aligns features of networks of different kinds by their distribution, pair by pair (l):
//
//	Σ_l (1/d_l) · W₂²( N(φμᵗ, φΣᵗφ), N(φμˢ, φΣˢφ) ),  W₂² = ‖φ(μˢ−μᵗ)‖² + tr(I + A − 2A^{½}),  A = φΣˢφ
//
// where mean μ [d] and covariance Σ [d,d] are over the batch and, of maps and tokens, its places: the two may differ in their
// number, not in width, which an adapter makes equal. φ = (Σᵗ)^{−½} whitens the teacher, so that each of its directions counts the
// same, and no gradient passes it; it is the same for both sides, so that the adapter, learnt, followed by φ is what maps the
// student. It is made of the batch at hand. There the teacher's Gaussian becomes N(0,I), and still the loss asks for the
// teacher's own mean and covariance, for the student goes through φ as well. It is 0 where both are equal; a constant student does
// not come below (1−√shrinkage)²/d, nor, where the teacher's channels vary alike and apart, below (1−√shrinkage)².
//
// The covariances are shrunk, Σ = (1−shrinkage)·Σ + shrinkage·τI with τ the mean variance of the teacher's d channels: a batch of
// fewer places than channels has none of full rank. Roots are by Newton–Schulz, see squareRoot. The cost grows with
// d³·iterations: a width of 512 is 0.3 GFLOP for each of 6·iterations products.
//
// The loss asks for the teacher's statistics over a batch, not for its answer to an image: it goes beside one that does. The form
// "printed" is the distance W₂ itself in place of its square, as first written down: its gradient does not become less
// as the distance does, and is cut off where W₂² is below 1e-8.
type HDA struct {
	Form       string  `yaml:"form"`       // "squared" or "printed"; default squared
	Shrinkage  float64 `yaml:"shrinkage"`  // in 0..1 without 0; default 0.1
	Iterations int     `yaml:"iterations"` // of Newton–Schulz, in 1..64; default 20
}

// Bounds below which a teacher is constant and a distance 0.
const (
	leastSpread   = 1e-8
	leastDistance = 1e-8
)

// Validate wants a known form and settings in range.
func (h *HDA) Validate() error {
	if h.Form != "squared" && h.Form != "printed" {
		return fmt.Errorf("form must be squared or printed, not %q", h.Form)
	}
	if !(h.Shrinkage > 0 && h.Shrinkage <= 1) {
		return fmt.Errorf("shrinkage must be above 0, and 1 or less, not %v", h.Shrinkage)
	}
	if h.Iterations < 1 || h.Iterations > 64 {
		return fmt.Errorf("iterations must be in 1..64, not %d", h.Iterations)
	}
	return nil
}

// Build describes the loss.
func (h *HDA) Build(in In) *G.Node {
	return sumPairs(in, func(_ int, p Pair) *G.Node {
		s, t := in.places(p, p.Student), in.places(p, p.Teacher)
		in.several(p, s)
		in.several(p, t)
		d := graph.ShapeOf(t)[1]
		if graph.ShapeOf(s)[1] != d {
			in.refuse(p, "it compares tensors of one width; give the tap an adapter, as adapter: auto")
		}
		distance := h.distance(s, t)
		if h.Form == "printed" {
			distance = op.Sqrt(op.Clip(distance, leastDistance, math.Inf(1)))
		}
		return op.Scale(distance, 1/float64(d))
	})
}

// distance is W₂² of the Gaussians of places s [M,d] and t [M',d].
func (h *HDA) distance(s, t *G.Node) *G.Node {
	d := graph.ShapeOf(t)[1]
	identity := graph.Const(t, eye(d))
	trace := func(a *G.Node) *G.Node { return op.ReduceSum(op.Mul(a, identity), nil, false) }
	meanS, covS := gaussian(s)
	meanT, covT := gaussian(t)
	spread := op.Clip(op.Scale(trace(covT), 1/float64(d)), leastSpread, math.Inf(1))
	shrunk := func(cov *G.Node) *G.Node {
		return op.Add(op.Scale(cov, 1-h.Shrinkage), op.Scale(op.Mul(identity, spread), h.Shrinkage))
	}
	_, whiten := squareRoot(shrunk(covT), h.Iterations)
	a := op.MatMul(op.MatMul(whiten, shrunk(covS)), whiten)
	_, inverse := squareRoot(op.StopGradient(a), h.Iterations)
	// tr A^{½} = tr(A^{−½}A), whose derivative by A is ½A^{−½}: half of it is differentiated, with A^{−½} held.
	whole := op.ReduceSum(op.Mul(inverse, a), nil, false)
	root := op.Scale(op.Add(whole, op.StopGradient(whole)), 0.5)
	shift := op.ReduceSumSquare(op.MatMul(op.Sub(meanS, meanT), whiten), nil, false)
	return op.Add(shift, op.Shift(op.Sub(trace(a), op.Scale(root, 2)), float64(d)))
}

// gaussian is the mean [1,d] and the covariance [d,d] of places x [M,d], by M.
func gaussian(x *G.Node) (mean, covariance *G.Node) {
	mean = op.ReduceMean(x, []int{0}, true)
	centred := op.Sub(x, mean)
	return mean, op.Scale(op.MatMulT(centred, centred, true, false), 1/float64(graph.ShapeOf(x)[0]))
}

// squareRoot is A^{½} and A^{−½} of a symmetric positive definite A [d,d], by the coupled iteration of Newton and Schulz
// (Higham 2008, Functions of Matrices, eq. 6.35): from Y = A/‖A‖_F and Z = I,
//
//	T = (3I − Z·Y)/2,  Y ← Y·T,  Z ← T·Z
//
// and then Y·‖A‖_F^{½} and Z/‖A‖_F^{½}. An eigenvalue λ, relative to the norm, grows by 9/4 each time until it nears 1, so about
// 4 + log(1/λ)/log(9/4) iterations bring its root to what float64 can hold; 20 do for λ ≥ 1e-5. After fewer, small eigenvalues
// are still too small in Y and in Z alike.
func squareRoot(a *G.Node, iterations int) (root, inverse *G.Node) {
	identity := graph.Const(a, eye(graph.ShapeOf(a)[0]))
	three := op.Scale(identity, 3)
	size := op.Sqrt(op.ReduceSumSquare(a, nil, false))
	y, z := op.Div(a, size), identity
	for range iterations {
		t := op.Scale(op.Sub(three, op.MatMul(z, y)), 0.5)
		y, z = op.MatMul(y, t), op.MatMul(t, z)
	}
	size = op.Sqrt(size)
	return op.Mul(y, size), op.Div(z, size)
}
