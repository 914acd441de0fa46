package losses

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// CC is correlation congruence (Peng et al. 2019, arXiv:1904.01802), for features f [N,D], flattened. Two published programs have
// two different losses under the name. The variant "repdistiller" takes the differences of neighbours in the batch, of embeddings
// by a dense layer for each side:
//
//	mean_{n<N} Σ_d δ_n·δ_{n+1},  δ = |Eˢfˢ − Eᵗfᵗ|  [N,128]
//
// with a weight of 0.02. Both layers are trained, as published, so that a constant of both would do: it needs a loss beside it.
// The variant "rbf", torchdistill's with a weight of 0.003, compares kernels [N,N] of the features themselves:
//
//	‖Kˢ − Kᵗ‖_F / N²,  K = e^{−2γ} Σ_{p≤P} (2γ)^p/p! · ⟨f_i,f_j⟩^p
//
// the series of the paper's Gaussian for features of length 1 (eq. 9), which that program does not make so.
type CC struct {
	Variant string  `yaml:"variant"` // "repdistiller" or "rbf"; default repdistiller
	Gamma   float64 `yaml:"gamma"`   // γ > 0 of rbf; default 0.4
	Order   int     `yaml:"order"`   // P in 1..8 of rbf; default 2
}

// Validate wants a known variant and settings of rbf in range.
func (c *CC) Validate() error {
	if c.Variant != "repdistiller" && c.Variant != "rbf" {
		return fmt.Errorf("variant must be repdistiller or rbf, not %q", c.Variant)
	}
	if c.Order < 1 || c.Order > 8 {
		return fmt.Errorf("order must be in 1..8, not %d", c.Order)
	}
	return positive("gamma", c.Gamma)
}

// Build describes the loss.
func (c *CC) Build(in In) *G.Node {
	student, teacher := related(in)
	if c.Variant == "rbf" {
		d := op.Sub(c.kernel(student), c.kernel(teacher))
		n := in.Batch()
		// A root of 0 has no gradient: none is taken where the kernels agree.
		return op.Scale(op.Sqrt(op.Clip(op.ReduceSumSquare(d, nil, false), leastNorm*leastNorm, math.Inf(1))), 1/float64(n*n))
	}
	delta := op.Abs(op.Sub(embedding(in, "student", student), embedding(in, "teacher", teacher)))
	last := graph.ShapeOf(delta)[0]
	before, after := op.Slice(delta, op.Range{Axis: 0, To: last - 1}), op.Slice(delta, op.Range{Axis: 0, From: 1})
	return meanSum(op.Mul(before, after))
}

// kernel is K [N,N] of features [N,D].
func (c *CC) kernel(f *G.Node) *G.Node {
	x := gram(f)
	factor := math.Exp(-2 * c.Gamma)
	power := x
	k := op.Scalar(x, factor)
	for p := 1; p <= c.Order; p++ {
		if p > 1 {
			power = op.Mul(power, x)
		}
		factor *= 2 * c.Gamma / float64(p)
		k = op.Add(k, op.Scale(power, factor))
	}
	return k
}

// embeddingWidth is that of the space in which CC and CRD compare, as published.
const embeddingWidth = 128

// embedding is a dense layer of the loss's own, part.weight [128,D] and part.bias [128], of features [N,D].
func embedding(in In, part string, f *G.Node) *G.Node {
	return nn.Linear{Name: in.Name(part), In: graph.ShapeOf(f)[1], Out: embeddingWidth}.Apply(in.Graph(), f)
}
