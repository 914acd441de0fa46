package losses

import (
	"cmp"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// NKD normalises the probabilities of the classes other than the target's, so that the student can reach the teacher's (Yang
// et al. 2023, arXiv:2303.13005):
//
//	mean_n [−p_y(t)·log p_y(s) − γ·T² · Σ_{k≠y} p̂_k(t)·log p̂_k(s)]
//	p(z) = softmax(z),  p̂(z) = softmax(z_k/T, k≠y)
//
// for logits s and t [N,K] and labels y. It is a cross-entropy, in nats: not 0 where student and teacher are equal. The
// published weight of 1 stands beside cross-entropy with the labels of weight 1.
type NKD struct {
	Gamma       float64 `yaml:"gamma"`       // γ, 0 or more; default 1.5
	Temperature float32 `yaml:"temperature"` // T > 0, of the other classes alone; default 1
}

// Validate wants γ of 0 or more and T > 0.
func (l *NKD) Validate() error {
	return cmp.Or(notNegative("gamma", l.Gamma), positive("temperature", l.Temperature))
}

// Build describes the loss.
func (l *NKD) Build(in In) *G.Node {
	T, y := in.Knob("temperature", l.Temperature), in.target()
	s, t := in.Student(), in.Teacher()
	q, p := op.Exp(others(op.Div(t, T), y)), others(op.Div(s, T), y)
	rest := op.Mul(op.Mul(T, T), meanSum(op.Mul(q, p)))
	return op.Neg(op.Add(agreement(s, t, y), op.Scale(rest, l.Gamma)))
}

// agreement is mean_n p_y(t)·log p_y(s) for logits s and t [N,K]: a scalar in nats, 0 or less.
func agreement(s, t, target *G.Node) *G.Node {
	return meanSum(op.Mul(target, op.Mul(op.Softmax(t, 1), op.LogSoftmax(s, 1))))
}
