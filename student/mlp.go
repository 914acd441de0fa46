package student

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// MLP is a multilayer perceptron on the flattened image, with ReLU between its dense layers.
type MLP struct {
	Hidden []int `yaml:"hidden"` // sizes of the hidden layers; default 256, 128
}

// Validate wants at least one hidden layer, all positive.
func (m *MLP) Validate() error { return positive("hidden", m.Hidden) }

// Build describes the network; its taps are hidden1, hidden2, … [N,D].
func (m *MLP) Build(g *graph.Graph, x *G.Node, classes int) Model {
	var taps []Tap
	x = op.Flatten(x)
	in := graph.ShapeOf(x)[1]
	for i, out := range m.Hidden {
		x = op.Relu(nn.Linear{Name: fmt.Sprintf("fc%d", i+1), In: in, Out: out}.Apply(g, x))
		taps = append(taps, Tap{fmt.Sprintf("hidden%d", i+1), x})
		in = out
	}
	return Model{Logits: nn.Linear{Name: "linear", In: in, Out: classes}.Apply(g, x), Taps: taps}
}
