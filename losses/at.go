package losses

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// AT is attention transfer (Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2). The attention of a map F [N,C,H,W] is
//
//	A(F) = n(mean_c |F_c|^p)    [N,HW], n(x) = x/‖x‖₂ for each image
//
// and the larger map is averaged to the smaller one's size first. The loss of a pair, summed over pairs, is
//
//	code    mean (A(s) − A(t))², over N·HW elements: what the authors' code computes, whose weight is 1000
//	paper   mean_n ‖A(s)_n − A(t)_n‖₂: another scale and, near the minimum, another slope; the weight of 1000 is not for it
//
// Channels may differ.
type AT struct {
	Variant string  `yaml:"variant"` // "code" or "paper"; default "code"
	P       float64 `yaml:"p"`       // in 1..4; default 2
}

// Validate wants a known variant, and p in 1..4.
func (a *AT) Validate() error {
	if a.Variant != "code" && a.Variant != "paper" {
		return fmt.Errorf("variant must be code or paper, not %q", a.Variant)
	}
	if !(a.P >= 1 && a.P <= 4) {
		return fmt.Errorf("p must be in 1..4, not %v", a.P)
	}
	return nil
}

// Build describes the loss.
func (a *AT) Build(in In) *G.Node {
	return sumPairs(in, func(_ int, p Pair) *G.Node {
		in.maps(p)
		s, t := toSmaller(p.Student, p.Teacher)
		d := op.Sub(a.attention(s), a.attention(t)) // [N,HW]
		if a.Variant == "paper" {
			return op.ReduceMean(norm(d, 1), nil, false)
		}
		return meanSquare(d)
	})
}

func (a *AT) attention(x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	power := op.Mul(x, x)
	if a.P != 2 {
		power = op.Pow(op.Abs(x), a.P)
	}
	return unit(op.Reshape(op.ReduceMean(power, []int{1}, false), s[0], s[2]*s[3]), 1)
}
