package losses

import (
	"cmp"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// OFA has every stage of the student, not only its end, predict what the teacher predicts, so that networks of any two kinds
// can be compared; and it raises the target's probability (Hao et al. 2023, arXiv:2310.19444):
//
//	l(s) + w · Σ_i l(s_i),  l(s) = mean_n Σ_k −[(p_k(t) + 1_y)^ε − 1_y]·log p_k(s),  p(z) = softmax(z/T)
//
// for logits s and t [N,K], labels y, and the logits s_i [N,K] that the adapter ofa makes of the student's stages; taps name a
// tensor of each, and for the teacher its logits. The result is a cross-entropy, in nats. The published weight of 1 stands
// beside cross-entropy of weight 1. With `standardize: true` the stages' logits are standardised, too.
type OFA struct {
	Epsilon     float64 `yaml:"epsilon"`      // ε > 0, which raises the target; default 1, published with 1 to 1.5 by pair
	StageWeight float64 `yaml:"stage_weight"` // w, 0 or more; default 1, the authors' for ImageNet; theirs for CIFAR is 0.1
	Temperature float32 `yaml:"temperature"`  // T > 0; default 1
}

// Validate wants ε and T above 0 and w of 0 or more.
func (o *OFA) Validate() error {
	return cmp.Or(positive("epsilon", o.Epsilon), notNegative("stage_weight", o.StageWeight), positive("temperature", o.Temperature))
}

// Build describes the loss.
func (o *OFA) Build(in In) *G.Node {
	T, y := in.Knob("temperature", o.Temperature), in.target()
	teacher := op.Softmax(op.Div(in.Teacher(), T), 1)
	raised := op.Sub(op.Pow(op.Add(teacher, y), o.Epsilon), y) // [N,K]
	l := func(s *G.Node) *G.Node {
		return op.Neg(meanSum(op.Mul(raised, op.LogSoftmax(op.Div(s, T), 1))))
	}
	var stages []*G.Node
	for _, p := range in.Pairs() {
		s := p.Student
		if got, want := graph.ShapeOf(s), graph.ShapeOf(teacher); !got.Equal(want) {
			graph.Fail("loss "+in.term.Name, []graph.Shape{got, want}, "a stage must come to the shape of the teacher's logits: "+
				"name them in taps as the teacher's tensor, with the adapter ofa")
		}
		if in.term.Standardize {
			s = standard(s)
		}
		stages = append(stages, l(s))
	}
	return op.Add(l(in.Student()), op.Scale(op.Sum(stages...), o.StageWeight))
}
