package losses

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// CRD is contrastive representation distillation (Tian et al. 2020, arXiv:1910.10699, eq. 17 to 19), for features [N,D],
// flattened. Each side is embedded by a dense layer of its own to u [N,128] of length 1, which is trained, the teacher's too. A memory
// holds an embedding of each training sample by either side. The student's must tell its sample in the teacher's memory from K
// samples of other classes, and the teacher's in the student's:
//
//	mean_n [ −log h(u_n,m_n) − Σ_k log(1 − h(u_n,m_k)) ] of both,  h = o/(o + K/M),  o = exp(⟨u,m⟩/T)/Z,  M samples in all
//
// Z is M times the mean of exp over the first batch of the run, fixed from then on; only there does a gradient pass it. The memory
// takes in what a step computed, m ← momentum·m + (1−momentum)·u, made length 1 again. The published weight is 0.8 without KD
// beside it. The 1e-7 in the published denominators is left out: what follows takes no logarithm of a small number.
//
// Where the published program draws K samples for each image of the batch, the batch shares one draw here. It is of K samples
// of the set without repetition, and those of the image's own class have no part in its sum; the others count K in all. The
// expectation is the same, and with it the weight. A step then reads 2·K·128 numbers and N·K counts instead of 2·N·K·128: at
// K = 16384 and N = 64 that is 20 MiB instead of 1 GiB. A set that has less than K samples is taken whole, and K is its size; the
// step computes with nce_k rows still.
//
// The memory takes 2·M·128 numbers on the host, 49 MiB for the 50000 of CIFAR, and is saved with the run.
type CRD struct {
	Negatives   int     `yaml:"nce_k"`       // K in 1..1048576; default 16384
	Temperature float64 `yaml:"temperature"` // T ≥ 0.02; default 0.07
	Momentum    float64 `yaml:"momentum"`    // of the memory, in 0..1 without 1; default 0.5
}

// Limits of the settings: of K, for a step reads K rows of the memory, and of T, for e^{1/T} must be a float32.
const (
	mostNegatives    = 1 << 20
	leastTemperature = 0.02
)

// Validate wants settings in range.
func (c *CRD) Validate() error {
	if c.Negatives < 1 || c.Negatives > mostNegatives {
		return fmt.Errorf("nce_k must be in 1..%d, not %d", mostNegatives, c.Negatives)
	}
	if !(c.Momentum >= 0 && c.Momentum < 1) {
		return fmt.Errorf("momentum must be in 0..1 without 1, not %v", c.Momentum)
	}
	if !(c.Temperature >= leastTemperature) || math.IsInf(c.Temperature, 0) {
		return fmt.Errorf("temperature must be %v or more and finite, not %v", leastTemperature, c.Temperature)
	}
	return nil
}

// Parts of the names of what the loss and its memory exchange: inputs, and outputs under the two sides' own names.
const (
	studentSide = "student"
	teacherSide = "teacher"

	positivesPart = ".positives" // of a side's memory, [N,128]
	negativesPart = ".negatives" // likewise [K,128]
	sharesPart    = "shares"     // [N,K], how often an image counts a negative
	drawnPart     = "drawn"      // [1], K, or less where the set is smaller
)

// Build describes the loss, student.weight, student.bias and the teacher's alike, and z [2], which is Z/M, 0 before the first step.
func (c *CRD) Build(in In) *G.Node {
	p := in.Pair()
	n := p.Shape[0]
	s := direction(embedding(in, studentSide, rows(p.Student)), 1, 0)
	t := direction(embedding(in, teacherSide, rows(p.Teacher)), 1, 0)
	in.Output(studentSide, s)
	in.Output(teacherSide, t)
	shares := in.Input(sharesPart, graph.Float32, n, c.Negatives)
	drawn := in.Input(drawnPart, graph.Float32, 1)
	z := in.Graph().State(in.Name("z"), graph.State, graph.Shape{2}, graph.Constant(0))
	against := func(u *G.Node, memory string, z *G.Node) (loss, mean *G.Node) {
		return c.contrast(u, in.Input(memory+positivesPart, graph.Float32, n, embeddingWidth),
			in.Input(memory+negativesPart, graph.Float32, c.Negatives, embeddingWidth), shares, drawn, z)
	}
	ofStudent, zs := against(s, teacherSide, op.Slice(z, op.Range{Axis: 0, To: 1}))
	ofTeacher, zt := against(t, studentSide, op.Slice(z, op.Range{Axis: 0, From: 1}))
	in.Graph().Update(in.Name("z"), op.Concat(0, zs, zt))
	return op.Add(ofStudent, ofTeacher)
}

// contrast is the loss of embeddings u [N,128] against a memory, and Z/M, [1], which is the mean of exp where z is still 0. It is
// logistic: the odds of h are o·M/K, with the logarithm ⟨u,m⟩/T − log(Z/M·K).
func (c *CRD) contrast(u, positives, negatives, shares, drawn, z *G.Node) (loss, mean *G.Node) {
	n := float64(graph.ShapeOf(u)[0])
	own := op.Scale(op.ReduceSum(op.Mul(u, positives), []int{1}, true), 1/c.Temperature) // [N,1]
	others := op.Scale(op.MatMulT(u, negatives, false, true), 1/c.Temperature)           // [N,K]
	sum := op.Add(op.ReduceSum(op.Exp(own), nil, false), op.ReduceSum(op.Mul(shares, op.Exp(others)), nil, false))
	mean = op.Where(above(z, 0), z, op.Div(sum, op.Shift(op.ReduceSum(shares, nil, false), n)))
	chance := op.Log(op.Mul(mean, drawn))
	missed := op.ReduceSum(op.Softplus(op.Sub(chance, own)), nil, false)
	mistaken := op.ReduceSum(op.Mul(shares, op.Softplus(op.Sub(others, chance))), nil, false)
	return op.Scale(op.Add(missed, mistaken), 1/n), mean
}
