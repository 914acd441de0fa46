package nn_test

import (
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

func TestOneQueryForAllImagesIsThatQueryForEach(t *testing.T) {
	l := nn.CrossAttention{Name: "a", Width: 6, Heads: 2, Other: 4, Out: 5}
	input := graph.Shape{3, 2, 4}
	result := func(each bool) []float64 {
		return evaluated(t, build(t, graph.Inference, input, func(g *graph.Graph, x *G.Node) *G.Node {
			query := g.Param("query", graph.Shape{1, 4, 6}, nn.Normal(1))
			if each {
				query = op.ExpandBatch(query, x)
			}
			y := l.Apply(g, query, x, x)
			if s := graph.ShapeOf(y); !s.Equal(graph.Shape{3, 4, 5}) {
				t.Errorf("it gives %v", s)
			}
			return y
		}))
	}
	one := result(false)
	near(t, "y", one, result(true))
	if slices.Equal(one[:20], one[20:40]) {
		t.Error("two images have one result")
	}
}
