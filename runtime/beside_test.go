package runtime

import (
	"math"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func TestStepBesideOthersComesToTheSameBits(t *testing.T) {
	testInit(t)
	p, in, err := probeProgram()
	if err != nil {
		t.Fatal(err)
	}
	compile := func(opts Options) *ortStep {
		t.Helper()
		step, err := Compile(p, &graph.Store{}, ONNXRuntime, opts, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { step.Close() })
		return step.(*ortStep)
	}
	step := compile(Options{Threads: 2, Beside: 1})
	if step.Beside() {
		t.Error("nothing has shown yet that fewer threads come to the same bits")
	}
	var all [3]map[string]graph.Tensor
	for i, run := range []func(map[string]graph.Tensor) (map[string]graph.Tensor, error){step.RunBeside, step.Run, step.RunBeside} {
		if all[i], err = run(in); err != nil {
			t.Fatal(err)
		}
		if !step.Beside() {
			t.Fatal("one thread does not come to the bits of two")
		}
	}
	for name, want := range all[1] {
		for i, v := range want.F {
			for _, other := range []int{0, 2} {
				if got := all[other][name].F[i]; math.Float32bits(got) != math.Float32bits(v) {
					t.Fatalf("run %d: %s[%d] is %v, of all threads %v", other, name, i, got, v)
				}
			}
		}
	}
	for _, opts := range []Options{{Threads: 2}, {Threads: 2, Beside: 2}, {Threads: 1, Beside: 1}} {
		step := compile(opts)
		if _, err := step.RunBeside(in); err != nil || step.Beside() {
			t.Errorf("%d threads of %d: beside %v, error %v", opts.Beside, opts.Threads, step.Beside(), err)
		}
	}
}

// weighed is a program of factor·Σw·x, with weights of 0.
func weighed(t *testing.T, factor float64) *graph.Program {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x, w := g.Input("x", graph.Float32, 3), g.Param("w", graph.Shape{3}, graph.Constant(0))
		g.Output("sum", op.Scale(op.ReduceSum(op.Mul(w, x), nil, false), factor))
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStepBesideThatComesToOtherBitsIsNotUsed(t *testing.T) {
	testInit(t)
	// Two programs of one signature stand for one whose sums depend on the number of threads; weights of 0 hide that at first.
	program, other := weighed(t, 1), weighed(t, 2)
	var store graph.Store
	if err := program.Fill(&store, 1); err != nil {
		t.Fatal(err)
	}
	in := map[string]graph.Tensor{"x": graph.Floats([]float32{1, 2, 3}, 3)}
	compile := func(p *graph.Program) *ortStep {
		t.Helper()
		step, err := Compile(p, &store, ONNXRuntime, Options{Threads: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { step.Close() })
		return step.(*ortStep)
	}
	step := compile(program)
	step.beside = compile(other).session
	for _, w := range []float32{0, 1} {
		store.Set("w", graph.Param, graph.Floats([]float32{w, w, w}, 3))
		out, err := step.RunBeside(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := out["sum"].F[0]; got != 6*w || step.Beside() {
			t.Errorf("weights of %v: the sum is %v, want %v; beside: %v", w, got, 6*w, step.Beside())
		}
	}
}
