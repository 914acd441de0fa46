package runtime

import (
	"fmt"
	"math"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func TestEnginesAgreeOnEveryOperator(t *testing.T) {
	testInit(t)
	probed, err := Probe(Options{})
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]graph.Target{"plain": {}, "fused": {Fused: true}, "blocked": probed}
	for _, row := range op.Table {
		for i, e := range row.Examples {
			for name, target := range targets {
				t.Run(fmt.Sprintf("%s/%d/%s", row.Name, i, name), func(t *testing.T) { compare(t, e, target) })
			}
		}
	}
}

func compare(t *testing.T, e op.Example, target graph.Target) {
	p, err := e.Program()
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]graph.Tensor{}
	for k, a := range e.Inputs() {
		v := graph.NewTensor(graph.Float32, a.Shape...)
		for i, x := range a.F {
			v.F[i] = float32(x)
		}
		in[fmt.Sprint(k)] = v
	}
	run := func(engine Engine) map[string]graph.Tensor {
		step, err := Compile(p, &graph.Store{}, engine, Options{Threads: 1}, &target)
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		out, err := step.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want, got := run(Gorgonia), run(ONNXRuntime)
	for name, w := range want {
		g := got[name]
		if !g.Shape.Equal(w.Shape) {
			t.Fatalf("%s is %v in ONNX Runtime, %v on the tape", name, g.Shape, w.Shape)
		}
		for i := range w.F {
			scale := math.Max(1, math.Abs(float64(w.F[i])))
			if name == "cost" { // a sum of all of y with both signs: its rounding is that of its terms
				for _, v := range want["y"].F {
					scale += math.Abs(float64(v))
				}
			}
			if d := math.Abs(float64(g.F[i] - w.F[i])); !(d <= 2e-5*scale) {
				t.Fatalf("%s[%d] is %g in ONNX Runtime, %g on the tape", name, i, g.F[i], w.F[i])
			}
		}
	}
}
