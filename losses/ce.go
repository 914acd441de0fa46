package losses

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// CE is cross-entropy, as PyTorch's CrossEntropyLoss:
//
//	mean_n Σ_k −q[n,k]·log softmax(s)[n,k],  q = (1−ε)·target + ε/K
//
// with logits s [N,K] and label smoothing ε (Szegedy et al. 2016, arXiv:1512.00567). The result is in nats.
type CE struct {
	LabelSmoothing float64 `yaml:"label_smoothing"` // ε in 0..1; default 0
	// Targets is "labels", the class of each sample, or "teacher", the teacher's probabilities as soft labels.
	Targets string `yaml:"targets"`
}

// Validate wants ε in 0..1 and known targets.
func (c *CE) Validate() error {
	if !(c.LabelSmoothing >= 0 && c.LabelSmoothing <= 1) {
		return fmt.Errorf("label_smoothing must be in 0..1, not %v", c.LabelSmoothing)
	}
	if c.Targets != "labels" && c.Targets != "teacher" {
		return fmt.Errorf("targets must be labels or teacher, not %q", c.Targets)
	}
	return nil
}

// Build describes the loss.
func (c *CE) Build(in In) *G.Node {
	var q *G.Node // [N,K]
	if c.Targets == "teacher" {
		q = op.Softmax(in.Teacher(), 1)
	} else {
		q = op.OneHot(in.Labels(), in.Classes())
	}
	if e := c.LabelSmoothing; e > 0 {
		q = op.Shift(op.Scale(q, 1-e), e/float64(in.Classes()))
	}
	return op.Neg(meanSum(op.Mul(q, op.LogSoftmax(in.Student(), 1))))
}
