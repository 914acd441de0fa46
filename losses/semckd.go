package losses

import (
	"fmt"
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// SemCKD is cross-layer distillation with semantic calibration (Chen et al. 2021, arXiv:2012.03236): each of the student's maps
// is compared with all of the teacher's, by shares α that an attention learns for each image,
//
//	1/(N·S) · Σ_n,i,j α[n,i,j] · mean (proj_ij(s_i) − t_j)²[n],  α[n,i,:] = softmax_j(q_i[n]·k_j[n]/τ)
//
// for i = 1..S maps of the student and j = 1..T of the teacher, those that the pairs name, each once. Queries and keys are made of
// how an image resembles the others of its batch: row n of the products FFᵀ [N,N] of the flattened maps goes through two dense
// layers, of 2D and D = ⌊N/Factor⌋ features, and is divided by its length. Of s_i and t_j the larger is averaged to the smaller one's
// size; proj_ij is convolutions 1x1, 3x3 and 1x1, the first two of twice the teacher's channels with batch norm and ReLU.
//
// The loss's own parameters depend on the batch size, so that a run keeps its batch. The shares bring gradient to the student, too.
// The weight is 400. It was published with SGD of 0.05, which diverges within ten steps, in PyTorch too, where a teacher's maps
// are large, as those of a CIFAR-10 ResNet-56 whose squares have a mean of 3: lower the rate to 0.01, or the weight.
type SemCKD struct {
	Temperature float64 `yaml:"temperature"` // τ > 0 of the shares; default 1
	Factor      int     `yaml:"factor"`      // of the batch size over the features of queries and keys, in 1..1024; default 4
}

// Validate wants τ > 0 and finite, and a factor.
func (s *SemCKD) Validate() error {
	if s.Factor < 1 || s.Factor > 1024 {
		return fmt.Errorf("factor must be in 1..1024, not %d", s.Factor)
	}
	return positive("temperature", s.Temperature)
}

// Build describes, for the student's map i and the teacher's j from 1, queryi.linear1 and .linear2, keyj.linear1 and .linear2, and
// proji_j.1 and .2, with conv and bn each, and .3.
func (s *SemCKD) Build(in In) *G.Node {
	students, teachers := layers(in)
	embedded := func(part string, maps []*G.Node) *G.Node { // [N,maps,D]
		all := make([]*G.Node, len(maps))
		for i, x := range maps {
			all[i] = op.Unsqueeze(s.embed(in, fmt.Sprintf("%s%d", part, i+1), x), 1)
		}
		return op.Concat(1, all...)
	}
	scores := op.MatMulT(embedded("query", students), embedded("key", teachers), false, true) // [N,S,T]
	shares := op.Softmax(op.Scale(scores, 1/s.Temperature), 2)
	var squares []*G.Node // S·T of [N,1]
	for i, x := range students {
		for j, t := range teachers {
			from, to := toSmaller(x, t)
			d := op.Sub(projected(in.Graph(), in.Name(fmt.Sprintf("proj%d_%d", i+1, j+1)), from, graph.ShapeOf(t)[1]), to)
			squares = append(squares, op.Unsqueeze(meanSquare(d, 1, 2, 3), 1))
		}
	}
	n := in.Batch()
	all := op.Reshape(op.Concat(1, squares...), n, len(students), len(teachers))
	return op.Scale(op.ReduceSum(op.Mul(shares, all), nil, false), 1/float64(n*len(students)))
}

// layers are the maps that the pairs name, each once.
func layers(in In) (students, teachers []*G.Node) {
	for _, p := range in.Pairs() {
		in.maps(p)
		if !slices.Contains(students, p.Student) {
			students = append(students, p.Student)
		}
		if !slices.Contains(teachers, p.Teacher) {
			teachers = append(teachers, p.Teacher)
		}
	}
	return students, teachers
}

// embed makes [N,D] of how the images of a map [N,C,H,W] resemble each other.
func (s *SemCKD) embed(in In, part string, x *G.Node) *G.Node {
	n := in.Batch()
	d := max(n/s.Factor, 1)
	f := op.Flatten(x)
	y := op.MatMulT(f, f, false, true)
	y = op.Relu(nn.Linear{Name: in.Name(part + ".linear1"), In: n, Out: 2 * d}.Apply(in.Graph(), y))
	return unit(nn.Linear{Name: in.Name(part + ".linear2"), In: 2 * d, Out: d}.Apply(in.Graph(), y), 1)
}

// projected gives a map [N,C,H,W] a number of channels.
func projected(g *graph.Graph, name string, x *G.Node, to int) *G.Node {
	x = convNormRelu(g, name+".1", x, 2*to, 1)
	x = convNormRelu(g, name+".2", x, 2*to, 3)
	return nn.Conv{Name: name + ".3", In: 2 * to, Out: to, Kernel: 1}.Apply(g, x)
}
