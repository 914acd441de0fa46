package nn_test

import (
	"math"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
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

func TestOwnInitialWeightsHaveTheirDistributionAndBiasesStartAtZero(t *testing.T) {
	const std = 0.05
	for name, c := range map[string]struct {
		init       graph.Init
		bound, std float64 // bound 0: none
	}{
		"xavier uniform": {nn.XavierUniform, math.Sqrt(6.0 / (288 + 576)), math.Sqrt(2.0 / (288 + 576))}, // fans of 32·9 and 64·9
		"kaiming normal": {nn.KaimingNormal, 0, math.Sqrt(2.0 / 576)},
		"normal":         {nn.Normal(std), 0, std},
		"narrow":         {nn.TruncNormal(std), 0, std},
		"truncated":      {nn.TruncNormal(1), 2, 0.8796}, // of N(0,1) within −2..2: √(1 − 4φ(2)/(2Φ(2)−1))
	} {
		l := nn.Conv{Name: "l", In: 32, Out: 64, Kernel: 3, Bias: true, Init: c.init}
		s := filled(t, build(t, graph.Training, graph.Shape{1, 32, 4, 4}, l.Apply), 7)
		w, _ := s.Tensor("l.weight")
		var sum, squares, largest float64
		for _, x := range w.F {
			sum, squares, largest = sum+float64(x), squares+float64(x)*float64(x), max(largest, math.Abs(float64(x)))
		}
		n := float64(len(w.F))
		if mean := sum / n; math.Abs(mean) > 4*c.std/math.Sqrt(n) {
			t.Errorf("%s has mean %g", name, mean)
		}
		if got := math.Sqrt(squares / n); math.Abs(got/c.std-1) > 4/math.Sqrt(2*n) {
			t.Errorf("%s has deviation %g, want %g", name, got, c.std)
		}
		if c.bound > 0 && (largest > c.bound*(1+1e-6) || largest < 0.99*c.bound) || c.bound == 0 && largest < 3*c.std {
			t.Errorf("%s reaches %g", name, largest)
		}
		if b, _ := s.Tensor("l.bias"); slices.Max(b.F) != 0 || slices.Min(b.F) != 0 {
			t.Errorf("%s: the bias starts at %v", name, b.F)
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

// evaluated is y for an input x, both on the tape, with every stored tensor a fixed function of its name and element.
func evaluated(t *testing.T, p *graph.Program) []float64 {
	t.Helper()
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	in := map[string]graph.Array{}
	for _, l := range slices.Concat(p.Inputs, p.Stored) {
		a := graph.Zeros(l.Shape)
		for i := range a.F {
			a.F[i] = math.Sin(float64(1+i*len(l.Name)) + float64(len(l.Name)))
		}
		in[l.Name] = a
	}
	out, _, err := tape.Eval(in)
	if err != nil {
		t.Fatal(err)
	}
	return out["y"].F
}

func TestDenseLayerTakesEachRowOfAnyRank(t *testing.T) {
	l := nn.Linear{Name: "l", In: 5, Out: 3}
	want := evaluated(t, build(t, graph.Inference, graph.Shape{24, 5}, l.Apply))
	p := build(t, graph.Inference, graph.Shape{2, 3, 4, 5}, l.Apply)
	if s := graph.ShapeOf(p.Outputs[0].Node); !s.Equal(graph.Shape{2, 3, 4, 3}) {
		t.Fatalf("it gives %v", s)
	}
	near(t, "y", evaluated(t, p), want)
}

func TestDenseLayerOfALayerNormIsOneOperatorWithIt(t *testing.T) {
	p := build(t, graph.Training, graph.Shape{2, 3, 8}, func(g *graph.Graph, x *G.Node) *G.Node {
		return nn.Linear{Name: "l", In: 8, Out: 4}.Apply(g, nn.LayerNorm{Name: "n", Features: 8}.Apply(g, x))
	})
	steps, err := p.Steps()
	if err != nil {
		t.Fatal(err)
	}
	var ops []string
	for _, s := range steps {
		ops = append(ops, s.Op.Name())
	}
	if want := []string{"LayerNormGemm"}; !slices.Equal(ops, want) {
		t.Errorf("it is %v, want %v", ops, want)
	}
}

func TestPatchEmbeddingIsAConvolutionOfItsParameters(t *testing.T) {
	input := graph.Shape{2, 3, 4, 6}
	conv := nn.Conv{Name: "l", In: 3, Out: 5, Kernel: 2, Stride: 2, Bias: true}.Apply
	p := build(t, graph.Inference, input, func(g *graph.Graph, x *G.Node) *G.Node {
		return op.Transpose(op.Reshape(conv(g, x), 2, 5, 6), 0, 2, 1)
	})
	near(t, "y", evaluated(t, build(t, graph.Inference, input, nn.PatchEmbed{Name: "l", In: 3, Out: 5, Patch: 2}.Apply)), evaluated(t, p))
	if _, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", nn.PatchEmbed{Name: "l", In: 3, Out: 5, Patch: 4}.Apply(g, g.Input("x", graph.Float32, input...)))
	}); err == nil {
		t.Error("patches that do not cover the image were taken")
	}
}

func TestLayerNormNormalisesFeaturesWithItsEps(t *testing.T) {
	p := build(t, graph.Inference, graph.Shape{1, 2, 2}, nn.LayerNorm{Name: "n", Features: 2, Eps: 3}.Apply)
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	out, _, err := tape.Eval(map[string]graph.Array{
		"x":        {Shape: graph.Shape{1, 2, 2}, F: []float64{1, 3, 0, 0}}, // variances of 1 and 0
		"n.weight": {Shape: graph.Shape{2}, F: []float64{2, 4}},
		"n.bias":   {Shape: graph.Shape{2}, F: []float64{5, 6}},
	})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "y", out["y"].F, []float64{-1 + 5, 2 + 6, 5, 6})
}

// Tokens have no order, and images nothing to do with one another: the second token of the first image put last leaves the
// others' results as they were, and the second image's.
func TestAttentionKnowsNoOrderAndNoOtherImage(t *testing.T) {
	l := nn.Attention{Name: "a", Width: 6, Heads: 2}
	input := graph.Shape{2, 3, 6}
	plain := evaluated(t, build(t, graph.Inference, input, l.Apply))
	moved := evaluated(t, build(t, graph.Inference, input, func(g *graph.Graph, x *G.Node) *G.Node {
		first, second := op.Slice(x, op.Range{To: 1}), op.Slice(x, op.Range{From: 1})
		order := graph.Array{Shape: graph.Shape{3}, I: []int64{0, 2, 1}}
		return l.Apply(g, op.Concat(0, op.Gather(first, 1, order), second))
	}))
	want := slices.Concat(plain[:6], plain[12:18], plain[6:12], plain[18:])
	near(t, "y", moved, want)
	if slices.Equal(plain[6:12], plain[12:18]) {
		t.Error("two tokens have one result")
	}
}

func TestDropoutMultipliesByItsMaskInTrainingAlone(t *testing.T) {
	input := graph.Shape{2, 3}
	for _, c := range []struct {
		mode  graph.Mode
		share float64
		masks int
	}{{graph.Training, 0.25, 1}, {graph.Training, 0, 0}, {graph.Inference, 0.25, 0}} {
		p := build(t, c.mode, input, nn.Dropout{Name: "drop", Share: c.share}.Apply)
		if got := len(p.Inputs) - 1; got != c.masks {
			t.Errorf("%+v: %d masks", c, got)
		}
		if c.masks == 1 && (p.Inputs[1].Keep != 0.75 || !p.Inputs[1].Shape.Equal(input)) {
			t.Errorf("the mask is %+v", p.Inputs[1])
		}
	}
}

func TestConvNormHalvesTheImageAndActsLast(t *testing.T) {
	p := build(t, graph.Inference, graph.Shape{1, 2, 5, 4},
		nn.ConvNorm{Name: "l", In: 2, Out: 4, Kernel: 3, Stride: 2, Group: 2, Act: op.Relu}.Apply)
	if s := graph.ShapeOf(p.Outputs[0].Node); !s.Equal(graph.Shape{1, 4, 3, 2}) {
		t.Errorf("it gives %v", s)
	}
	var names []string
	for _, l := range p.Stored {
		names = append(names, l.Name+l.Shape.String())
	}
	want := []string{"l.0.weight[4,1,3,3]", "l.1.weight[4]", "l.1.bias[4]", "l.1.running_mean[4]", "l.1.running_var[4]"}
	if !slices.Equal(names, want) {
		t.Errorf("it stores %v, want %v", names, want)
	}
}
