package teacher

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"distill/data"
	"distill/metrics"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// pictures is a data source of one batch.
type pictures struct{ *data.Batch }

func (p pictures) Len() int              { return p.Batch.Shape[0] }
func (p pictures) Shape() (c, h, w int)  { return p.Batch.Shape[1], p.Batch.Shape[2], p.Batch.Shape[3] }
func (p pictures) Classes() []string     { return make([]string, 6) }
func (p pictures) image(i int) []float32 { n := len(p.X) / p.Len(); return p.X[i*n : (i+1)*n] }

func (p pictures) Read(i int, dst []float32) (label int, err error) {
	copy(dst, p.image(i))
	return 0, nil
}

// linear writes a classifier of [N,3,4,4] into 6 classes of logits scale·W·x + b, or of their double, and returns its path.
func linear(t *testing.T, scale float64, doubled bool) string {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := op.Flatten(g.Input("image", graph.Float32, 2, 3, 4, 4))
		w := g.Param("w", graph.Shape{6, 48}, waves(scale))
		z := op.Gemm(x, w, g.Param("b", graph.Shape{6}, waves(1)))
		if doubled {
			z = op.Scale(z, 2)
		}
		g.Output("out", z)
	})
	if err != nil {
		t.Fatal(err)
	}
	store := new(graph.Store)
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Lower(p, onnx.Lowering{Store: store, Batch: "batch"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "linear.onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func waves(scale float64) graph.Init {
	return func(values []float32, _ graph.Shape, _ *rand.Rand) {
		for i := range values {
			values[i] = float32(scale * math.Sin(float64(3*i+1)))
		}
	}
}

func traceOf(t *testing.T, teacher *Teacher, images pictures, draws int) (trace, stderr float64, f *Fisher) {
	t.Helper()
	f, err := teacher.Fisher(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	trace, stderr, err = f.Trace(context.Background(), images, forward(t, teacher, images.Batch).Logits, draws, 1)
	if err != nil {
		t.Fatal(err)
	}
	return trace, stderr, f
}

// Of a dense layer and softmax, the trace is mean (1 − ‖p‖²)·(‖x‖²+1).
func TestFisherTraceOfLinearSoftmaxIsAnalytic(t *testing.T) {
	images := pictures{smallBatch(12)}
	teacher := open(t, Options{Model: linear(t, 0.7, false)})
	want := func() (mean, stderr float64) {
		x := make([]float32, len(images.X))
		teacher.Preprocess().Apply(x, images.X, images.Batch.Shape)
		mean, std := metrics.MeanStd(metrics.ClassifierFisher(forward(t, teacher, images.Batch).Logits, 6, x, 48))
		n := float64(images.Len())
		return mean, std * math.Sqrt((n-1)/n/n)
	}
	trace, stderr, f := traceOf(t, teacher, images, 20000)
	if w, e := want(); math.Abs(trace/w-1) > 0.01 || math.Abs(stderr/e-1) > 0.05 {
		t.Errorf("the trace is %v ± %v, want %v ± %v", trace, stderr, w, e)
	}
	if f.Weights() != 6*48+6 {
		t.Errorf("there are %d weights, want %d", f.Weights(), 6*48+6)
	}

	// With images of one length, all draws are alike.
	for i := range images.Len() {
		x := images.image(i)
		for j := range x {
			x[j] = 100 * float32((i*7+j*5)%2)
		}
	}
	trace, _, _ = traceOf(t, teacher, images, 20)
	if w, _ := want(); math.Abs(trace/w-1) > 1e-5 {
		t.Errorf("the trace is %v, want %v", trace, w)
	}
}

func TestFisherTraceIsTheExpectationOverClasses(t *testing.T) {
	images := pictures{smallBatch(10)}
	teacher := open(t, Options{Model: small{ending: "softmax"}.write(t)}) // its logits are in the file
	trace, _, f := traceOf(t, teacher, images, 2000)
	want, p := 0.0, make([]float64, 6)
	x := graph.NewTensor(graph.Float32, 1, 3, 4, 4)
	z := forward(t, teacher, images.Batch).Logits
	for i := range images.Len() {
		teacher.Preprocess().Apply(x.F, images.image(i), [4]int{1, 3, 4, 4})
		for k, share := range metrics.Softmax(p, z[i*6:][:6]) {
			square, err := f.score.Square(x, k)
			if err != nil {
				t.Fatal(err)
			}
			want += share * square / float64(images.Len())
		}
	}
	if math.Abs(trace/want-1) > 0.02 {
		t.Errorf("the trace is %v, want %v", trace, want)
	}
}

func TestFisherTraceOfSureNetworkIsZero(t *testing.T) {
	trace, stderr, _ := traceOf(t, open(t, Options{Model: linear(t, 1e6, false)}), pictures{smallBatch(4)}, 2)
	if trace != 0 || stderr != 0 {
		t.Errorf("the trace is %v ± %v", trace, stderr)
	}
}

func TestFisherStopsWhenTold(t *testing.T) {
	images := pictures{smallBatch(2)}
	teacher := open(t, Options{Model: linear(t, 1, false)})
	f, err := teacher.Fisher(0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	logits := forward(t, teacher, images.Batch).Logits
	_, _, err = f.Trace(ctx, images, logits, 2, 1)
	wantError(t, err, "teacher: differentiate ", context.Canceled.Error())
	_, _, err = f.Trace(context.Background(), images, logits[6:], 2, 1)
	wantError(t, err, "6 logits for 2 images of 6 classes")
	_, _, err = f.Trace(context.Background(), images, logits, 1, 1)
	wantError(t, err, "1 draws")
	_, _, err = f.Trace(context.Background(), pictures{&data.Batch{Shape: [4]int{2, 3, 5, 4}}}, logits, 2, 1)
	wantError(t, err, "the model takes images of 4×4")
}

func TestFisherOfProbabilitiesIsRefused(t *testing.T) {
	_, err := open(t, Options{Model: small{ending: "written out softmax"}.write(t)}).Fisher(0)
	wantError(t, err, "teacher: differentiate ", "its output is probabilities")
}

func TestFeaturesAreTheLastOnesBeforeTheLogits(t *testing.T) {
	for _, c := range []struct{ path, tensor, kind string }{
		{resnet, "/Flatten_output_0", Classified},
		{mnist, "Pooling160_Output_0", Pooled},
		{small{ending: "logits"}.write(t), "", Pooled},
		{linear(t, 1, false), "", Classified},
		{linear(t, 1, true), "out", Logit},
	} {
		o := Options{Model: c.path}
		tensor, kind, err := open(t, o).Features(o, 0)
		if err != nil || kind != c.kind || c.tensor != "" && tensor != c.tensor {
			t.Errorf("%s: %q, %s, %v; want %q, %s", c.path, tensor, kind, err, c.tensor, c.kind)
		}
	}
}
