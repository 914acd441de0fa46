package losses

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// KD is the softened divergence of Hinton et al. 2015 (arXiv:1503.02531):
//
//	T² · mean_n KL(softmax(t/T) ‖ softmax(s/T))
//
// for logits s and t [N,K]. The mean is over the batch, not over its N·K elements; the result is in nats.
type KD struct {
	Temperature float32 `yaml:"temperature"` // T > 0; default 4
}

// Validate wants T > 0 and finite.
func (k *KD) Validate() error {
	if T := float64(k.Temperature); !(T > 0) || math.IsInf(T, 0) {
		return fmt.Errorf("temperature must be positive and finite, not %v", k.Temperature)
	}
	return nil
}

// Build describes the loss.
func (k *KD) Build(in In) *G.Node {
	T := in.Knob("temperature", k.Temperature)     // a policy may move it
	p := op.LogSoftmax(op.Div(in.Student(), T), 1) // [N,K]
	q := op.LogSoftmax(op.Div(in.Teacher(), T), 1) // [N,K]
	kl := meanSum(op.Mul(op.Exp(q), op.Sub(q, p)))
	return op.Mul(op.Mul(T, T), kl)
}
