package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// onehot turns class indices into rows with a single 1.
type onehot struct{ depth int }

// OneHot turns class indices, int64 [N], into rows [N,depth] that are 1 at the index and 0 elsewhere. An index outside
// 0..depth−1 gives a row of zeros.
func OneHot(labels *G.Node, depth int) *G.Node { return graph.Apply(onehot{depth}, labels) }

func (onehot) Name() string { return "OneHot" }

func (o onehot) Infer(in []graph.Shape) []graph.Shape {
	arity("OneHot", in, 1)
	rank("OneHot", in, 0, 1)
	return one(graph.Shape{in[0][0], o.depth})
}

func (o onehot) Eval(in []graph.Array) []graph.Array {
	y := graph.Zeros(graph.Shape{len(in[0].I), o.depth})
	for i, c := range in[0].I {
		if c >= 0 && int(c) < o.depth {
			y.F[i*o.depth+int(c)] = 1
		}
	}
	return []graph.Array{y}
}

func (o onehot) Lower(e graph.Emitter, in []graph.Operand) []string {
	depth := e.Const(graph.Ints([]int64{int64(o.depth)}))
	values := e.Const(graph.Floats([]float32{0, 1}, 2))
	return []string{e.Emit("OneHot", graph.Shape{in[0].Shape[0], o.depth}, []string{in[0].Name, depth, values})}
}
