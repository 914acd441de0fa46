package runtime

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// throughFile is what PyTorch computes from a whole file in float64; testdata/goldens/gradients.py says of what.
type throughFile struct {
	Input    graph.Shape
	Logits   []float64
	Gradient struct {
		Norm   float64
		Stride int
		Values []float64
	}
	Samples []struct {
		Label   int
		Weights map[string]struct {
			Square float64
			First  []float64
		}
	}
}

// classes is K of the logits [N,K].
func (f throughFile) classes() int { return len(f.Logits) / f.Input[0] }

// throughFiles are those of the repository by path, and those of the file that DISTILL_GRADIENTS names.
func throughFiles(t *testing.T) map[string]throughFile {
	t.Helper()
	const folder = "../testdata/goldens"
	files := map[string]throughFile{}
	for _, path := range []string{filepath.Join(folder, "gradients.json"), os.Getenv("DISTILL_GRADIENTS")} {
		if path == "" {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var cases map[string]throughFile
		if err := json.Unmarshal(b, &cases); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for model, c := range cases {
			if !filepath.IsAbs(model) {
				model = filepath.Join(folder, model)
			}
			files[model] = c
		}
	}
	return files
}

// each runs a subtest for each file, in order of their names.
func each(t *testing.T, test func(t *testing.T, path string, want throughFile)) {
	files := throughFiles(t)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		t.Run(filepath.Base(path), func(t *testing.T) { test(t, path, files[path]) })
	}
}

