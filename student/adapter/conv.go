package adapter

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Conv is a 1x1 convolution of a student's map [N,C,H,W] to the teacher's channels. Where the sizes differ the map gets the
// teacher's: an axis that is longer is averaged, as by PyTorch's adaptive average pool, one that is shorter is interpolated
// linearly.
type Conv struct{}

// Validate has nothing to check.
func (*Conv) Validate() error { return nil }

// Build describes the convolution, name.weight [C',C,1,1] and name.bias [C'], and the resizing.
func (*Conv) Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node {
	p := pairOf("conv", name, student, teacher)
	p.want(len(p.s) == 4 && len(p.t) == 4, "maps")
	return project(g, name, student, p.t[1], p.t[2], p.t[3])
}
