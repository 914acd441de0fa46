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
	Samples []sample
}

// sample has the gradients of log softmax(logits)[label] for one image.
type sample struct {
	Label   int
	Weights map[string]struct {
		Square float64
		First  []float64
	}
}

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

// precision is an engine, and how far from PyTorch's float64 it may come.
type precision struct {
	engine    Engine
	run       func(t *testing.T, p *graph.Program, s *graph.Store) func(in map[string]graph.Tensor) map[string][]float64
	tolerance float64 // relative L2, from the input to the output and back
}

// throughEach runs a test for each file on each engine.
func throughEach(t *testing.T, test func(t *testing.T, path string, want throughFile, e precision)) {
	testInit(t)
	files := throughFiles(t)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		for _, e := range []precision{{ONNXRuntime, inFloat32, 1e-4}, {Gorgonia, inFloat64, 1e-9}} {
			t.Run(filepath.Base(path)+"/"+string(e.engine), func(t *testing.T) { test(t, path, files[path], e) })
		}
	}
}

func inFloat32(t *testing.T, p *graph.Program, s *graph.Store) func(map[string]graph.Tensor) map[string][]float64 {
	step, err := Compile(p, s, ONNXRuntime, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { step.Close() })
	return func(in map[string]graph.Tensor) map[string][]float64 {
		out, err := step.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string][]float64{}
		for name, v := range out {
			values[name] = doubled(v.F)
		}
		return values
	}
}

// inFloat64 runs on the tape as it is: its Step would round what it gives.
func inFloat64(t *testing.T, p *graph.Program, s *graph.Store) func(map[string]graph.Tensor) map[string][]float64 {
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tape.Close() })
	return func(in map[string]graph.Tensor) map[string][]float64 {
		arrays := map[string]graph.Array{}
		for name, v := range in {
			arrays[name] = graph.Array{Shape: v.Shape, F: doubled(v.F)}
		}
		for _, l := range p.Stored {
			v, _ := s.Tensor(l.Name)
			arrays[l.Name] = graph.Array{Shape: v.Shape, F: doubled(v.F)}
		}
		out, _, err := tape.Eval(arrays)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string][]float64{}
		for name, a := range out {
			values[name] = a.F
		}
		return values
	}
}

func doubled(v []float32) []float64 {
	d := make([]float64, len(v))
	for i := range v {
		d[i] = float64(v[i])
	}
	return d
}

