package nn_test

import (
	"math"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
)

// build describes a layer on an input "x"; its value is the output "y".
func build(t *testing.T, mode graph.Mode, input graph.Shape, apply func(g *graph.Graph, x *G.Node) *G.Node) *graph.Program {
	t.Helper()
	p, err := graph.Build(mode, func(g *graph.Graph) { g.Output("y", apply(g, g.Input("x", graph.Float32, input...))) })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func filled(t *testing.T, p *graph.Program, seed uint64) *graph.Store {
	t.Helper()
	s := &graph.Store{}
	if err := p.Fill(s, seed); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestInitialWeightsAreUniformWithinOneOverTheRootOfFanIn(t *testing.T) {
	for name, c := range map[string]struct {
		layer func(g *graph.Graph, x *G.Node) *G.Node
		input graph.Shape
		fanIn int
	}{
		"conv":         {nn.Conv{Name: "l", In: 32, Out: 64, Kernel: 3, Bias: true}.Apply, graph.Shape{1, 32, 4, 4}, 288},
		"grouped conv": {nn.Conv{Name: "l", In: 64, Out: 128, Kernel: 3, Group: 4, Bias: true}.Apply, graph.Shape{1, 64, 4, 4}, 144},
		"linear":       {nn.Linear{Name: "l", In: 100, Out: 200}.Apply, graph.Shape{1, 100}, 100},
	} {
		s := filled(t, build(t, graph.Training, c.input, c.layer), 7)
		bound := 1 / math.Sqrt(float64(c.fanIn))
		for _, part := range []string{"l.weight", "l.bias"} {
			v, ok := s.Tensor(part)
			if !ok {
				t.Fatalf("%s has no %s", name, part)
			}
			var sum, squares, largest float64
			for _, x := range v.F {
				sum, squares, largest = sum+float64(x), squares+float64(x*x), max(largest, math.Abs(float64(x)))
			}
			n := float64(len(v.F))
			std := bound / math.Sqrt(3)
			if largest > bound*(1+1e-6) || largest < 0.9*bound {
				t.Errorf("%s: %s reaches %g, want %g", name, part, largest, bound)
			}
			if mean := sum / n; math.Abs(mean) > 4*std/math.Sqrt(n) {
				t.Errorf("%s: %s has mean %g", name, part, mean)
			}
			if got := math.Sqrt(squares / n); math.Abs(got/std-1) > 2/math.Sqrt(n) {
				t.Errorf("%s: %s has deviation %g, want %g", name, part, got, std)
			}
		}
	}
}

func TestInitialWeightsDependOnSeedAndNameAlone(t *testing.T) {
	weights := func(name string, seed uint64, batch int) []float32 {
		p := build(t, graph.Training, graph.Shape{batch, 5}, func(g *graph.Graph, x *G.Node) *G.Node {
			if batch > 1 { // another layer before it
				x = nn.Linear{Name: "before", In: 5, Out: 5}.Apply(g, x)
			}
			return nn.Linear{Name: name, In: 5, Out: 4}.Apply(g, x)
		})
		v, _ := filled(t, p, seed).Tensor(name + ".weight")
		return v.F
	}
	a := weights("a", 1, 1)
	if !slices.Equal(a, weights("a", 1, 8)) {
		t.Error("they depend on the rest of the network")
	}
	if slices.Equal(a, weights("a", 2, 1)) || slices.Equal(a, weights("b", 1, 1)) {
		t.Error("another seed or name gives the same")
	}
}

func TestZeroStrideAndGroupMeanOne(t *testing.T) {
	for _, c := range []struct {
		layer nn.Conv
		want  graph.Shape
	}{
		{nn.Conv{Name: "c", In: 4, Out: 6, Kernel: 3, Pad: 1}, graph.Shape{2, 6, 8, 8}},
		{nn.Conv{Name: "c", In: 4, Out: 6, Kernel: 3}, graph.Shape{2, 6, 6, 6}},
		{nn.Conv{Name: "c", In: 4, Out: 6, Kernel: 1, Stride: 2, Group: 2}, graph.Shape{2, 6, 4, 4}},
	} {
		p := build(t, graph.Inference, graph.Shape{2, 4, 8, 8}, c.layer.Apply)
		if got := graph.ShapeOf(p.Outputs[0].Node); !got.Equal(c.want) {
			t.Errorf("%+v gives %v, want %v", c.layer, got, c.want)
		}
	}
}

func TestRunningStatisticsFollowMeanAndUnbiasedVariance(t *testing.T) {
	x := []float64{1, 10, 3, 20, 8, 60} // [3,2]: channel 0 is 1, 3, 8, channel 1 is 10, 20, 60
	p := build(t, graph.Training, graph.Shape{3, 2}, nn.BatchNorm{Name: "bn", Channels: 2}.Apply)
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	in := map[string]graph.Array{"x": {Shape: graph.Shape{3, 2}, F: x}}
	for name, v := range map[string]float64{"weight": 2, "bias": 1, "running_mean": 100, "running_var": 4} {
		in["bn."+name] = graph.Array{Shape: graph.Shape{2}, F: []float64{v, v}}
	}
	out, updates, err := tape.Eval(in)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "running_mean", updates["bn.running_mean"].F, []float64{0.9*100 + 0.1*4, 0.9*100 + 0.1*30})
	near(t, "running_var", updates["bn.running_var"].F, []float64{0.9*4 + 0.1*13, 0.9*4 + 0.1*700})
	// y normalises by the biased variance: 26/3 and 1400/3.
	a, b := 2/math.Sqrt(26.0/3+1e-5), 2/math.Sqrt(1400.0/3+1e-5)
	near(t, "y", out["y"].F, []float64{1 - 3*a, 1 - 20*b, 1 - a, 1 - 10*b, 1 + 4*a, 1 + 30*b})
}

func TestInferenceNormalisesByTheRunningStatistics(t *testing.T) {
	p := build(t, graph.Inference, graph.Shape{1, 1, 1, 2}, nn.BatchNorm{Name: "bn", Channels: 1}.Apply)
	if len(p.Updates) != 0 {
		t.Errorf("it updates %v", p.Updates)
	}
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	in := map[string]graph.Array{"x": {Shape: graph.Shape{1, 1, 1, 2}, F: []float64{5, 9}}}
	for name, v := range map[string]float64{"weight": 3, "bias": -1, "running_mean": 5, "running_var": 4 - 1e-5} {
		in["bn."+name] = graph.Array{Shape: graph.Shape{1}, F: []float64{v}}
	}
	out, _, err := tape.Eval(in)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "y", out["y"].F, []float64{-1, 5})
}

func near(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i, w := range want {
		if d := math.Abs(got[i] - w); !(d <= 1e-12*math.Max(1, math.Abs(w))) {
			t.Errorf("%s[%d] is %.15g, want %.15g", what, i, got[i], w)
		}
	}
}
