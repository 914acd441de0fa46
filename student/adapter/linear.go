package adapter

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
)

// Linear is a dense layer: a student's vectors [N,D] become [N,D'], and each of its tokens [N,L,D] one of [N,L,D'], where the
// teacher has as many.
type Linear struct{}

// Validate has nothing to check.
func (*Linear) Validate() error { return nil }

// Build describes the layer, name.weight [D',D] and name.bias [D'].
func (*Linear) Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node {
	p := pairOf("linear", name, student, teacher)
	last := len(p.s) - 1
	p.want(len(p.t) == len(p.s) && last < 3 && (last < 2 || p.s[1] == p.t[1]), "vectors, or tokens of one number")
	return nn.Linear{Name: name, In: p.s[last], Out: p.t[last]}.Apply(g, student)
}