// through lifts a file for inference and describes, at the shape, what is made of its input and logits.
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
	if err != nil && !in.Shape[0].Dynamic() && strings.Contains(err.Error(), "Reshape") {
		t.Skipf("the file fixes a batch of %v: %v", in.Shape[0], err)
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

func square(v []float64) (sum float64) {
	for _, x := range v {
		sum += x * x
	}
	return sum
}

func TestInputGradientThroughFrozenNetworkIsPyTorchs(t *testing.T) {
	throughEach(t, func(t *testing.T, path string, want throughFile, e precision) {
		p, s := through(t, path, want.Input, onnx.Lifting{Freeze: []string{"*"}}, func(g *graph.Graph, x, logits *G.Node) {
			weight := graph.Zeros(graph.ShapeOf(logits))
			for i := range weight.F {
				weight.F[i] = math.Sin(float64(i + 1))
			}
			g.Output("logits", logits)
			g.Output("gradient", g.GradInput(op.ReduceSum(op.Mul(logits, g.Const(weight)), nil, false), x)[0].Grad)
		})
		if params := s.Names(graph.Param); len(params) > 0 {
			t.Errorf("frozen, yet trained: %v", params)
		}
		out := e.run(t, p, s)(map[string]graph.Tensor{"x": wave(want.Input)})
		if d := distance(out["logits"], want.Logits); !(d <= e.tolerance) {
			t.Errorf("the logits are %.2g away from PyTorch's", d)
		}
		gradient := out["gradient"]
		var kept []float64
		for i := 0; i < len(gradient); i += want.Gradient.Stride {
			kept = append(kept, gradient[i])
		}
		if d := distance(kept, want.Gradient.Values); !(d <= e.tolerance) {
			t.Errorf("the gradient is %.2g away from PyTorch's", d)
		}
		if d := math.Abs(math.Sqrt(square(gradient))/want.Gradient.Norm - 1); !(d <= e.tolerance) {
			t.Errorf("the gradient's length is %.2g away from PyTorch's", d)
		}
	})
}

// gradientOf, before a weight's name, is the output with its gradient.
const gradientOf = "gradient of "

// The trace of the Fisher information is the mean over images of ‖∇ log p(label)‖², which takes a gradient for each image.
func TestPerSampleGradientsArePyTorchs(t *testing.T) {
	throughEach(t, func(t *testing.T, path string, want throughFile, e precision) {
		classes := len(want.Logits) / want.Input[0]
		one := want.Input.Clone()
		one[0] = 1
		p, s := through(t, path, one, onnx.Lifting{}, func(g *graph.Graph, x, logits *G.Node) {
			label := g.Input("label", graph.Float32, 1, classes) // one-hot
			for _, d := range g.Grad(op.ReduceSum(op.Mul(label, op.LogSoftmax(logits, 1)), nil, false)) {
				g.Output(gradientOf+d.Name, d.Grad)
			}
		})
		trained, known := slices.Sorted(slices.Values(s.Names(graph.Param))), slices.Sorted(maps.Keys(want.Samples[0].Weights))
		if !slices.Equal(trained, known) {
			t.Fatalf("trained are %v, in PyTorch %v", trained, known)
		}
		run := e.run(t, p, s)
		images := wave(want.Input).F
		for n, sample := range want.Samples {
			x, label := graph.NewTensor(graph.Float32, one...), graph.NewTensor(graph.Float32, 1, classes)
			copy(x.F, images[n*len(x.F):])
			label.F[sample.Label] = 1
			out := run(map[string]graph.Tensor{"x": x, "label": label})
			tolerance := 10 * e.tolerance
			if e.engine == ONNXRuntime {
				// The gradient starts as 1 − p(label), of which float32 keeps the fewer digits the surer the network is.
				tolerance += 0x1p-23 / doubt(want.Logits[n*classes:(n+1)*classes], sample.Label)
			}
			sample.check(t, n, out, tolerance)
		}
	})
}

// doubt is 1 − softmax(logits)[label].
func doubt(logits []float64, label int) float64 {
	var others float64
	for k, z := range logits {
		if k != label {
			others += math.Exp(z - logits[label])
		}
	}
	return others / (1 + others)
}

// check compares image n's gradients, each to a tolerance relative to its length.
func (s sample) check(t *testing.T, n int, out map[string][]float64, tolerance float64) {
	t.Helper()
	var sum, trace float64
	for _, w := range s.Weights {
		trace += w.Square
	}
	for _, name := range slices.Sorted(maps.Keys(s.Weights)) {
		w := s.Weights[name]
		g := out[gradientOf+name]
		sum += square(g)
		length := math.Sqrt(w.Square)
		// Some are zero but for rounding: a bias of keys moves no softmax.
		slack := tolerance * (length + 1e-3*math.Sqrt(trace))
		if d := math.Abs(math.Sqrt(square(g)) - length); !(d <= slack) {
			t.Errorf("image %d: ‖∇ %s‖ is %g, in PyTorch %g", n, name, math.Sqrt(square(g)), length)
		}
		for i, v := range w.First {
			if d := math.Abs(g[i] - v); !(d <= slack) {
				t.Errorf("image %d: ∇ %s [%d] is %g, in PyTorch %g", n, name, i, g[i], v)
			}
		}
	}
	if d := math.Abs(sum/trace - 1); !(d <= 2*tolerance) {
		t.Errorf("image %d: the trace is %g, in PyTorch %g", n, sum, trace)
	}
}
