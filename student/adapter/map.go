package adapter

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Map makes the teacher's map [N,C,H,W] of a student's tokens [N,L,D]: without the class's, if there is one, they are laid on
// a grid of the map's aspect, and get its channels and size as by Conv.
type Map struct{}

// Validate has nothing to check.
func (*Map) Validate() error { return nil }

// Build describes the convolution, name.weight [C,D,1,1] and name.bias [C], and the resizing.
func (*Map) Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node {
	p := pairOf("map", name, student, teacher)
	p.want(len(p.s) == 3 && len(p.t) == 4, "a student's tokens and a teacher's maps")
	x := unflatten(student, p.grid(p.s[1], p.t[2], p.t[3]))
	return project(g, name, x, p.t[1], p.t[2], p.t[3])
}
