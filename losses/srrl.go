package losses

import (
	"cmp"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph/op"
)

// SRRL has the teacher's classifier judge the student's features (Yang et al. 2021, ICLR, "Knowledge distillation via softmax
// regression representation learning", equations 2 and 5):
//
//	α · mean (u − f)² + β · mean (W·u + b − t)²,  u = ReLU(BN(connector·s))
//
// for pooled vectors s [N,D'] of the student and f [N,D] of the teacher, whose classifier is W [K,D] and b [K], and its logits
// t [N,K]. Means are over all elements. The connector, a dense layer without bias, is the loss's own, and not exported. u is
// never negative: f is to be the average of a map after its ReLU. Published with weight 1 beside cross-entropy and kd of
// weight 1. With `standardize: true` the logits W·u + b are standardised, too.
type SRRL struct {
	Features float64 `yaml:"features"` // α, 0 or more; default 1
	Logits   float64 `yaml:"logits"`   // β, 0 or more; default 1
}

// Validate wants weights of 0 or more.
func (s *SRRL) Validate() error {
	return cmp.Or(notNegative("features", s.Features), notNegative("logits", s.Logits))
}

// Build describes the loss and its connector.
func (s *SRRL) Build(in In) *G.Node {
	p := in.vectors(in.Pair())
	w, b := in.classifierOf(p)
	u := op.Flatten(convNormRelu(in.Graph(), in.Name("connector"), op.Unsqueeze(p.Student, 2, 3), p.Shape[1], 1))
	z := op.Gemm(u, w, b)
	if in.term.Standardize {
		z = standard(z)
	}
	features, logits := meanSquare(op.Sub(u, p.Teacher)), meanSquare(op.Sub(z, in.Teacher()))
	return op.Add(op.Scale(features, s.Features), op.Scale(logits, s.Logits))
}
