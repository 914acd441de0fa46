package runtime

import (
	"math"
	"slices"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// sharing is a training step w ← w − lr·(w − x) and an evaluation Σw over one store.
func sharing(t *testing.T) (step, eval *graph.Program) {
	t.Helper()
	build := func(describe func(g *graph.Graph)) *graph.Program {
		p, err := graph.Build(graph.Training, describe)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	step = build(func(g *graph.Graph) {
		x, w := g.Input("x", graph.Float32, 3), g.Param("w", graph.Shape{3}, graph.Constant(1))
		d := op.Sub(w, x)
		cost := op.Scale(op.ReduceSum(op.Mul(d, d), nil, false), 0.5)
		for _, gr := range g.Grad(cost) {
			g.Update(gr.Name, op.Sub(gr.Param, op.Mul(gr.Grad, g.Knob("lr", 0.5))))
		}
		g.Output("cost", cost)
	})
	eval = build(func(g *graph.Graph) {
		w := g.Param("w", graph.Shape{3}, graph.Constant(1))
		g.Output("sum", op.ReduceSum(op.Mul(w, g.Input("one", graph.Float32, 1)), nil, false))
	})
	return step, eval
}

func TestProgramsOverOneStoreShareTensorsByName(t *testing.T) {
	testInit(t)
	for _, engine := range []Engine{Gorgonia, ONNXRuntime} {
		stepProgram, evalProgram := sharing(t)
		var s graph.Store
		if err := stepProgram.Fill(&s, 1); err != nil {
			t.Fatal(err)
		}
		step, err := Compile(stepProgram, &s, engine, Options{Threads: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		eval, err := Compile(evalProgram, &s, engine, Options{Threads: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer eval.Close()
		x := graph.Floats([]float32{5, 5, 5}, 3)
		// Each step halves the distance to x; the evaluation must see every one, whichever buffer it is in.
		for i := 1; i <= 5; i++ {
			if _, err := step.Run(map[string]graph.Tensor{"x": x}); err != nil {
				t.Fatal(err)
			}
			out, err := eval.Run(map[string]graph.Tensor{"one": graph.Floats([]float32{1}, 1)})
			if err != nil {
				t.Fatal(err)
			}
			want := 15 - 12*math.Pow(0.5, float64(i))
			if got := float64(out["sum"].F[0]); math.Abs(got-want) > 1e-5 {
				t.Errorf("%s: after %d steps the evaluation sees %v, want %v", engine, i, got, want)
			}
		}
		// A tensor put into the store from outside, as a checkpoint is, is what the next step starts from.
		s.Set("w", graph.Param, graph.Floats([]float32{1, 1, 1}, 3))
		if _, err := step.Run(map[string]graph.Tensor{"x": x, "lr": graph.Scalar(1)}); err != nil {
			t.Fatal(err)
		}
		if w, _ := s.Tensor("w"); !slices.Equal(w.F, []float32{5, 5, 5}) {
			t.Errorf("%s: after a tensor was set, a step of rate 1 gives %v", engine, w.F)
		}
	}
}

func TestOnlyATrainingStepInBlocksRunsAsItIsWritten(t *testing.T) {
	plain, _ := sharing(t)
	images := func(update bool) *graph.Program {
		p, err := graph.Build(graph.Training, func(g *graph.Graph) {
			w := g.Param("w", graph.Shape{32, 32, 3, 3}, graph.Constant(1))
			y := op.Conv(g.Input("x", graph.Float32, 16, 32, 6, 6), w, nil, op.ConvAttrs{Pads: [4]int{1, 1, 1, 1}})
			cost := op.ReduceMean(op.Mul(y, y), nil, false)
			g.Output("cost", cost)
			if update {
				g.Update("w", op.Sub(w, g.Grad(cost)[0].Grad))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	blocks := graph.Target{Fused: true, Block: 16}
	for _, c := range []struct {
		name   string
		p      *graph.Program
		target graph.Target
		want   bool
	}{
		{"a step in blocks", images(true), blocks, true},
		{"a step on a processor without blocks", images(true), graph.Target{Fused: true}, false},
		{"a step in float16", images(true), graph.Target{Fused: true, Block: 16, Half: true}, false},
		{"a step without images", plain, blocks, false},
		{"inference", images(false), blocks, false},
	} {
		m, err := onnx.Lower(c.p, onnx.Lowering{Target: c.target})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := runsAsWritten(c.p, m); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestOutputsAreTheCallers(t *testing.T) {
	testInit(t)
	p, _ := sharing(t)
	var s graph.Store
	if err := p.Fill(&s, 1); err != nil {
		t.Fatal(err)
	}
	step, err := Compile(p, &s, ONNXRuntime, Options{Threads: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	x := map[string]graph.Tensor{"x": graph.Floats([]float32{5, 5, 5}, 3)}
	first, err := step.Run(x)
	if err != nil {
		t.Fatal(err)
	}
	before := first["cost"].F[0]
	if _, err := step.Run(x); err != nil {
		t.Fatal(err)
	}
	if first["cost"].F[0] != before {
		t.Error("a run wrote over what the run before returned")
	}
}

func TestRunNamesTheInputThatDoesNotFit(t *testing.T) {
	testInit(t)
	p, _ := sharing(t)
	var s graph.Store
	if err := p.Fill(&s, 1); err != nil {
		t.Fatal(err)
	}
	step, err := Compile(p, &s, ONNXRuntime, Options{Threads: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	for _, in := range []map[string]graph.Tensor{
		nil,
		{"x": graph.Floats([]float32{1}, 1)},
		{"x": graph.Ints([]int64{1, 2, 3}, 3)},
	} {
		if _, err := step.Run(in); err == nil || !strings.Contains(err.Error(), "input x") {
			t.Errorf("%v: %v", in, err)
		}
	}
	if _, err := Compile(p, &s, "tensorflow", Options{}, nil); err == nil || !strings.Contains(err.Error(), `no engine "tensorflow"`) {
		t.Errorf("unknown engine: %v", err)
	}
}

// The blocked convolution is an internal of ONNX Runtime: where the probe does not find it, programs run without it.
func TestProbeChoosesTheLargestBlockThatComputes(t *testing.T) {
	testInit(t)
	want, err := probeRun(graph.Target{})
	if err != nil {
		t.Fatal(err)
	}
	probe, err := Probe(Options{})
	if err != nil {
		t.Fatal(err)
	}
	largest := graph.Target{}
	for _, target := range []graph.Target{{Fused: true}, {Fused: true, Block: 8}, {Fused: true, Block: 16},
		{Fused: true, Block: 8, Winograd: graph.WinogradSquares}, {Fused: true, Block: 16, Winograd: graph.WinogradSquares}} {
		got, err := probeRun(target)
		fits := err == nil && near(got, want)
		if fits {
			if target.Winograd == graph.WinogradSquares {
				target.Winograd = graph.WinogradWhereFaster
			}
			largest = target
		}
		t.Logf("%+v: usable %v", target, fits)
	}
	if probe != largest {
		t.Errorf("the probe chose %+v, want %+v", probe, largest)
	}
	if other, err := Probe(Options{Provider: Provider{Name: "webgpu"}}); err != nil || other != (graph.Target{Portable: true}) {
		t.Errorf("another provider gets %+v, %v, want what every provider has", other, err)
	}
}

// A right target must not fail by its rounding, nor a wrong one pass by what one gradient of many is off.
func TestProbeForgivesRoundingAlone(t *testing.T) {
	p, in, err := probeProgram()
	if err != nil {
		t.Fatal(err)
	}
	tape, err := Compile(p, &graph.Store{}, Gorgonia, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	run := func() map[string]graph.Tensor {
		out, err := tape.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := run()
	for _, x := range in {
		for i := range x.F {
			x.F[i] *= 1 + 2e-6*float32(i%2)
		}
	}
	if !near(run(), want) {
		t.Error("inputs moved by 2e-6 give results that are not near")
	}
	for name := range want {
		for _, v := range []float32{0.01, float32(math.NaN())} {
			got := run()
			got[name].F[0] += v
			if near(got, want) {
				t.Errorf("%s off by %v counts as near", name, v)
			}
		}
		got := run()
		delete(got, name)
		if near(got, want) {
			t.Errorf("results without %s count as near", name)
		}
	}
}
