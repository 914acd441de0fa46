package losses

import (
	"fmt"
	"math"
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// OFD is the overhaul of feature distillation (Heo et al. 2019, arXiv:1904.01866), on maps [N,C,H,W] before their
// ReLU. Where the teacher's t is negative the student's s, after a connector of the loss's own (1x1 convolution and batch norm),
// need only be as negative, down to the teacher's margin m of the channel, for a ReLU makes all of that 0:
//
//	Σ_i 2^(i−n) · Σ_chw mean_n d²,  d = s − max(t,m) where t > 0 or s > max(t,m), else 0,  i = 1..n pairs
//
// It is a sum over the elements of an image: the weight is 1e-3 for images of 32x32 and 1e-4 for 224x224. The teacher's map
// is averaged to the student's size.
//
// The margin is the mean of the negative half of what the channel's batch norm gives, N(β,γ²):
//
//	m = β − |γ|·φ(β/γ)/Φ(−β/γ), or −3|γ| where Φ(−β/γ) ≤ 0.001
//
// so that a teacher's tap must be the output of a batch norm that its file still has. The paper's taps are those before the last
// ReLU of each stage; in a residual network that is a sum, which no one batch norm makes, and the batch norm of the sum's branch
// is the one to tap. The student's side may be any map, best before a ReLU too.
type OFD struct{}

// Validate has nothing to check.
func (*OFD) Validate() error { return nil }

// Build describes, for pair i from 1, connectori.conv and connectori.bn.
func (*OFD) Build(in In) *G.Node {
	n := len(in.Pairs())
	return sumPairs(in, func(i int, p Pair) *G.Node {
		in.maps(p)
		s, c := graph.ShapeOf(p.Student), p.Shape[1]
		m := in.Graph().Const(in.margins(p))
		part := func(layer string) string { return in.Name(fmt.Sprintf("connector%d.%s", i+1, layer)) }
		x := nn.Conv{Name: part("conv"), In: s[1], Out: c, Kernel: 1, Init: nn.KaimingNormal}.Apply(in.Graph(), p.Student)
		x = nn.BatchNorm{Name: part("bn"), Channels: c}.Apply(in.Graph(), x)
		t := nn.Resample(p.Teacher, s[2], s[3], nn.Averaging)
		d := op.Sub(x, op.Max(t, m)) // m ≤ 0, so that this is s − t where t > 0
		d = op.Where(op.Greater(t, op.Scalar(t, 0)), d, op.Relu(d))
		return op.Scale(op.ReduceSumSquare(d, nil, false), math.Pow(2, float64(i+1-n))/float64(s[0]))
	})
}

// margins are those of the teacher's channels, [1,C,1,1].
func (in In) margins(p Pair) graph.Array {
	if p.Norm == nil {
		in.refuse(p, "it needs the batch norm that makes the teacher's tensor, and none in the file does: tap the output of a BatchNormalization, "+
			"before its ReLU, in a file exported with training=TrainingMode.PRESERVE, which keeps it")
	}
	c := p.Shape[1]
	m := graph.Zeros(graph.Shape{1, c, 1, 1})
	if len(p.Norm.Gamma) != c || len(p.Norm.Beta) != c {
		in.refuse(p, "the batch norm of the teacher's tensor has %d scales and %d shifts", len(p.Norm.Gamma), len(p.Norm.Beta))
	}
	for i := range m.F {
		m.F[i] = margin(p.Norm.Gamma[i], p.Norm.Beta[i])
	}
	if slices.ContainsFunc(m.F, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }) {
		in.refuse(p, "the batch norm of the teacher's tensor has scales or shifts that are not finite")
	}
	return m
}

// margin is the mean of the negative half of N(β,γ²), or −3|γ| where hardly anything is negative.
func margin(gamma, beta float64) float64 {
	const least = 1e-3
	gamma = math.Abs(gamma)
	if gamma == 0 { // a constant
		return min(beta, 0)
	}
	z := beta / gamma
	below := math.Erfc(z/math.Sqrt2) / 2 // Φ(−z)
	if below <= least {
		return -3 * gamma
	}
	return beta - gamma*math.Exp(-z*z/2)/math.Sqrt(2*math.Pi)/below
}
