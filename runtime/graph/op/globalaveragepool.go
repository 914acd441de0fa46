package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// GlobalAveragePool is the mean over H and W: x [N,C,H,W] gives [N,C,1,1].
func GlobalAveragePool(x *G.Node) *G.Node { return graph.Apply(globalAveragePool{}, x) }

type globalAveragePool struct{ smooth }

func (globalAveragePool) Name() string { return "GlobalAveragePool" }

func (globalAveragePool) Infer(in []graph.Shape) []graph.Shape {
	arity("GlobalAveragePool", in, 1)
	rank("GlobalAveragePool", in, 0, 4)
	return one(graph.Shape{in[0][0], in[0][1], 1, 1})
}

func (globalAveragePool) Eval(in []graph.Array) []graph.Array {
	return reduce{name: "ReduceMean", axes: []int{2, 3}, keep: true}.Eval(in)
}

func (globalAveragePool) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	s := graph.ShapeOf(in[0])
	return []*G.Node{Expand(Scale(dy, 1/float64(s[2]*s[3])), s)}
}

func (o globalAveragePool) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("GlobalAveragePool", o.Infer([]graph.Shape{in[0].Shape})[0], names(in))}
}
