package runtime

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"distill/internal/hint"
	"distill/runtime/graph"
)

func open(t testing.TB, path string, opts Options) *Session {
	t.Helper()
	testInit(t)
	model, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(model, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const resnet, mnist = "../models/cifar10_resnet56.onnx", "../models/mnist_cntk.onnx"

func images(seed uint64, n int) graph.Tensor {
	rng := rand.New(rand.NewPCG(seed, 0))
	t := graph.NewTensor(graph.Float32, n, 3, 32, 32)
	for i := range t.F {
		t.F[i] = float32(rng.NormFloat64())
	}
	return t
}

func TestSessionDescribesItsModel(t *testing.T) {
	for _, c := range []struct{ path, in, out string }{
		{resnet, "input float32[?,3,32,32]", "logits float32[?,10]"},
		{mnist, "Input3 float32[1,1,28,28]", "Plus214_Output_0 float32[1,10]"},
	} {
		s := open(t, c.path, Options{})
		in, out := s.Inputs()[0], s.Outputs()[0]
		if got := in.Name + " " + in.String(); got != c.in {
			t.Errorf("%s: input %q, want %q", c.path, got, c.in)
		}
		if got := out.Name + " " + out.String(); got != c.out {
			t.Errorf("%s: output %q, want %q", c.path, got, c.out)
		}
	}
}

func TestBatchGivesWhatItsImagesGiveAlone(t *testing.T) {
	s := open(t, resnet, Options{})
	batch := images(1, 3)
	out, err := s.Run(map[string]graph.Tensor{"input": batch})
	if err != nil {
		t.Fatal(err)
	}
	logits := out["logits"]
	if !logits.Shape.Equal(graph.Shape{3, 10}) {
		t.Fatalf("logits are %v", logits.Shape)
	}
	for n := range 3 {
		one := graph.Floats(batch.F[n*3*32*32:(n+1)*3*32*32], 1, 3, 32, 32)
		alone, err := s.Run(map[string]graph.Tensor{"input": one}, "logits")
		if err != nil {
			t.Fatal(err)
		}
		for k, z := range alone["logits"].F {
			if d := math.Abs(float64(z - logits.F[n*10+k])); d > 1e-4*math.Max(1, math.Abs(float64(z))) {
				t.Errorf("image %d class %d: %v in the batch, %v alone", n, k, logits.F[n*10+k], z)
			}
		}
	}
}

func TestRunsAreBitIdentical(t *testing.T) {
	in := map[string]graph.Tensor{"input": images(2, 4)}
	want, err := open(t, resnet, Options{Threads: 2}).Run(in)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, resnet, Options{Threads: 2, Spin: true})
	var group sync.WaitGroup
	for range 4 { // at the same time: a session is safe for concurrent use
		group.Go(func() {
			got, err := s.Run(in)
			if err != nil || !slices.Equal(got["logits"].F, want["logits"].F) {
				t.Errorf("another session gave other bits, error %v", err)
			}
		})
	}
	group.Wait()
}

func TestOptionsReachTheSession(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "run")
	s := open(t, mnist, Options{DisableOptimization: true, Profile: profile})
	if _, err := s.Run(map[string]graph.Tensor{"Input3": graph.NewTensor(graph.Float32, 1, 1, 28, 28)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(profile + "*.json")
	if len(files) != 1 {
		t.Fatalf("profiles %v, want one", files)
	}
	trace, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	// The optimizer would have merged the addition into the convolution.
	if !bytes.Contains(trace, []byte("Plus30")) {
		t.Error("the profile shows no unmerged addition")
	}
}

func TestEveryCarriedTypeIsRead(t *testing.T) {
	s := open(t, "testdata/types.onnx", Options{})
	out, err := s.Run(map[string]graph.Tensor{"x": graph.Floats([]float32{0, 1.5, -2, 3}, 2, 2)})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]graph.Tensor{
		"same":   graph.Floats([]float32{0, 1.5, -2, 3}, 2, 2),
		"double": graph.Floats([]float32{0, 1.5, -2, 3}, 2, 2),
		"int32":  graph.Ints([]int64{0, 1, -2, 3}, 2, 2),
		"bool":   graph.Ints([]int64{0, 1, 1, 1}, 2, 2),
		"shape":  graph.Ints([]int64{2, 2}, 2),
		"sum":    graph.Scalar(2.5),
	} {
		got, ok := out[name]
		if !ok || !got.Shape.Equal(want.Shape) || !slices.Equal(got.F, want.F) || !slices.Equal(got.I, want.I) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if len(out) != 6 {
		t.Errorf("%d outputs, want the 6 that a tensor carries", len(out))
	}
}

func TestRankIsFoundByRunning(t *testing.T) {
	s := open(t, "testdata/rank.onnx", Options{})
	x := graph.Floats([]float32{1, 2, 3, 4}, 4)
	for range 2 {
		out, err := s.Run(map[string]graph.Tensor{"x": x, "to": graph.Ints([]int64{2, 2}, 2)})
		if err != nil {
			t.Fatal(err)
		}
		if got := out["free"]; !got.Shape.Equal(graph.Shape{2, 2}) || !slices.Equal(got.F, x.F) {
			t.Errorf("got %v", got)
		}
	}
}

func TestScalarWhereADimensionWasClaimedIsAnError(t *testing.T) {
	s := open(t, "testdata/rank.onnx", Options{})
	in := map[string]graph.Tensor{"x": graph.Floats([]float32{1}, 1), "to": graph.Ints([]int64{}, 0)}
	if out, err := s.Run(in); err == nil {
		t.Errorf("got %v, want an error", out)
	}
}

func TestBadFeedIsNamedBeforeTheRun(t *testing.T) {
	s := open(t, mnist, Options{})
	types := open(t, "testdata/types.onnx", Options{})
	digit := graph.NewTensor(graph.Float32, 1, 1, 28, 28)
	pair := map[string]graph.Tensor{"x": graph.NewTensor(graph.Float32, 1, 2)}
	for _, c := range []struct {
		name    string
		session *Session
		in      map[string]graph.Tensor
		outputs []string
		want    string
		hint    string
	}{
		{"missing input", s, nil, nil, `input "Input3" is missing: the model takes float32[1,1,28,28]`, ""},
		{"unknown input", s, map[string]graph.Tensor{"Input3": digit, "more": digit}, nil, `no input "more"`, "it has Input3"},
		{"other batch", s, map[string]graph.Tensor{"Input3": graph.NewTensor(graph.Float32, 2, 1, 28, 28)}, nil, `input "Input3" is float32[2,1,28,28], the model takes float32[1,1,28,28]`, ""},
		{"other rank", s, map[string]graph.Tensor{"Input3": graph.NewTensor(graph.Float32, 784)}, nil, "is float32[784]", ""},
		{"other type", s, map[string]graph.Tensor{"Input3": graph.NewTensor(graph.Int64, 1, 1, 28, 28)}, nil, "is int64[1,1,28,28]", ""},
		{"too few elements", s, map[string]graph.Tensor{"Input3": {Shape: digit.Shape, F: digit.F[1:]}}, nil, "783 elements do not fill shape [1,1,28,28]", ""},
		{"unknown output", s, map[string]graph.Tensor{"Input3": digit}, []string{"logits"}, `no output "logits"`, "it has Plus214_Output_0"},
		{"half output", types, pair, []string{"half"}, `output "half" is float16[?,2], which cannot be read`, ""},
		{"sequence output", types, pair, []string{"list"}, `output "list" is sequence[], which cannot be read`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.session.Run(c.in, c.outputs...)
			if err == nil || !strings.Contains(err.Error(), c.want) || hint.Of(err) != c.hint {
				t.Errorf("got %v, hint %q; want %q, hint %q", err, hint.Of(err), c.want, c.hint)
			}
		})
	}
}

func TestModelThatCannotRunIsRefused(t *testing.T) {
	testInit(t)
	whole, err := os.ReadFile(resnet)
	if err != nil {
		t.Fatal(err)
	}
	constant, err := os.ReadFile("testdata/constant.onnx")
	if err != nil {
		t.Fatal(err)
	}
	for name, model := range map[string][]byte{
		"empty":     nil,
		"text":      []byte("not a model"),
		"truncated": whole[:len(whole)/2],
		"no input":  constant,
	} {
		if s, err := NewSession(model, Options{}); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		} else if !strings.HasPrefix(err.Error(), "runtime: make session: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClosedSessionRefusesToRun(t *testing.T) {
	s := open(t, mnist, Options{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Run(map[string]graph.Tensor{"Input3": graph.NewTensor(graph.Float32, 1, 1, 28, 28)}); err == nil {
		t.Error("no error")
	}
}

func TestWrappedTensorsAreReadAndWrittenInPlace(t *testing.T) {
	s := open(t, mnist, Options{})
	x, y := graph.NewTensor(graph.Float32, 1, 1, 28, 28), graph.NewTensor(graph.Float32, 1, 10)
	in, errIn := wrap(x)
	out, errOut := wrap(y)
	if errIn != nil || errOut != nil {
		t.Fatal(errIn, errOut)
	}
	defer destroy([]ort.Value{in, out})
	run := func() []float32 {
		if err := s.run([]ort.Value{in}, []ort.Value{out}); err != nil {
			t.Fatal(err)
		}
		return slices.Clone(y.F)
	}
	blank := run()
	for i := range x.F {
		x.F[i] = 255
	}
	white := run()
	if slices.Equal(blank, make([]float32, 10)) || slices.Equal(blank, white) {
		t.Errorf("a blank digit gave %v, a white one %v: the memory is not shared", blank, white)
	}
	if got, err := unwrap(out); err != nil || &got.F[0] != &y.F[0] {
		t.Errorf("unwrap copied, error %v", err)
	}
}

func TestWrapRefusesElementsThatDoNotFill(t *testing.T) {
	testInit(t)
	for _, bad := range []graph.Tensor{
		{Shape: graph.Shape{2, 3}, F: make([]float32, 5)},
		{Shape: graph.Shape{-1, -2}, F: make([]float32, 2)},
		{Shape: graph.Shape{}, F: nil},
	} {
		if v, err := wrap(bad); err == nil {
			v.Destroy()
			t.Errorf("%v with %d elements: no error", bad.Shape, len(bad.F))
		}
	}
}
