package losses

import (
	"cmp"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// DKD decouples the softened divergence into one of the target's class and one of the others (Zhao et al. 2022,
// arXiv:2203.08679, equation 7):
//
//	T² · mean_n [α·TCKD + β·NCKD]
//	TCKD = KL(b(t) ‖ b(s)),  b(z) = (p_y, 1 − p_y),  p = softmax(z/T)
//	NCKD = KL(softmax(t_k/T, k≠y) ‖ softmax(s_k/T, k≠y))
//
// for logits s and t [N,K] and labels y, so that KD = TCKD + (1 − p_y(t))·NCKD for each sample. The result is in nats. Of two
// classes the others are one, of which both are certain: NCKD is 0.
//
// The published weight of 1 stands beside cross-entropy of weight 1. β goes with the pair of networks: 8 for ResNet-32x4 to
// ResNet-8x4, 2 for ResNet-56 to ResNet-20, 6 for VGG-13 to VGG-8, all at T = 4; on ImageNet, at T = 1 and without warm-up, 0.5
// for ResNet-34 to ResNet-18 and 2 for ResNet-50 to MobileNet, where the paper has α = 0.5 and its code 1.
type DKD struct {
	Alpha       float64 `yaml:"alpha"`       // of the target's class, 0 or more; default 1
	Beta        float64 `yaml:"beta"`        // of the others, 0 or more; default 8
	Temperature float32 `yaml:"temperature"` // T > 0; default 4
	Warmup      float32 `yaml:"warmup"`      // epochs, of 240, in which the loss comes in; default 20, 0: none
}

// Validate wants weights and a warm-up of 0 or more and T > 0.
func (d *DKD) Validate() error {
	return cmp.Or(notNegative("alpha", d.Alpha), notNegative("beta", d.Beta), positive("temperature", d.Temperature),
		notNegative("warmup", d.Warmup))
}

// Knobs warm up.
func (d *DKD) Knobs(at Progress) map[string]float32 {
	return map[string]float32{"warmup": warmup(at, d.Warmup)}
}

// Build describes the loss.
func (d *DKD) Build(in In) *G.Node {
	T, y := in.Knob("temperature", d.Temperature), in.target()
	s, t := op.Div(in.Student(), T), op.Div(in.Teacher(), T)
	decoupled := op.Add(op.Scale(tckd(s, t, y), d.Alpha), op.Scale(nckd(s, t, y), d.Beta))
	loss := op.Mul(op.Mul(T, T), op.ReduceMean(decoupled, nil, false))
	return op.Mul(in.Knob("warmup", 1), loss)
}

// tckd is the divergence of the target's class from logits [N,K] over the temperature, [N].
func tckd(s, t, target *G.Node) *G.Node { return divergence(binary(t, target), binary(s, target)) }

// nckd is the divergence of the other classes from logits [N,K] over the temperature, [N].
func nckd(s, t, target *G.Node) *G.Node { return divergence(others(t, target), others(s, target)) }
