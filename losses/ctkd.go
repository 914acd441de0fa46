package losses

import (
	"cmp"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// CTKD is KD at a temperature that is trained against the student, in a curriculum from easy to hard (Li et al. 2023,
// arXiv:2211.16231), the global one of the paper:
//
//	KD at T = start + span·σ(θ)
//
// with one parameter θ, 1 at the start, through a gradient reversal: its gradient is multiplied by λ, which falls by a cosine
// from 0 to −1 over the first 10 of 240 epochs. Where λ is negative the optimizer moves θ to where the loss is larger. λ
// is 1, the plain gradient, where nothing moves it. Published with weight 0.9 beside 0.1 of cross-entropy.
type CTKD struct {
	Start  float64 `yaml:"start"`  // the least temperature, > 0; default 1
	Span   float64 `yaml:"span"`   // from the least to the largest, > 0; default 20
	Warmup float32 `yaml:"warmup"` // epochs, of 240, in which λ falls to −1; default 10, 0: it is −1 throughout
}

// Validate wants temperatures above 0 and a warm-up of 0 or more.
func (c *CTKD) Validate() error {
	return cmp.Or(positive("start", c.Start), positive("span", c.Span), notNegative("warmup", c.Warmup))
}

// Knobs are λ, which begins to fall with the first epoch.
func (c *CTKD) Knobs(at Progress) map[string]float32 {
	done := float64(warmup(at, c.Warmup))
	return map[string]float32{"lambda": float32((math.Cos(math.Pi*done) - 1) / 2)}
}

// Build describes the loss.
func (c *CTKD) Build(in In) *G.Node {
	theta := in.Graph().Param(in.Name("theta"), graph.Shape{1}, graph.Constant(1))
	theta = scaleGradient(theta, in.Knob("lambda", 1))
	T := op.Shift(op.Scale(op.Sigmoid(op.Reshape(theta)), c.Span), c.Start)
	return softened(in.Student(), in.Teacher(), T)
}

// scaleGradient is x, whose gradient is multiplied by the scalar λ.
func scaleGradient(x, lambda *G.Node) *G.Node {
	still := op.StopGradient(x)
	return op.Add(still, op.Mul(lambda, op.Sub(x, still)))
}
