package graph_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func TestMistakesInADescriptionAreErrors(t *testing.T) {
	x := func(g *graph.Graph, shape ...int) *G.Node { return g.Input("x", graph.Float32, shape...) }
	for _, c := range []struct {
		name     string
		describe func(g *graph.Graph)
		want     string
	}{
		{"shapes that do not fit", func(g *graph.Graph) { g.Output("y", op.MatMul(x(g, 2, 3), g.Input("b", graph.Float32, 2, 3))) },
			"graph: MatMul of [[2,3] [2,3]]: inner sizes 3 and 2 differ"},
		{"an input without elements", func(g *graph.Graph) { g.Output("y", op.Relu(x(g, 2, 0))) }, "graph: x: the shape [2,0] has no elements"},
		{"a result without elements", func(g *graph.Graph) {
			g.Output("y", op.Gather(x(g, 2, 3), 0, graph.Array{Shape: graph.Shape{0}, I: []int64{}}))
		}, "graph: Gather of [[2,3]]: the shape [0,3] has no elements"},
		{"a name used twice", func(g *graph.Graph) { x(g, 2); x(g, 2) }, "graph: x: the name is used twice"},
		{"an output named twice", func(g *graph.Graph) { n := x(g, 2); g.Output("y", n); g.Output("y", n) }, "graph: y: the output is named twice"},
		{"an update that changes the shape", func(g *graph.Graph) {
			g.State("s", graph.State, graph.Shape{2}, graph.Constant(0))
			g.Update("s", x(g, 3))
		}, "graph: s of [[2] [3]]: an update keeps the shape"},
		{"an update of nothing", func(g *graph.Graph) { g.Update("s", x(g, 3)) }, "there is no stored tensor of that name"},
		{"a stored scalar", func(g *graph.Graph) { g.Param("w", graph.Shape{}, graph.Constant(0)) }, "rank 1 or more"},
		{"a cost that is no scalar", func(g *graph.Graph) { g.Grad(g.Param("w", graph.Shape{2}, graph.Constant(0))) }, "the cost must be a scalar"},
		{"a parameter without a part in the cost", func(g *graph.Graph) {
			g.Param("w", graph.Shape{2}, graph.Constant(0))
			g.Grad(op.ReduceSum(x(g, 2), nil, false))
		}, "parameter w has no part in the cost"},
		{"differentiating twice", func(g *graph.Graph) {
			cost := op.ReduceSum(g.Param("w", graph.Shape{2}, graph.Constant(0)), nil, false)
			g.Grad(cost)
			g.Grad(cost)
		}, "can be differentiated once"},
		{"nothing to compute", func(g *graph.Graph) { x(g, 2) }, "a program needs an output or an update"},
	} {
		_, err := graph.Build(graph.Training, c.describe)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestOtherPanicsAreNotSwallowed(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a panic that is no *graph.Error was taken for a mistake in the description")
		}
	}()
	graph.Build(graph.Inference, func(*graph.Graph) { panic("bug") })
}

