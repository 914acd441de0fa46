package optim_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"distill/internal/strictyaml"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
	"distill/runtime/runtimetest"
	"distill/train"
	"distill/train/optim"
)

func TestMain(m *testing.M) { runtimetest.Main(m) }

// golden is a case of testdata/goldens/optim.json; optim.py says how it was made.
type golden struct {
	Method   string
	Settings map[string]any
	ClipNorm float64 `json:"clip_norm"`
	Norms    []float64
	Weight   [][]float64
	Bias     [][]float64
}

func readGoldens(t *testing.T) map[string]golden {
	t.Helper()
	b, err := os.ReadFile("../../testdata/goldens/optim.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]golden
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// section is a recipe's optimizer.
type section struct {
	Optimizer train.Optimizer `yaml:"optimizer"`
}

func decode(name string, settings map[string]any) (section, error) {
	text := "optimizer:\n  name: " + name + "\n  lr: 0.2\n"
	for key, v := range settings {
		text += fmt.Sprintf("  %s: %v\n", key, v)
	}
	var s section
	err := strictyaml.Decode([]byte(text), "recipe.yaml", &s, nil)
	return s, err
}

func (g golden) optimizer(t *testing.T) optim.Optimizer {
	t.Helper()
	s, err := decode(g.Method, g.Settings)
	if err != nil {
		t.Fatal(err)
	}
	return s.Optimizer.Method
}

// program is a step of optim.py: it updates "weight" and "bias", and gives the gradients' "norm".
func (g golden) program(t *testing.T, o optim.Optimizer) *graph.Program {
	t.Helper()
	p, err := graph.Build(graph.Training, func(gr *graph.Graph) {
		x, y := gr.Input("x", graph.Float32, 5, 3), gr.Input("y", graph.Float32, 5, 4)
		w := gr.Param("weight", graph.Shape{4, 3}, graph.Constant(0))
		b := gr.Param("bias", graph.Shape{4}, graph.Constant(0))
		miss := op.Sub(op.Tanh(op.Gemm(x, w, b)), y)
		grads := gr.Grad(op.ReduceMean(op.Mul(miss, miss), nil, false))
		norm := optim.Norm(grads)
		gr.Output("norm", norm)
		if g.ClipNorm > 0 {
			grads = optim.ClipNorm(grads, norm, g.ClipNorm)
		}
		o.Update(gr, grads, gr.Knob("lr", 1), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func inputs(o optim.Optimizer, step int) map[string]graph.Array {
	t := float64(step)
	in := map[string]graph.Array{
		"x":  runtimetest.Filled(graph.Shape{5, 3}, func(i float64) float64 { return 2 * math.Sin(12.9898*(i+1)+78.233*t) }),
		"y":  runtimetest.Filled(graph.Shape{5, 4}, func(i float64) float64 { return math.Cos(0.9*i + 0.4*t) }),
		"lr": runtimetest.Scalar(0.2 / (t + 1)),
	}
	for name, v := range o.Knobs(step) {
		in[name] = runtimetest.Scalar(float64(v))
	}
	return in
}

func start() (weight, bias graph.Array) {
	return runtimetest.Filled(graph.Shape{4, 3}, func(i float64) float64 { return math.Sin(0.7 * i) }),
		runtimetest.Filled(graph.Shape{4}, func(i float64) float64 { return 0.5 * math.Cos(1.1*i) })
}

func float32s(a graph.Array) graph.Tensor {
	v := graph.NewTensor(graph.Float32, a.Shape...)
	for i, x := range a.F {
		v.F[i] = float32(x)
	}
	return v
}

func near[T float32 | float64](t *testing.T, what string, got []T, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d elements, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tolerance*math.Max(1, math.Abs(w))) {
			t.Fatalf("%s[%d] is %.12g, want %.12g", what, i, got[i], w)
		}
	}
}

// On the tape, in float64, what is left is the knobs: AdamW's bias corrections are handed over in float32.
func TestFiveStepsOnTheTapeEqualPyTorch(t *testing.T) {
	for name, g := range readGoldens(t) {
		t.Run(name, func(t *testing.T) {
			tolerance := 1e-9
			if g.Method == "adamw" {
				tolerance = 1e-6
			}
			o := g.optimizer(t)
			p := g.program(t, o)
			tape, err := graph.NewTape(p)
			if err != nil {
				t.Fatal(err)
			}
			defer tape.Close()
			stored := map[string]graph.Array{}
			for _, l := range p.Stored {
				stored[l.Name] = graph.Zeros(l.Shape)
			}
			stored["weight"], stored["bias"] = start()
			for step := range g.Norms {
				in := inputs(o, step)
				maps.Copy(in, stored)
				out, updates, err := tape.Eval(in)
				if err != nil {
					t.Fatal(err)
				}
				maps.Copy(stored, updates)
				at := fmt.Sprintf("step %d: ", step)
				near(t, at+"norm", out["norm"].F, g.Norms[step:step+1], tolerance)
				near(t, at+"weight", stored["weight"].F, g.Weight[step], tolerance)
				near(t, at+"bias", stored["bias"].F, g.Bias[step], tolerance)
			}
		})
	}
}

func TestFiveStepsOverAStoreEqualPyTorchOnBothEngines(t *testing.T) {
	for name, g := range readGoldens(t) {
		for _, engine := range []runtime.Engine{runtime.Gorgonia, runtime.ONNXRuntime} {
			t.Run(fmt.Sprintf("%s/%s", name, engine), func(t *testing.T) {
				o := g.optimizer(t)
				p := g.program(t, o)
				store := &graph.Store{}
				w, b := start()
				store.Set("weight", graph.Param, float32s(w))
				store.Set("bias", graph.Param, float32s(b))
				if err := p.Fill(store, 1); err != nil {
					t.Fatal(err)
				}
				step, err := runtime.Compile(p, store, engine, runtime.Options{Threads: 1}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer step.Close()
				for i := range g.Norms {
					in := map[string]graph.Tensor{}
					for name, a := range inputs(o, i) {
						in[name] = float32s(a)
					}
					out, err := step.Run(in)
					if err != nil {
						t.Fatal(err)
					}
					at := fmt.Sprintf("step %d: ", i)
					near(t, at+"norm", out["norm"].F, g.Norms[i:i+1], 1e-6)
					w, _ := store.Tensor("weight")
					b, _ := store.Tensor("bias")
					near(t, at+"weight", w.F, g.Weight[i], 2e-6)
					near(t, at+"bias", b.F, g.Bias[i], 2e-6)
				}
			})
		}
	}
}

func TestMomentsAreStoredUnderTheirParameter(t *testing.T) {
	for method, want := range map[string][]string{
		"sgd":   {"bias.momentum", "weight.momentum"},
		"adamw": {"bias.moment1", "bias.moment2", "weight.moment1", "weight.moment2"},
	} {
		g := golden{Method: method}
		store := &graph.Store{}
		if err := g.program(t, g.optimizer(t)).Fill(store, 1); err != nil {
			t.Fatal(err)
		}
		if got := store.Names(graph.Moment); !reflect.DeepEqual(got, want) {
			t.Errorf("%s keeps %v, want %v", method, got, want)
		}
	}
	plain := golden{Method: "sgd", Settings: map[string]any{"momentum": 0}}
	for _, l := range plain.program(t, plain.optimizer(t)).Stored {
		if l.Kind == graph.Moment {
			t.Errorf("SGD without momentum keeps %s", l.Name)
		}
	}
}

func TestZeroGradientsAreClippedToZero(t *testing.T) {
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		w := g.Param("w", graph.Shape{3}, graph.Constant(2))
		grads := g.Grad(op.Scale(op.ReduceSum(w, nil, false), 0))
		for _, d := range optim.ClipNorm(grads, optim.Norm(grads), 1) {
			g.Output("d", d.Grad)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range []runtime.Engine{runtime.Gorgonia, runtime.ONNXRuntime} {
		store := &graph.Store{}
		if err := p.Fill(store, 1); err != nil {
			t.Fatal(err)
		}
		step, err := runtime.Compile(p, store, engine, runtime.Options{Threads: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		out, err := step.Run(nil)
		if err != nil {
			t.Fatal(err)
		}
		near(t, string(engine), out["d"].F, []float64{0, 0, 0}, 0)
	}
}

func TestEveryOptimizerIsItsYAMLSection(t *testing.T) {
	for _, row := range optim.Table {
		want, err := decode(row.Name, nil)
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		if !reflect.DeepEqual(want.Optimizer.Method, row.New()) {
			t.Errorf("%s: the name alone gives %+v, not the defaults", row.Name, want.Optimizer.Method)
		}
		text, err := strictyaml.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		var got section
		if err := strictyaml.Decode(text, "recipe.yaml", &got, nil); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: decodes from\n%s\nto %+v, %v", row.Name, text, got, err)
		}
	}
}

func TestSettingsOutOfRangeAreRefusedByName(t *testing.T) {
	cases := map[string][]struct{ setting, value string }{
		"sgd": {{"momentum", "-0.1"}, {"momentum", "1"}, {"momentum", ".nan"}, {"weight_decay", "-1"}, {"weight_decay", ".inf"},
			{"nesterov", "true\n  momentum: 0"}, {"lr", "0"}, {"lr", ".inf"}, {"lr", ".nan"}},
		"adamw": {{"beta1", "1"}, {"beta2", "-0.5"}, {"eps", "0"}, {"eps", ".nan"}, {"weight_decay", "2"}, {"lr", "-1"}},
	}
	for _, row := range optim.Table {
		if len(cases[row.Name]) == 0 {
			t.Errorf("%s has no case here", row.Name)
		}
		for _, c := range cases[row.Name] {
			var s section
			text := fmt.Sprintf("optimizer:\n  name: %s\n  %s: %s\n", row.Name, c.setting, c.value)
			if c.setting != "lr" {
				text += "  lr: 0.1\n"
			}
			err := strictyaml.Decode([]byte(text), "recipe.yaml", &s, nil)
			if err == nil || !strings.Contains(err.Error(), "recipe.yaml:2") || !strings.Contains(err.Error(), c.setting+" ") {
				t.Errorf("%s with %s %s: %v", row.Name, c.setting, c.value, err)
			}
		}
	}
}
