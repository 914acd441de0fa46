package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// ownRows are the losses that were first published here.
var ownRows = []Row{
	{Name: "hda", Doc: "distance of the features' Gaussians, of networks of different kinds", Source: "this project; the distance: Gelbrich 1990, Math. Nachr. 147",
		Weight: 1, Taps: Stages, Adapter: "auto", Relational: true, New: func() Loss { return &HDA{Form: "squared", Shrinkage: 0.1, Iterations: 20} }},
	{Name: "attention_hint", Doc: "what attention makes of the student, against the teacher's normalised feature", Source: "this project",
		Weight: 1, Taps: Last, Adapter: "attention", Relational: true, New: func() Loss { return &AttentionHint{} }},
}

// places are what a tensor has at each place of each sample: of a map [N,C,H,W] its pixels [N·H·W,C], of tokens [N,L,D] each,
// [N·L,D], and vectors [N,D] themselves.
func (in In) places(p Pair, x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	switch len(s) {
	case 2:
		return x
	case 3:
		return op.Reshape(x, -1, s[2])
	case 4:
		return op.Reshape(op.Transpose(x, 0, 2, 3, 1), -1, s[1])
	}
	in.refuse(p, "it compares vectors [N,D], tokens [N,L,D] or maps [N,C,H,W]; tap others")
	return nil
}

// several wants two places or more, for one has no variance.
func (in In) several(p Pair, places *G.Node) {
	if graph.ShapeOf(places)[0] < 2 {
		in.refuse(p, "one vector has no variance; make batch larger")
	}
}