// descent is a step of gradient descent on Σ(w − x)².
func descent(t *testing.T) *graph.Program {
	t.Helper()
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		x := g.Input("x", graph.Float32, 3)
		w := g.Param("w", graph.Shape{3}, graph.Constant(1))
		d := op.Sub(w, x)
		cost := op.ReduceSum(op.Mul(d, d), nil, false)
		for _, gr := range g.Grad(cost) {
			g.Update(gr.Name, op.Sub(gr.Param, op.Mul(gr.Grad, g.Knob("lr", 0.25))))
		}
		g.Output("cost", cost)
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTapeReadsKnobsAndPutsUpdatesIntoTheStore(t *testing.T) {
	p := descent(t)
	var s graph.Store
	if err := p.Fill(&s, 1); err != nil {
		t.Fatal(err)
	}
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	x := graph.Floats([]float32{0, 2, 4}, 3)
	step := func(in map[string]graph.Tensor) []float32 {
		if _, err := tape.Run(in, &s); err != nil {
			t.Fatal(err)
		}
		w, _ := s.Tensor("w")
		return w.F
	}
	if got, want := step(map[string]graph.Tensor{"x": x}), []float32{0.5, 1.5, 2.5}; !slices.Equal(got, want) {
		t.Errorf("with the default rate: %v, want %v", got, want)
	}
	if got, want := step(map[string]graph.Tensor{"x": x, "lr": graph.Scalar(0.5)}), []float32{0, 2, 4}; !slices.Equal(got, want) {
		t.Errorf("with a rate given: %v, want %v", got, want)
	}
	if _, err := tape.Run(map[string]graph.Tensor{}, &s); err == nil || !strings.Contains(err.Error(), "no value for x") {
		t.Errorf("without an input: %v", err)
	}
	if _, err := tape.Run(map[string]graph.Tensor{"x": graph.Floats([]float32{1}, 1)}, &s); err == nil || !strings.Contains(err.Error(), "x is [3], not [1]") {
		t.Errorf("with an input of another shape: %v", err)
	}
}

func TestInitialValuesDependOnSeedAndNameAlone(t *testing.T) {
	fill := func(seed uint64, names ...string) *graph.Store {
		p, err := graph.Build(graph.Training, func(g *graph.Graph) {
			var sum *G.Node
			for _, n := range names {
				w := g.Param(n, graph.Shape{4}, func(v []float32, _ graph.Shape, rng *rand.Rand) {
					for i := range v {
						v[i] = rng.Float32()
					}
				})
				if sum == nil {
					sum = w
				} else {
					sum = op.Add(sum, w)
				}
			}
			g.Output("sum", sum)
		})
		if err != nil {
			t.Fatal(err)
		}
		var s graph.Store
		if err := p.Fill(&s, seed); err != nil {
			t.Fatal(err)
		}
		return &s
	}
	value := func(s *graph.Store, name string) string { v, _ := s.Tensor(name); return fmt.Sprint(v.F) }
	ab, ba, other := fill(1, "a", "b"), fill(1, "b", "a"), fill(2, "a", "b")
	if value(ab, "a") != value(ba, "a") || value(ab, "b") != value(ba, "b") {
		t.Error("values depend on the order of declaration")
	}
	if value(ab, "a") == value(ab, "b") || value(ab, "a") == value(other, "a") {
		t.Error("two names, or two seeds, gave the same values")
	}
}

func TestFillKeepsWhatIsThereAndRefusesAnotherShape(t *testing.T) {
	p := descent(t)
	var s graph.Store
	s.Set("w", graph.Param, graph.Floats([]float32{7, 8, 9}, 3))
	if err := p.Fill(&s, 1); err != nil {
		t.Fatal(err)
	}
	if w, _ := s.Tensor("w"); w.F[0] != 7 {
		t.Errorf("Fill wrote over a stored tensor: %v", w.F)
	}
	s.Set("w", graph.Param, graph.Floats([]float32{7}, 1))
	if err := p.Fill(&s, 1); err == nil || !strings.Contains(err.Error(), "stored w is [1], the program needs [3]") {
		t.Errorf("another shape: %v", err)
	}
}

func TestStore(t *testing.T) {
	var s graph.Store
	s.Set("w", graph.Param, graph.Floats([]float32{1, 2}, 2))
	s.Set("m", graph.Moment, graph.Floats([]float32{3}, 1))
	if got := s.Names(); !slices.Equal(got, []string{"m", "w"}) {
		t.Errorf("names %v", got)
	}
	if got := s.Names(graph.Param); !slices.Equal(got, []string{"w"}) {
		t.Errorf("names of parameters %v", got)
	}
	c := s.Clone()
	if err := s.Replace("w", graph.Floats([]float32{5, 6}, 2)); err != nil {
		t.Fatal(err)
	}
	if w, _ := c.Tensor("w"); w.F[0] != 1 || c.Kind("m") != graph.Moment {
		t.Error("a clone shares with its original")
	}
	for _, bad := range []graph.Tensor{graph.Floats([]float32{1}, 1), graph.Ints([]int64{1, 2}, 2)} {
		if s.Replace("w", bad) == nil {
			t.Errorf("replaced float32 [2] by %v %v", bad.DType(), bad.Shape)
		}
	}
	if s.Replace("x", graph.Scalar(1)) == nil {
		t.Error("replaced what is not there")
	}
}

func TestErrorNamesOperatorShapesAndReason(t *testing.T) {
	_, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", op.Reshape(g.Input("x", graph.Float32, 2, 3), 4))
	})
	var e *graph.Error
	if !errors.As(err, &e) || e.Op != "Reshape" || !e.Shapes[0].Equal(graph.Shape{2, 3}) {
		t.Errorf("%#v", err)
	}
}

func TestLogSoftmaxIsFiniteForLargeLogits(t *testing.T) {
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", op.LogSoftmax(g.Input("x", graph.Float32, 1, 3), 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	out, _, err := tape.Eval(map[string]graph.Array{"x": {Shape: graph.Shape{1, 3}, F: []float64{1e4, -1e4, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out["y"].F {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Errorf("%v", out["y"].F)
		}
	}
}
