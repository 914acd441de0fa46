package graph_test

import (
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func TestMadeTellsOperatorAndInputs(t *testing.T) {
	_, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		a, b := g.Input("a", graph.Float32, 2, 3), g.Input("b", graph.Float32, 2, 3)
		y := op.Sub(a, b)
		g.Output("y", y)
		if made, in := graph.Made(y); made == nil || made.Name() != "Sub" || len(in) != 2 || in[0] != a || in[1] != b {
			t.Errorf("a difference is made by %v of %v", made, in)
		}
		if made, in := graph.Made(a); made != nil || in != nil {
			t.Errorf("an input is made by %v of %v", made, in)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
