package losses

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// VID is variational information distillation (Ahn et al. 2019, arXiv:1904.05835): the student's map [N,C,H,W]
// is to tell the teacher's, t [N,C',H,W], as the mean of a Gaussian with a variance for each of the teacher's channels,
//
//	Σ_pairs mean ½·[ (μ(s) − t)²/σ² + log σ² ],  σ² = log(1 + e^α) + 1e-5
//
// up to a constant the negative log-likelihood in nats, so it may be negative. μ is three 1x1 convolutions without bias, with
// ReLU between, of C' channels; it and α are the loss's own and are trained with the student. The larger map is averaged to the
// smaller one's size first. The weight is 1.
type VID struct {
	Variance float64 `yaml:"variance"` // σ² at the start, in 0.0001..1000; default 5
}

// vidEps keeps the variance from 0.
const vidEps = 1e-5

// Validate wants a variance above what is added to it.
func (v *VID) Validate() error {
	if !(v.Variance >= 1e-4 && v.Variance <= 1e3) {
		return fmt.Errorf("variance must be in 0.0001..1000, not %v", v.Variance)
	}
	return nil
}

// Build describes, for pair i from 1, meani.0, meani.2 and meani.4, numbered as with the ReLUs between, and scalei, α [C'].
func (v *VID) Build(in In) *G.Node {
	// α for the variance at the start: the inverse of log(1 + e^α), written so that it does not overflow.
	x := v.Variance - vidEps
	alpha := graph.Constant(float32(x + math.Log(-math.Expm1(-x))))
	return sumPairs(in, func(i int, p Pair) *G.Node {
		in.maps(p)
		mean, t := toSmaller(p.Student, p.Teacher)
		c := p.Shape[1]
		for k := range 3 {
			if k > 0 {
				mean = op.Relu(mean)
			}
			name := in.Name(fmt.Sprintf("mean%d.%d", i+1, 2*k))
			mean = nn.Conv{Name: name, In: graph.ShapeOf(mean)[1], Out: c, Kernel: 1}.Apply(in.Graph(), mean)
		}
		scale := in.Graph().Param(in.Name(fmt.Sprintf("scale%d", i+1)), graph.Shape{c}, alpha)
		variance := op.Reshape(op.Shift(op.Softplus(scale), vidEps), 1, c, 1, 1)
		d := op.Sub(mean, t)
		nll := op.Add(op.Div(op.Mul(d, d), variance), op.Log(variance))
		return op.Scale(op.ReduceMean(nll, nil, false), 0.5)
	})
}
