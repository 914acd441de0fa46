package runtime

import (
	"math"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// TestHalfRoundsProductsAndKeepsUpdates multiplies by a weight that float16 cannot tell from 1, and moves it by a step that float16
// could not add.
func TestHalfRoundsProductsAndKeepsUpdates(t *testing.T) {
	testInit(t)
	const little = 0x1p-13
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		w := g.Param("w", graph.Shape{1, 1}, graph.Constant(1+little))
		y := op.MatMul(g.Input("x", graph.Float32, 1, 1), w)
		g.Output("y", y)
		for _, d := range g.Grad(op.ReduceSum(y, nil, false)) {
			g.Update(d.Name, op.Add(d.Param, op.Scale(d.Grad, little)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		target     graph.Target
		x, y, next float32
	}{
		{graph.Target{}, 1, 1 + little, 1 + 2*little},
		{graph.Target{Half: true}, 1, 1, 1 + 2*little},
		{graph.Target{Half: true}, 1e5, float32(math.Inf(1)), float32(math.Inf(1))}, // beyond float16
	} {
		store := &graph.Store{}
		if err := p.Fill(store, 1); err != nil {
			t.Fatal(err)
		}
		step, err := Compile(p, store, ONNXRuntime, Options{Threads: 1}, &c.target)
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		out, err := step.Run(map[string]graph.Tensor{"x": graph.Floats([]float32{c.x}, 1, 1)})
		if err != nil {
			t.Fatal(err)
		}
		w, _ := store.Tensor("w")
		if out["y"].F[0] != c.y || w.F[0] != c.next {
			t.Errorf("%+v: %v·w is %v, want %v; w becomes %v, want %v", c.target, c.x, out["y"].F[0], c.y, w.F[0], c.next)
		}
	}
}
