package losses

import (
	"cmp"
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// SRD is the simple recipe of Miles and Mikolajczyk (2024, arXiv:2303.11098, equation 8): a projector, batch norm of both
// sides, and a sum that the largest differences dominate,
//
//	2·log Σ |n(s) − n(t)|^α + mean_n KL(softmax(z_t/T) ‖ softmax(z_s/T))
//
// for pooled vectors s, after the projector, which is the tap's adapter, and t [N,D], and logits z [N,K]. The sum is over all
// N·D elements; n standardises each feature over the batch, the teacher's by the batch too, with 1e-4 added to the variance
// and nothing learnt. The divergence is not multiplied by T². Where the sum is below 1e-12 it counts as that, without
// gradient. Published with a weight of 1 beside cross-entropy. Its gradient does not vanish as the two come near.
type SRD struct {
	Alpha       float64 `yaml:"alpha"`       // α in 1..8; default 4
	Temperature float32 `yaml:"temperature"` // T > 0; default 1
}

// Validate wants α in 1..8 and T > 0.
func (s *SRD) Validate() error {
	if !(s.Alpha >= 1 && s.Alpha <= 8) {
		return fmt.Errorf("alpha must be in 1..8, not %v", s.Alpha)
	}
	return cmp.Or(positive("temperature", s.Temperature))
}

// leastSum is what the logarithm is taken of at least.
const leastSum = 1e-12

// Build describes the loss.
func (s *SRD) Build(in In) *G.Node {
	p := in.alike(in.vectors(in.Pair()))
	if in.Batch() < 2 {
		in.refuse(p, "a batch of one has no deviation")
	}
	away := op.Abs(op.Sub(overBatch(p.Student), overBatch(p.Teacher)))
	sum := op.ReduceSum(op.Pow(away, s.Alpha), nil, false)
	T := in.Knob("temperature", s.Temperature)
	zs, zt := op.LogSoftmax(op.Div(in.Student(), T), 1), op.LogSoftmax(op.Div(in.Teacher(), T), 1)
	features := op.Scale(op.Log(op.Clip(sum, leastSum, math.Inf(1))), 2)
	return op.Add(features, op.ReduceMean(divergence(zt, zs), nil, false))
}

// overBatch is x [N,D] with mean 0 and deviation 1 of each feature over the batch.
func overBatch(x *G.Node) *G.Node {
	centred := op.Sub(x, op.ReduceMean(x, []int{0}, true))
	variance := op.ReduceMean(op.Mul(centred, centred), []int{0}, true)
	return op.Div(centred, op.Sqrt(op.Shift(variance, 1e-4)))
}
