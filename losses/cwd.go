package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// CWD is channel-wise distillation (Shu et al. 2021, arXiv:2011.13256): each channel of a map [N,C,H,W] is a
// distribution over its pixels, p = softmax_hw(F/T), and
//
//	Σ_pairs T² · mean_nc KL(p(t) ‖ p(s))
//
// in nats. The maps have one shape. The weight of 50, with T = 4, is the paper's for features.
type CWD struct {
	Temperature float32 `yaml:"temperature"` // T > 0; default 4
}

// Validate wants T > 0 and finite.
func (c *CWD) Validate() error { return positive("temperature", c.Temperature) }

// Build describes the loss.
func (c *CWD) Build(in In) *G.Node {
	T := in.Knob("temperature", c.Temperature)
	return sumPairs(in, func(_ int, p Pair) *G.Node {
		in.alike(in.maps(p))
		rows := func(x *G.Node) *G.Node { return op.Reshape(x, p.Shape[0]*p.Shape[1], -1) } // [NC,HW]
		return softened(rows(p.Student), rows(p.Teacher), T)
	})
}
