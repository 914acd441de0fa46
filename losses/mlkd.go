package losses

import (
	"errors"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// MLKD compares predictions at several temperatures and on three levels: sample by sample, between the samples of a batch, and
// between classes (Jin et al. 2023, Multi-Level Logit Distillation):
//
//	Σ_T [KD_T + ‖PᵀP − QᵀQ‖² / K + ‖PPᵀ − QQᵀ‖² / N]
//	P = softmax(s/T), Q = softmax(t/T)
//
// for logits s and t [N,K], with squared Frobenius norms, KD_T as KD has it. The levels between samples and classes are not
// scaled by T². Published with weight 0.9 beside 0.1 of cross-entropy, at a learning rate of 0.025 where the others have 0.05.
//
// The paper also shows student and teacher a second, strongly augmented view of each image: that is left out. So is its mask of
// the samples of which the teacher is sure, which in the authors' code comes to a factor of about a half.
type MLKD struct {
	Temperatures []float64 `yaml:"temperatures"` // each > 0, one at least; default [2, 3, 4, 5, 6]
}

// Validate wants temperatures above 0, one at least.
func (m *MLKD) Validate() error {
	if len(m.Temperatures) == 0 {
		return errors.New("temperatures must be one at least")
	}
	for _, T := range m.Temperatures {
		if err := positive("temperatures", T); err != nil {
			return err
		}
	}
	return nil
}

// Build describes the loss.
func (m *MLKD) Build(in In) *G.Node {
	s, t := in.Student(), in.Teacher()
	var levels []*G.Node
	for _, T := range m.Temperatures {
		p, q := op.Softmax(op.Scale(s, 1/T), 1), op.Softmax(op.Scale(t, 1/T), 1)
		classes := squaredDistance(op.MatMulT(p, p, true, false), op.MatMulT(q, q, true, false)) // of [K,K]
		samples := squaredDistance(op.MatMulT(p, p, false, true), op.MatMulT(q, q, false, true)) // of [N,N]
		levels = append(levels, softened(s, t, op.Scalar(s, T)),
			op.Scale(classes, 1/float64(in.Classes())), op.Scale(samples, 1/float64(in.Batch())))
	}
	return op.Sum(levels...)
}

// squaredDistance is the sum of squared differences.
func squaredDistance(a, b *G.Node) *G.Node { return op.ReduceSumSquare(op.Sub(a, b), nil, false) }