// through lifts a file for inference at a batch size and describes what is made of its input and logits.
func through(t *testing.T, path string, shape graph.Shape, l onnx.Lifting, describe func(g *graph.Graph, x, logits *G.Node)) (*graph.Program, *graph.Store) {
	t.Helper()
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Lift(l)
	if err != nil {
		t.Fatal(err)
	}
	in, out := n.Signature()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input("x", graph.Float32, shape...)
		describe(g, x, n.Build(g, map[string]*G.Node{in.Name: x})[out.Name])
	})
	if !in.Shape[0].Dynamic() { // its Reshape says the batch again: it cannot be told from another size
		if err == nil || !strings.Contains(err.Error(), "Reshape") {
			t.Errorf("a fixed batch: %v", err)
		}
		t.Skipf("%s fixes a batch of %v: %v", path, in.Shape[0], err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var s graph.Store
	if err := p.Fill(&s, 1); err != nil {
		t.Fatal(err)
	}
	return p, &s
}

// towardInput describes the gradient, with respect to the input, of Σ logits[n,k]·sin(n·K+k+1), no weight being trained.
func towardInput(t *testing.T, path string, want throughFile) (*graph.Program, *graph.Store) {
	return through(t, path, want.Input, onnx.Lifting{Freeze: []string{"*"}}, func(g *graph.Graph, x, logits *G.Node) {
		weight := graph.Zeros(graph.ShapeOf(logits))
		for i := range weight.F {
			weight.F[i] = math.Sin(float64(i + 1))
		}
		g.Output("logits", logits)
		g.Output("gradient", g.GradInput(op.ReduceSum(op.Mul(logits, g.Const(weight)), nil, false), x)[0].Grad)
	})
}

// check compares logits and input gradient to a relative L2.
func (f throughFile) check(t *testing.T, logits, gradient []float64, tolerance float64) {
	t.Helper()
	if d := distance(logits, f.Logits); !(d <= tolerance) {
		t.Errorf("the logits are %.2g away from PyTorch's", d)
	}
	var square float64
	var kept []float64
	for i, v := range gradient {
		square += v * v
		if i%f.Gradient.Stride == 0 {
			kept = append(kept, v)
		}
	}
	if d := distance(kept, f.Gradient.Values); !(d <= tolerance) {
		t.Errorf("the gradient is %.2g away from PyTorch's", d)
	}
	if d := math.Abs(math.Sqrt(square)/f.Gradient.Norm - 1); !(d <= tolerance) {
		t.Errorf("the gradient's length is %.2g away from PyTorch's", d)
	}
}

// distance is ‖got − want‖ / ‖want‖, infinite for other lengths.
func distance(got, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i, w := range want {
		diff, norm = diff+(got[i]-w)*(got[i]-w), norm+w*w
	}
	return math.Sqrt(diff / norm)
}

func doubled(v []float32) []float64 {
	d := make([]float64, len(v))
	for i := range v {
		d[i] = float64(v[i])
	}
	return d
}

func TestInputGradientThroughFrozenNetworkIsPyTorchs(t *testing.T) {
	testInit(t)
	each(t, func(t *testing.T, path string, want throughFile) {
		p, s := towardInput(t, path, want)
		if params := s.Names(graph.Param); len(params) > 0 {
			t.Errorf("frozen, yet trained: %v", params)
		}
		step, err := Compile(p, s, ONNXRuntime, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		out, err := step.Run(map[string]graph.Tensor{"x": wave(want.Input)})
		if err != nil {
			t.Fatal(err)
		}
		want.check(t, doubled(out["logits"].F), doubled(out["gradient"].F), 1e-4)
	})
}

func TestInputGradientOnTheTapeIsPyTorchsInFloat64(t *testing.T) {
	each(t, func(t *testing.T, path string, want throughFile) {
		p, s := towardInput(t, path, want)
		tape, err := graph.NewTape(p)
		if err != nil {
			t.Fatal(err)
		}
		defer tape.Close()
		in := map[string]graph.Array{"x": {Shape: want.Input, F: doubled(wave(want.Input).F)}}
		for _, l := range p.Stored {
			v, _ := s.Tensor(l.Name)
			in[l.Name] = graph.Array{Shape: v.Shape, F: doubled(v.F)}
		}
		out, _, err := tape.Eval(in)
		if err != nil {
			t.Fatal(err)
		}
		want.check(t, out["logits"].F, out["gradient"].F, 1e-9)
	})
}

// gradientOf, before a weight's name, is the output with its gradient.
const gradientOf = "gradient of "

// The Fisher information's trace is the mean over images of the squared length of ∇ log p(label), one image at a time.
func TestPerSampleGradientsArePyTorchs(t *testing.T) {
	testInit(t)
	each(t, func(t *testing.T, path string, want throughFile) {
		one := want.Input.Clone()
		one[0] = 1
		p, s := through(t, path, one, onnx.Lifting{}, func(g *graph.Graph, x, logits *G.Node) {
			label := g.Input("label", graph.Float32, 1, want.classes()) // one-hot
			for _, d := range g.Grad(op.ReduceSum(op.Mul(label, op.LogSoftmax(logits, 1)), nil, false)) {
				g.Output(gradientOf+d.Name, d.Grad)
			}
		})
		step, err := Compile(p, s, ONNXRuntime, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		images := wave(want.Input).F
		for n, sample := range want.Samples {
			x := graph.NewTensor(graph.Float32, one...)
			copy(x.F, images[n*len(x.F):])
			label := graph.NewTensor(graph.Float32, 1, want.classes())
			label.F[sample.Label] = 1
			grads, err := step.Run(map[string]graph.Tensor{"x": x, "label": label})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := s.Names(graph.Param), slices.Sorted(maps.Keys(sample.Weights)); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
				t.Fatalf("trained are %v, in PyTorch %v", got, want)
			}
			var trace float64
			for _, w := range sample.Weights {
				trace += w.Square
			}
			var sum float64
			for name, w := range sample.Weights {
				g := doubled(grads[gradientOf+name].F)
				var square float64
				for _, v := range g {
					square += v * v
				}
				sum += square
				length := math.Sqrt(w.Square)
				// Some are zero but for rounding: a bias of keys moves no softmax.
				slack := 1e-6 * math.Sqrt(trace)
				if d := math.Abs(math.Sqrt(square) - length); !(d <= 5e-4*length+slack) {
					t.Errorf("image %d: ‖∇ %s‖ is %g, in PyTorch %g", n, name, math.Sqrt(square), length)
				}
				for i, v := range w.First {
					if d := math.Abs(g[i] - v); !(d <= 5e-4*length+slack) {
						t.Errorf("image %d: ∇ %s [%d] is %g, in PyTorch %g", n, name, i, g[i], v)
					}
				}
			}
			if d := math.Abs(sum/trace - 1); !(d <= 1e-3) {
				t.Errorf("image %d: the trace is %g, in PyTorch %g", n, sum, trace)
			}
		}
	})
}
