package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// stop is the identity without a gradient.
type stop struct{}

// StopGradient is x, through which no gradient flows.
func StopGradient(x *G.Node) *G.Node { return graph.Apply(stop{}, x) }

func (stop) Name() string                         { return "Identity" }
func (stop) Infer(in []graph.Shape) []graph.Shape { return in }
func (stop) Eval(in []graph.Array) []graph.Array  { return in }

func (stop) Lower(_ graph.Emitter, in []graph.Operand) []string { return names(in) }
