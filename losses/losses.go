// Package losses holds what a student is trained to minimise, one file each; a loss sees graph nodes only.
//
//	kd := losses.Weighted{Name: "kd", Loss: &losses.KD{Temperature: 4}, Weight: 0.9}
//	cost := losses.Sum(g, model.Logits, []losses.Weighted{kd})
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
	// Build describes the loss, a scalar. It calls graph.Fail on what it cannot compare.
	Build(in In) *G.Node
}

// Scheduled is a loss with knobs that move with the run.
type Scheduled interface {
	Loss
	// Knobs are the values of an epoch, by the names that Build gave to In.Knob.
	Knobs(at Progress) map[string]float32
}

// Hosted is a loss with a part outside the graph, such as a bank of features that is too large for it.
type Hosted interface {
	Loss
	// Open readies that part before the first step of a process. labels are the class of each training sample, by index.
	// What must survive a resume is in the store, as graph.State entries whose names begin with prefix: Open takes the
	// entries that are there, and else makes them from the seed.
	Open(prefix string, store *graph.Store, labels []int64, seed uint64) (Host, error)
}

// Host is the part of a Hosted loss outside the graph. Its methods are called in turns, once a step.
type Host interface {
	// Feed gives the values of In.Input, by its parts, for a step counted from 0 over the whole run; index and labels are the batch's, [N].
	Feed(step int, index, labels []int64) (map[string]graph.Tensor, error)
	// Take is told the values of In.Output, by its parts, that the step computed.
	Take(out map[string]graph.Tensor) error
}

// Deployed is a loss whose method keeps a part of its own in the network that is exported, as SimKD does.
type Deployed interface {
	Loss
	// Deploy describes the logits [N,K] of the network to be deployed, with the parameters that Build named. The pairs have
	// no teacher there, only its shape.
	Deploy(in In) *G.Node
}

// Weighted is a loss in a sum, and what it is given.
type Weighted struct {
	Name        string // of its outputs and knobs
	Loss        Loss
	Weight      float32
	Standardize bool        // logits are standardised, each row by itself, before the loss sees them: see In.Student
	Pairs       []Pair      // of inner tensors, from input to output
	Classifier  *Classifier // the teacher's; nil where its file has none

	NoClassifier error // why its file has none
}

// Pair is an inner tensor of student and teacher that a loss compares.
type Pair struct {
	Student *G.Node     // [N,…], after the adapter where there is one
	Teacher *G.Node     // [N,…], an input: no gradient goes past it; nil in a program for inference
	Shape   graph.Shape // of the teacher's tensor, N included; known for inference too
	Norm    *Norm       // of the batch norm that made the teacher's tensor; nil where none did
}

// Norm is a batch norm's scale γ and shift β, [C] each, as a file has them.
type Norm struct{ Gamma, Beta []float64 }

// Classifier is a dense layer that gives the teacher's logits z of pooled features f: z = W·f + b.
type Classifier struct {
	Weight graph.Array // W [K,D]
	Bias   graph.Array // b [K]; zeros where the file has none
}

// Sum describes the weighted sum of losses on the student's logits [N,K]. Each loss, unweighted, is an output under its
// name, and its weight is the knob name.weight.
func Sum(g *graph.Graph, logits *G.Node, terms []Weighted) *G.Node {
	inputs := NewInputs(g, logits)
	var sum *G.Node
	for _, t := range terms {
		loss := t.Loss.Build(inputs.For(t))
		if s := graph.ShapeOf(loss); len(s) != 0 {
			graph.Fail("loss "+t.Name, []graph.Shape{s}, "a loss is a scalar")
		}
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

// meanSum is the sum over classes and the mean over the batch of x [N,K].
func meanSum(x *G.Node) *G.Node {
	return op.ReduceMean(op.ReduceSum(x, []int{1}, false), nil, false)
}
