package losses

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// relationRows are the losses on how samples relate: those of a batch, or for CRD the batch and what a memory holds.
var relationRows = []Row{
	{Name: "rkd", Doc: "distances and angles between the samples of a batch", Source: "Park et al. 2019, arXiv:1904.05068",
		Weight: 1, Taps: Pooled, Relational: true, New: func() Loss { return &RKD{Distance: 25, Angle: 50} }},
	{Name: "pkt", Doc: "how likely samples are neighbours, by cosine", Source: "Passalis and Tefas 2018, arXiv:1803.10837",
		Weight: 30000, Taps: Pooled, Relational: true, New: func() Loss { return &PKT{} }},
	{Name: "sp", Doc: "similarities of the samples of a batch", Source: "Tung and Mori 2019, arXiv:1907.09682",
		Weight: 3000, Taps: Last, Relational: true, New: func() Loss { return &SP{Variant: "l2"} }},
	{Name: "cc", Doc: "correlation of the samples of a batch", Source: "Peng et al. 2019, arXiv:1904.01802",
		Weight: 0.02, Taps: Pooled, Relational: true, New: func() Loss { return &CC{Variant: "repdistiller", Gamma: 0.4, Order: 2} }},
	{Name: "crd", Doc: "contrast of each sample with many others, from a memory", Source: "Tian et al. 2020, arXiv:1910.10699",
		Weight: 0.8, Taps: Pooled, New: func() Loss { return &CRD{Negatives: 16384, Temperature: 0.07, Momentum: 0.5} }},
}

// related are a pair's tensors with a row for each sample, student [N,D] and teacher [N,D'], of two samples at least.
func related(in In) (student, teacher *G.Node) {
	p := in.Pair()
	if p.Shape[0] < 2 {
		in.refuse(p, "it compares how samples relate and needs two in a batch; make batch larger")
	}
	return rows(p.Student), rows(p.Teacher)
}

// rows flattens what a tensor [N,…] has of each sample.
func rows(x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	if len(s) == 2 {
		return x
	}
	return op.Reshape(x, s[0], -1)
}

// direction is x/(‖x‖+eps) over an axis. Where ‖x‖ is leastNorm or less it is 0 and has no gradient: the true one grows
// with 1/‖x‖, and one dead sample would undo a network.
func direction(x *G.Node, axis int, eps float64) *G.Node {
	square := op.ReduceSumSquare(x, []int{axis}, true)
	length := op.Sqrt(op.Clip(square, leastNorm*leastNorm, math.Inf(1)))
	return op.Mul(x, op.Div(above(square, leastNorm*leastNorm), op.Shift(length, eps)))
}

// above is 1 where x > v, else 0.
func above(x *G.Node, v float64) *G.Node { return op.Greater(x, op.Scalar(x, v)) }

// gram is x·xᵀ of rows x [N,D]: [N,N].
func gram(x *G.Node) *G.Node { return op.MatMulT(x, x, false, true) }

// eye is the identity matrix [n,n].
func eye(n int) graph.Array {
	a := graph.Zeros(graph.Shape{n, n})
	for i := range n {
		a.F[i*n+i] = 1
	}
	return a
}
