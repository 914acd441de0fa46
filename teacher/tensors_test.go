package teacher

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distill/data"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// normed writes a classifier of [N,3,4,4] into 5 classes whose batch norm is a node of its own, with a softmax or without.
func normed(t *testing.T, batch string, softmax bool) string {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := nn.Conv{Name: "conv", In: 3, Out: 6, Kernel: 3, Pad: 1}.Apply(g, g.Input("image", graph.Float32, 2, 3, 4, 4))
		x = op.Relu(nn.BatchNorm{Name: "bn", Channels: 6}.Apply(g, x))
		y := nn.Linear{Name: "fc", In: 6, Out: 5}.Apply(g, op.Flatten(op.GlobalAveragePool(x)))
		if softmax {
			y = op.Softmax(y, 1)
		}
		g.Output("out", y)
	})
	if err != nil {
		t.Fatal(err)
	}
	store := new(graph.Store)
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	gamma, _ := store.Tensor("bn.weight")
	copy(gamma.F, []float32{1, 2, 3, 4, 5, 6})
	m, err := onnx.Lower(p, onnx.Lowering{Store: store, Batch: batch})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "normed.onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func openPlain(t *testing.T, o Options) *Teacher {
	t.Helper()
	pre, err := data.Preset("imagenet")
	if err != nil {
		t.Fatal(err)
	}
	tc, err := Open(o, pre, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tc.Close() })
	return tc
}

// tensorOf names the only tensor that an operator gives.
func tensorOf(t *testing.T, tensors []Tensor, op string) string {
	t.Helper()
	i := slices.IndexFunc(tensors, func(v Tensor) bool { return v.Op == op })
	if i < 0 {
		t.Fatalf("no %s among %v", op, tensors)
	}
	return tensors[i].Name
}

func TestTensorsHaveTheShapesOfOneImage(t *testing.T) {
	for _, c := range []struct {
		batch string // of the file; "": fixed, of 2
		limit int
	}{{"batch", 0}, {"batch", 1}, {"", 0}} {
		o := Options{Model: normed(t, c.batch, true), Batch: c.limit}
		tensors, err := openPlain(t, o).Tensors(o, 1)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range tensors {
			got = append(got, v.Op+v.Shape.String())
		}
		want := "Conv[6,4,4] BatchNormalization[6,4,4] Relu[6,4,4] GlobalAveragePool[6,1,1] Flatten[6] Gemm[5]"
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%+v: %s, want %s", c, text, want)
		}
	}
}

func TestTeacherLendsShapesNormsAndClassifier(t *testing.T) {
	o := Options{Model: normed(t, "batch", true)}
	tensors, err := openPlain(t, o).Tensors(o, 1)
	if err != nil {
		t.Fatal(err)
	}
	norm, relu := tensorOf(t, tensors, "BatchNormalization"), tensorOf(t, tensors, "Relu")
	o.Taps = []string{norm, relu}
	tc := openPlain(t, o)
	if s := tc.TapShape(relu); !s.Equal(graph.Shape{6, 4, 4}) {
		t.Errorf("the tap's shape is %v", s)
	}
	if s := tc.TapShape("none"); s != nil {
		t.Errorf("what is no tap has the shape %v", s)
	}
	if n, ok := tc.TapNorm(norm); !ok || !slices.Equal(n.Gamma, []float32{1, 2, 3, 4, 5, 6}) || len(n.Beta) != 6 {
		t.Errorf("the norm is %+v, %v", n, ok)
	}
	if _, ok := tc.TapNorm(relu); ok {
		t.Error("a ReLU is a norm")
	}
	c, err := tc.Classifier()
	if err != nil || c.Features != tensorOf(t, tensors, "Flatten") || !c.Weight.Shape.Equal(graph.Shape{5, 6}) || !c.Bias.Shape.Equal(graph.Shape{5}) {
		t.Errorf("the classifier is %+v, %v", c, err)
	}
}

func TestTeacherWithoutADenseLayerSaysWhy(t *testing.T) {
	path := small{ending: "softmax"}.write(t)
	_, err := openPlain(t, Options{Model: path}).Classifier()
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "come from a Mul") {
		t.Errorf("error %v", err)
	}
}

func TestMultiplyAddsAreThoseOfOneImage(t *testing.T) {
	const conv, dense = 6 * 2 * 2 * 3 * 3 * 3, 6 * 48
	for path, want := range map[string]int64{
		small{ending: "softmax"}.write(t):          conv,
		small{ending: "logits", fixed: 3}.write(t): conv,
		linear(t, 1, false):                        dense,
	} {
		o := Options{Model: path}
		if got, err := open(t, o).MACs(o, 1); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", path, got, err, want)
		}
	}
}
