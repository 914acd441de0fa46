// Package losses holds what a student is trained to minimise, one file each; a loss sees graph nodes only.
//
//	in := losses.NewInputs(g, model.Logits)
//	cost := (&losses.KD{Temperature: 4}).Build(in.For("kd"))
package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Loss is a loss; its struct is the recipe's section.
type Loss interface {
	// Validate reports the first setting out of range.
	Validate() error
	// Build describes the loss, a scalar.
	Build(in In) *G.Node
}

// Weighted is a loss in a sum.
type Weighted struct {
	Name   string // of its outputs and knobs
	Loss   Loss
	Weight float32
}

// Sum describes the weighted sum of losses on the student's logits [N,K]. Each loss, unweighted, is an output under its
// name, and its weight is the knob name.weight.
func Sum(g *graph.Graph, logits *G.Node, terms []Weighted) *G.Node {
	inputs := NewInputs(g, logits)
	var sum *G.Node
	for _, t := range terms {
		loss := t.Loss.Build(inputs.For(t.Name))
		g.Output(t.Name, loss)
		weighted := op.Mul(loss, g.Knob(t.Name+".weight", t.Weight))
		if sum == nil {
			sum = weighted
		} else {
			sum = op.Add(sum, weighted)
		}
	}
	return sum
}

// Row is a loss under the name a recipe gives it.
type Row struct {
	Name string
	Doc  string
	New  func() Loss // a pointer to the defaults
}

// Table lists the losses.
var Table = []Row{
	{"ce", "cross-entropy with the labels, or with the teacher's probabilities", func() Loss { return &CE{Targets: "labels"} }},
	{"kd", "softened divergence from the teacher (Hinton et al. 2015)", func() Loss { return &KD{Temperature: 4} }},
}

// Names of the inputs that a program has once a loss has asked for them.
const (
	LabelsInput  = "labels"         // int64 [N], class indices
	TeacherInput = "teacher_logits" // float32 [N,K]
)

// Inputs is what the losses of one program share: each input is declared when the first loss asks for it.
type Inputs struct {
	g               *graph.Graph
	student         *G.Node
	labels, teacher *G.Node
}

// NewInputs serves losses on the student's logits [N,K].
func NewInputs(g *graph.Graph, student *G.Node) *Inputs { return &Inputs{g: g, student: student} }

// For gives one loss its view; knobs are named after it.
func (s *Inputs) For(name string) In { return In{s, name} }

// In gives a loss what it asks for.
type In struct {
	*Inputs
	name string
}

// Student is the student's logits [N,K].
func (in In) Student() *G.Node { return in.student }

// Classes is K.
func (in In) Classes() int { return graph.ShapeOf(in.student)[1] }

// Labels is the class of each sample, int64 [N].
func (in In) Labels() *G.Node {
	if in.labels == nil {
		in.Inputs.labels = in.g.Input(LabelsInput, graph.Int64, graph.ShapeOf(in.student)[0])
	}
	return in.labels
}

// Teacher is the teacher's logits [N,K]. It is an input, so no gradient goes past it.
func (in In) Teacher() *G.Node {
	if in.teacher == nil {
		in.Inputs.teacher = in.g.Input(TeacherInput, graph.Float32, graph.ShapeOf(in.student)...)
	}
	return in.teacher
}

// Knob is a number that may move from step to step, named loss.knob.
func (in In) Knob(name string, value float32) *G.Node { return in.g.Knob(in.name+"."+name, value) }

// meanSum is the sum over classes and the mean over the batch of x [N,K].
func meanSum(x *G.Node) *G.Node {
	return op.ReduceMean(op.ReduceSum(x, []int{1}, false), nil, false)
}
