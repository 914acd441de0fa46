package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// KD is the softened divergence of Hinton et al. 2015 (arXiv:1503.02531):
//
//	T² · mean_n KL(softmax(t/T) ‖ softmax(s/T))
//
// for logits s and t [N,K]. The mean is over the batch, not over its N·K elements; the result is in nats. Published with weight
// 0.9 beside 0.1 of cross-entropy at T = 4 for CIFAR-100, and 0.5 beside 0.5 at T = 1 for ImageNet.
type KD struct {
	Temperature float32 `yaml:"temperature"` // T > 0; default 4
}

// Validate wants T > 0 and finite.
func (k *KD) Validate() error { return positive("temperature", k.Temperature) }

// Build describes the loss.
func (k *KD) Build(in In) *G.Node {
	T := in.Knob("temperature", k.Temperature) // a policy may move it
	return softened(in.Student(), in.Teacher(), T)
}

// softened is T² · mean_n KL(softmax(t/T) ‖ softmax(s/T)) for logits s and t [N,K] and a scalar T.
func softened(s, t, T *G.Node) *G.Node {
	p, q := op.LogSoftmax(op.Div(s, T), 1), op.LogSoftmax(op.Div(t, T), 1)
	return op.Mul(op.Mul(T, T), op.ReduceMean(divergence(q, p), nil, false))
}

// divergence is KL(exp q ‖ exp p) of log-probabilities [N,K], row by row: [N], in nats.
func divergence(q, p *G.Node) *G.Node {
	return op.ReduceSum(op.Mul(op.Exp(q), op.Sub(q, p)), []int{1}, false)
}
