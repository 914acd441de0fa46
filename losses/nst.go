package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// NST is neuron selectivity transfer with the polynomial kernel (Huang and Wang 2017, arXiv:1707.01219):
// the squared maximum mean discrepancy between the channels of two maps [N,C,H,W], each a vector φ of HW elements of length 1,
//
//	Σ_pairs mean_n [ mean k(t,t) + mean k(s,s) − 2·mean k(s,t) ],  k(a,b) = (φ_aᵀφ_b)²
//
// with means over all pairs of channels. The larger map is averaged to the smaller one's size first; channels may differ. The
// weight of 50 is the later comparisons'.
//
// The means of k are those of C·C products for each image. Where HW is less than C the same number is computed from the
// HW·HW products of pixels: mean_n ‖φ(s)ᵀφ(s)/C_s − φ(t)ᵀφ(t)/C_t‖²_F.
type NST struct{}

// Validate has nothing to check.
func (*NST) Validate() error { return nil }

// Build describes the loss.
func (*NST) Build(in In) *G.Node {
	return sumPairs(in, func(_ int, p Pair) *G.Node {
		in.maps(p)
		s, t := toSmaller(p.Student, p.Teacher)
		s, t = channels(s), channels(t)
		size := graph.ShapeOf(s)
		if pixels := size[2]; pixels < max(size[1], graph.ShapeOf(t)[1]) {
			d := op.Sub(moments(s), moments(t)) // [N,HW,HW]
			return op.Scale(op.ReduceSumSquare(d, nil, false), 1/float64(size[0]))
		}
		kernel := func(a, b *G.Node) *G.Node { return meanSquare(op.MatMulT(a, b, false, true)) } // of [N,Ca,Cb]
		return op.Sub(op.Add(kernel(t, t), kernel(s, s)), op.Scale(kernel(s, t), 2))
	})
}

// channels are those of a map [N,C,H,W], as vectors of length 1: [N,C,HW].
func channels(x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	return unit(op.Reshape(x, s[0], s[1], s[2]*s[3]), 2)
}

// moments are the means over channels of the products of pixels: φᵀφ/C [N,HW,HW] of φ [N,C,HW].
func moments(x *G.Node) *G.Node {
	return op.Scale(op.MatMulT(x, x, true, false), 1/float64(graph.ShapeOf(x)[1]))
}
