package adapter_test

import (
	"fmt"

	"distill/runtime/graph"
	"distill/student/adapter"
)

func Example() {
	student, teacher := graph.Shape{8, 64, 8, 8}, graph.Shape{8, 197, 192} // a CNN's map, a vision transformer's tokens
	name, reason := adapter.Propose(student, teacher)
	fmt.Printf("%s: %s\n", name, reason)
	a, err := adapter.New(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		s, t := g.Input("student", graph.Float32, student...), g.Input("teacher", graph.Float32, teacher...)
		y := a.Build(g, "loss.hint.adapter", s, t)
		fmt.Println(graph.ShapeOf(y))
		g.Output("y", y)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range p.Stored {
		fmt.Println(l.Name, l.Shape)
	}
	// Output:
	// tokens: the tokens are those of a grid, which a student's maps can be laid on
	// [8,197,192]
	// loss.hint.adapter.weight [192,64]
	// loss.hint.adapter.bias [192]
}
