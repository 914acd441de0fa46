package adapter

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// Tokens makes the teacher's tokens [N,L,D] of a student's map [N,C,H,W], or of tokens of another number. What the student
// has is resized to the grid of the teacher's tokens, as Conv resizes it, and a dense layer gives each its width. Where the
// teacher's first token is the class's, the student's is its counterpart, or else the mean over its own pixels or patches.
type Tokens struct{}

// Validate has nothing to check.
func (*Tokens) Validate() error { return nil }

// Build describes the layer, name.weight [D,C] and name.bias [D], which all tokens share.
func (*Tokens) Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node {
	p := pairOf("tokens", name, student, teacher)
	p.want(len(p.s) != 2 && len(p.t) == 3, "maps or tokens, and the teacher's tokens")
	x, h, w := student, 1, 1
	var class *G.Node // [N,1,C]
	if len(p.s) == 4 {
		h, w = p.s[2], p.s[3]
	} else {
		from := p.grid(p.s[1], 1, 1)
		if from.class {
			class = op.Slice(student, op.Range{Axis: 1, To: 1})
		}
		x = unflatten(student, from)
	}
	to := p.grid(p.t[1], h, w)
	y := flatten(resize(x, to.h, to.w))
	if to.class {
		if class == nil {
			class = flatten(op.GlobalAveragePool(x))
		}
		y = op.Concat(1, class, y)
	}
	return nn.Linear{Name: name, In: graph.ShapeOf(y)[2], Out: p.t[2]}.Apply(g, y)
}
