package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// equality is 1 where both inputs, of one shape, are equal, else 0.
type equality struct{}

func equal(a, b *G.Node) *G.Node { return graph.Apply(equality{}, a, b) }

func (equality) Name() string                         { return "Equal" }
func (equality) Infer(in []graph.Shape) []graph.Shape { return in[:1] }

func (equality) Eval(in []graph.Array) []graph.Array {
	y := graph.Zeros(in[0].Shape)
	for i := range y.F {
		if in[0].F[i] == in[1].F[i] {
			y.F[i] = 1
		}
	}
	return []graph.Array{y}
}

func (equality) Lower(e graph.Emitter, in []graph.Operand) []string {
	mask := e.Emit("Equal", in[0].Shape, names(in))
	return []string{e.Emit("Cast", in[0].Shape, []string{mask}, graph.Attr{Name: "to", Value: onnxFloat})}
}
