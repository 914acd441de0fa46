package losses

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Names of the inputs that a program has once a loss has asked for them.
const (
	LabelsInput  = "labels"         // int64 [N], class indices
	IndexInput   = "index"          // int64 [N], the samples' indices in their source
	TeacherInput = "teacher_logits" // float32 [N,K]
)

// Inputs is what the losses of one program share: each input is declared when the first loss asks for it.
type Inputs struct {
	g                      *graph.Graph
	student                *G.Node
	labels, index, teacher *G.Node
	// The logits standardised, once a loss has asked for them so.
	standardStudent, standardTeacher *G.Node
}

// NewInputs serves losses on the student's logits [N,K].
func NewInputs(g *graph.Graph, student *G.Node) *Inputs { return &Inputs{g: g, student: student} }

// For gives one loss its view.
func (s *Inputs) For(t Weighted) In { return In{s, t} }

// In gives a loss what it asks for.
type In struct {
	*Inputs
	term Weighted
}

// Graph is what nn's layers are applied in. The loss's own are named by Name.
func (in In) Graph() *graph.Graph { return in.g }

// Classes is K.
func (in In) Classes() int { return graph.ShapeOf(in.student)[1] }

// Batch is N.
func (in In) Batch() int { return graph.ShapeOf(in.student)[0] }

// Student is the student's logits [N,K]. Where the recipe says `standardize: true` they are standardised: see standard.
func (in In) Student() *G.Node {
	if !in.term.Standardize {
		return in.student
	}
	if in.standardStudent == nil {
		in.Inputs.standardStudent = standard(in.student)
	}
	return in.standardStudent
}

// Teacher is the teacher's logits [N,K], standardised where the student's are. It is an input, so no gradient goes past it.
func (in In) Teacher() *G.Node {
	if in.teacher == nil {
		in.Inputs.teacher = in.g.Input(TeacherInput, graph.Float32, graph.ShapeOf(in.student)...)
	}
	if !in.term.Standardize {
		return in.teacher
	}
	if in.standardTeacher == nil {
		in.Inputs.standardTeacher = standard(in.teacher)
	}
	return in.standardTeacher
}

// Labels is the class of each sample, int64 [N].
func (in In) Labels() *G.Node {
	if in.labels == nil {
		in.Inputs.labels = in.g.Input(LabelsInput, graph.Int64, in.Batch())
	}
	return in.labels
}

// Index is the index of each sample in the training source, int64 [N].
func (in In) Index() *G.Node {
	if in.index == nil {
		in.Inputs.index = in.g.Input(IndexInput, graph.Int64, in.Batch())
	}
	return in.index
}

// Pairs are the inner tensors to compare, one at least, from input to output.
func (in In) Pairs() []Pair {
	if len(in.term.Pairs) == 0 {
		graph.Fail("loss "+in.term.Name, nil, "it compares inner tensors: name them, as taps: [{student: NAME, teacher: TENSOR}]")
	}
	return in.term.Pairs
}

// Pair is the only pair of a loss that compares one.
func (in In) Pair() Pair {
	pairs := in.Pairs()
	if len(pairs) > 1 {
		graph.Fail("loss "+in.term.Name, nil, "it compares one pair of tensors, taps names %d", len(pairs))
	}
	return pairs[0]
}

// Classifier is the teacher's last dense layer as constants: weight [K,D] and bias [K].
func (in In) Classifier() (weight, bias *G.Node) {
	c := in.term.Classifier
	if c == nil {
		why := "there is no teacher"
		if err := in.term.NoClassifier; err != nil {
			why = err.Error()
		}
		graph.Fail("loss "+in.term.Name, nil, "it needs the weight of the teacher's last layer: %s; take a teacher whose logits are those of "+
			"a dense layer (Gemm or MatMul) with its weight in the file, or another loss", why)
	}
	return in.g.Const(c.Weight), in.g.Const(c.Bias)
}

// Prefix begins the names of what belongs to the loss of a term: "loss." and the term's name.
func Prefix(term string) string { return "loss." + term }

// Name is that of a layer or parameter of the loss's own, "loss.<term>.<part>". Those are trained with the student and not
// exported: the program for inference does not read them.
func (in In) Name(part string) string { return Prefix(in.term.Name) + "." + part }

// Knob is a number that may move from step to step, named term.name.
func (in In) Knob(name string, value float32) *G.Node {
	return in.g.Knob(in.term.Name+"."+name, value)
}

// Input is a value that the loss's Host feeds each step, under part.
func (in In) Input(part string, t graph.DType, shape ...int) *G.Node {
	return in.g.Input(in.Name(part), t, shape...)
}

// Output is a value that the loss's Host is told after each step, under part.
func (in In) Output(part string, n *G.Node) { in.g.Output(in.Name(part), n) }

// What standard adds to a deviation, and the least variance whose root it takes: the root of 0 has no derivative.
const (
	standardEps   = 1e-7
	leastVariance = 1e-36
)

// standard is logit standardisation (Sun et al. 2024, arXiv:2403.01427), row by row of z [N,K]:
//
//	(z − mean) / (1e-7 + std),  std² = Σ_k (z_k − mean)²/(K−1)
func standard(z *G.Node) *G.Node {
	k := graph.ShapeOf(z)[1]
	if k < 2 {
		graph.Fail("standardize", []graph.Shape{graph.ShapeOf(z)}, "one class has no deviation")
	}
	centred := op.Sub(z, op.ReduceMean(z, []int{1}, true))
	variance := op.Scale(op.ReduceSum(op.Mul(centred, centred), []int{1}, true), 1/float64(k-1))
	return op.Div(centred, op.Shift(op.Sqrt(op.Clip(variance, leastVariance, math.Inf(1))), standardEps))
}
