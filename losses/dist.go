package losses

import (
	"cmp"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// DIST asks for the teacher's relations instead of its probabilities, so that a much stronger teacher does no harm (Huang et
// al. 2022, arXiv:2205.10536):
//
//	T² · [β·(1 − mean_n ρ(P_n, Q_n)) + γ·(1 − mean_k ρ(P_k, Q_k))]
//	P = softmax(s/T), Q = softmax(t/T)
//
// for logits s and t [N,K]: ρ is Pearson's correlation, of a sample's probabilities over the classes (inter-class) and of a
// class's over the samples of the batch (intra-class), a·b / (‖a‖·‖b‖ + 1e-8) of centred a and b. The published weight is 2,
// beside cross-entropy of weight 1.
//
// It needs two samples. Probabilities that are all equal, as of a classifier that starts at zero, correlate with nothing, and
// the gradient is very large there.
type DIST struct {
	Beta        float64 `yaml:"beta"`        // of the relations between classes, 0 or more; default 1
	Gamma       float64 `yaml:"gamma"`       // of those between samples, 0 or more; default 1
	Temperature float32 `yaml:"temperature"` // T > 0; default 1
}

// Validate wants weights of 0 or more and T > 0.
func (d *DIST) Validate() error {
	return cmp.Or(notNegative("beta", d.Beta), notNegative("gamma", d.Gamma), positive("temperature", d.Temperature))
}

// Build describes the loss.
func (d *DIST) Build(in In) *G.Node {
	if in.Batch() < 2 {
		graph.Fail("loss "+in.term.Name, nil, "it compares the samples of a batch, and there is only one; take a larger batch")
	}
	T := in.Knob("temperature", d.Temperature)
	p, q := op.Softmax(op.Div(in.Student(), T), 1), op.Softmax(op.Div(in.Teacher(), T), 1)
	inter, intra := op.ReduceMean(pearson(p, q, 1), nil, false), op.ReduceMean(pearson(p, q, 0), nil, false)
	loss := op.Shift(op.Add(op.Scale(inter, -d.Beta), op.Scale(intra, -d.Gamma)), d.Beta+d.Gamma)
	return op.Mul(op.Mul(T, T), loss)
}

// pearson correlates a and b along an axis, which is left out of the result.
func pearson(a, b *G.Node, axis int) *G.Node {
	along := []int{axis}
	centred := func(x *G.Node) *G.Node { return op.Sub(x, op.ReduceMean(x, along, true)) }
	norm := func(x *G.Node) *G.Node {
		return op.Sqrt(op.Clip(op.ReduceSumSquare(x, along, false), leastVariance, math.Inf(1)))
	}
	a, b = centred(a), centred(b)
	const eps = 1e-8
	return op.Div(op.ReduceSum(op.Mul(a, b), along, false), op.Shift(op.Mul(norm(a), norm(b)), eps))
}
