package losses

import (
	"cmp"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// WKDL is the logit part of Wasserstein distillation: what it costs to carry the student's probabilities of the classes other
// than the target's to the teacher's, where similar classes are near (Lv et al. 2024, arXiv:2412.08139, section 3.1):
//
//	mean_n [−p_y(t)·log p_y(s) + γ·Σ_ij F_ij·C_ij]
//	C_ij = 1 − exp(−κ·(1 − cos(w_i, w_j))),  p(z) = softmax(z)
//
// for logits s and t [N,K], labels y and the rows w of the teacher's classifier [K,D]. The flow F from softmax(s_k/T, k≠y) to
// softmax(t_k/T, k≠y) is that of Sinkhorn's iterations with K = exp(−C/λ), unrolled. The result is in nats and costs of 0..1; λ
// blurs the flow, so that equal probabilities have a small cost, too. The published weight of 1 stands beside cross-entropy of
// weight 1.
//
// The defaults of γ, T and decay are one setting, the authors' for ResNet-32x4 to ResNet-8x4 on CIFAR-100; there the classes'
// similarities are not those of the classifier but of features (CKA), which a teacher's file does not have.
type WKDL struct {
	Gamma       float64 `yaml:"gamma"`       // γ, 0 or more; default 800
	Temperature float32 `yaml:"temperature"` // T > 0, of the transport alone; default 8
	Lambda      float64 `yaml:"lambda"`      // λ, 0.02 or more: K must not round to 0; default 0.05
	Iterations  int     `yaml:"iterations"`  // 1..100; default 10
	Kappa       float64 `yaml:"kappa"`       // κ > 0; default 1
	Decay       float32 `yaml:"decay"`       // the epoch, of 240, from which γ falls to 0 by a cosine; default 150
}

// Validate wants settings in range.
func (w *WKDL) Validate() error {
	if w.Iterations < 1 || w.Iterations > 100 {
		return fmt.Errorf("iterations must be in 1..100, not %d", w.Iterations)
	}
	return cmp.Or(notNegative("gamma", w.Gamma), positive("temperature", w.Temperature), atLeast(0.02, "lambda", w.Lambda),
		positive("kappa", w.Kappa), notNegative("decay", w.Decay))
}

// Knobs let γ fall.
func (w *WKDL) Knobs(at Progress) map[string]float32 {
	return map[string]float32{"decay": decayed(at, w.Decay)}
}

// Build describes the loss.
func (w *WKDL) Build(in In) *G.Node {
	T, y := in.Knob("temperature", w.Temperature), in.target()
	s, t := in.Student(), in.Teacher()
	from, to := op.Exp(others(op.Div(s, T), y)), op.Exp(others(op.Div(t, T), y)) // [N,K], 0 at the target
	start := op.Scale(op.Not(y), 1/float64(in.Classes()-1))
	carried := op.ReduceMean(w.transport(from, to, start, w.costs(in)), nil, false)
	return op.Sub(op.Scale(op.Mul(in.Knob("decay", 1), carried), w.Gamma), agreement(s, t, y))
}

// mostClasses bounds the costs between classes, which are K² numbers.
const mostClasses = 4096

// costs are C of the teacher's classifier, [K,K]. They are computed here, where 1 − cos keeps its digits, and not in the graph.
func (w *WKDL) costs(in In) graph.Array {
	in.Classifier() // fails where there is none
	rows := in.term.Classifier.Weight
	k, d := rows.Shape[0], rows.Shape[1]
	if k > mostClasses {
		graph.Fail("loss "+in.term.Name, []graph.Shape{rows.Shape}, "it takes %d classes at most", mostClasses)
	}
	unit := make([]float64, len(rows.F))
	for i := range k {
		row := rows.F[i*d : (i+1)*d]
		copy(unit[i*d:], row)
		floats.Scale(1/max(floats.Norm(row, 2), 1e-12), unit[i*d:(i+1)*d])
	}
	c := graph.Zeros(graph.Shape{k, k})
	for i := range k {
		for j := range i {
			away := 1 - floats.Dot(unit[i*d:(i+1)*d], unit[j*d:(j+1)*d])
			c.F[i*k+j] = max(0, -math.Expm1(-w.Kappa*away)) // rounding may make a cosine larger than 1
			c.F[j*k+i] = c.F[i*k+j]
		}
	}
	return c
}

// transport is what it costs to carry probabilities from one distribution to another, row by row: [N,K] to [N], for u [N,K] to
// start from. Costs are symmetric, so that nothing need be transposed.
func (w *WKDL) transport(from, to, u *G.Node, cost graph.Array) *G.Node {
	const eps = 1e-8
	kernel, weighed := graph.Zeros(cost.Shape), graph.Zeros(cost.Shape) // K, and K∘C
	for i, c := range cost.F {
		kernel.F[i] = math.Exp(-c / w.Lambda)
		weighed.F[i] = kernel.F[i] * c
	}
	along := graph.Const(u, kernel)
	var v *G.Node
	for range w.Iterations {
		v = op.Div(to, op.Shift(op.MatMul(u, along), eps))
		u = op.Div(from, op.Shift(op.MatMul(v, along), eps))
	}
	return op.ReduceSum(op.Mul(u, op.MatMul(v, graph.Const(u, weighed))), []int{1}, false)
}
