package losses

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// SP preserves the similarities of a batch's samples (Tung and Mori 2019, arXiv:1907.09682, eq. 2 to 4), for features F [N,…],
// flattened to [N,D]:
//
//	‖Gˢ − Gᵗ‖²_F / N²,  G = F·Fᵀ with each row divided by its norm
//
// Rows have the L2 norm, as in the paper and RepDistiller, whose weight is 3000; the variant "l1" takes the L1 norm, as torchdistill
// does, with a weight of 1. A row of zeros stays so, and has no gradient.
type SP struct {
	Variant string `yaml:"variant"` // "l2" or "l1"; default l2
}

// Validate wants a known variant.
func (s *SP) Validate() error {
	if s.Variant != "l2" && s.Variant != "l1" {
		return fmt.Errorf("variant must be l2 or l1, not %q", s.Variant)
	}
	return nil
}

// Build describes the loss.
func (s *SP) Build(in In) *G.Node {
	student, teacher := related(in)
	return meanSquare(op.Sub(s.similarities(student), s.similarities(teacher)))
}

// similarities are G [N,N] of features [N,D].
func (s *SP) similarities(f *G.Node) *G.Node {
	g := gram(f)
	if s.Variant == "l2" {
		return direction(g, 1, 0)
	}
	size := op.ReduceL1(g, []int{1}, true)
	return op.Mul(g, op.Div(above(size, leastNorm), op.Clip(size, leastNorm, math.Inf(1))))
}
