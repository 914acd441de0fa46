package teacher

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"distill/data"
	"distill/internal/hint"
	"distill/internal/strictyaml"
	"distill/metrics"
	"distill/runtime"
	"distill/runtime/runtimetest"
)

const resnet, mnist = "../models/cifar10_resnet56.onnx", "../models/mnist_cntk.onnx"

func TestMain(m *testing.M) { runtimetest.Main(m) }

// open opens a teacher that takes pixels scaled to 0..1 where o does not say otherwise.
func open(t testing.TB, o Options) *Teacher {
	t.Helper()
	teacher, err := Open(o, data.DefaultPreprocess(), 2)
	if err != nil {
		t.Fatalf("%v\n%s", err, hint.Of(err))
	}
	t.Cleanup(func() { teacher.Close() })
	return teacher
}

func openResNet(t testing.TB, batch int, taps ...string) *Teacher {
	t.Helper()
	return open(t, Options{Model: resnet, Mean: []float64{0.485, 0.456, 0.406}, Std: []float64{0.229, 0.224, 0.225}, Batch: batch, Taps: taps})
}

func forward(t testing.TB, teacher *Teacher, b *data.Batch) Outputs {
	t.Helper()
	out, err := teacher.Forward(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// near fails unless a and b agree to tolerance·max(1, |b|).
func near(t testing.TB, a, b []float32, tolerance float64) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d values, want %d", len(a), len(b))
	}
	for i, v := range b {
		if !(math.Abs(float64(a[i]-v)) <= tolerance*math.Max(1, math.Abs(float64(v)))) {
			t.Fatalf("value %d is %v, want %v", i, a[i], v)
		}
	}
}

func wantError(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one with %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) && !strings.Contains(hint.Of(err), w) {
			t.Errorf("error %q, hint %q: no %q", err, hint.Of(err), w)
		}
	}
}

func equalJSON(t testing.TB, a, b any) bool {
	t.Helper()
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	if err := errors.Join(errX, errY); err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

func hash(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// testImages are the first n test images of CIFAR-10.
func testImages(t testing.TB, n int) *data.Batch {
	t.Helper()
	src, err := data.OpenSplit(data.Options{Source: "cifar10:../testdata/cifar10"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	b := new(data.Batch)
	if err := (&data.Loader{Source: src, Batch: n}).Fill(b, 0, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestResNetIsAsAccurateAsMeasured(t *testing.T) {
	before := hash(t, resnet)
	b := testImages(t, 200)
	pixels := slices.Clone(b.X)
	teacher := openResNet(t, 0)
	if teacher.Classes() != 10 || teacher.Output() != "logits" || teacher.Params() < 850_000 || teacher.Params() > 860_000 {
		t.Errorf("%d classes, %s, %d parameters", teacher.Classes(), teacher.Output(), teacher.Params())
	}
	if teacher.Path() != resnet || teacher.SHA256() != before {
		t.Errorf("path %s, SHA-256 %s", teacher.Path(), teacher.SHA256())
	}
	all := forward(t, teacher, b)
	if got := metrics.Top1(all.Logits, 10, b.Y); got != 0.94 {
		t.Errorf("accuracy %v", got)
	}
	if !slices.Equal(b.X, pixels) {
		t.Error("the batch has changed")
	}
	if all.Taps != nil {
		t.Errorf("%d taps, none asked for", len(all.Taps))
	}

	tapped := openResNet(t, 64, "*layer3*Relu*", "logits")
	out := forward(t, tapped, b)
	near(t, out.Logits, all.Logits, 1e-5)
	if !slices.Equal(out.Taps["logits"].F, out.Logits) {
		t.Error("the tapped logits are others")
	}
	if hash(t, resnet) != before {
		t.Error("the file has changed")
	}
}

func TestTapsGiveWhatTheirGlobsMatch(t *testing.T) {
	b := testImages(t, 3)
	plain := forward(t, openResNet(t, 0), b)
	teacher := openResNet(t, 2, "*layer3*Relu*", "*Relu*")
	names := teacher.Taps()
	if len(names) != 55 || !strings.Contains(names[0], "layer3") || len(slices.Compact(sorted(names))) != len(names) {
		t.Fatalf("taps %q", names)
	}
	out := forward(t, teacher, b)
	if !slices.Equal(out.Logits, plain.Logits) {
		t.Error("taps change the logits")
	}
	if len(out.Taps) != len(names) {
		t.Errorf("%d taps, want %d", len(out.Taps), len(names))
	}
	for _, name := range names {
		tap := out.Taps[name]
		if len(tap.Shape) == 0 || tap.Shape[0] != 3 || len(tap.F) != tap.Shape.Size() {
			t.Errorf("tap %s is %v with %d elements", name, tap.Shape, len(tap.F))
		}
	}
}

func TestTapThatIsNotOfImagesIsRefused(t *testing.T) {
	_, err := Open(Options{Model: resnet, Taps: []string{"*layer3*"}}, data.DefaultPreprocess(), 0)
	wantError(t, err, `ConstantOfShape_output_0": it is int64[2] for 5 images`, "such as *Relu*")
}

func TestBatchLimitMakesNoDifference(t *testing.T) {
	b := testImages(t, 66)
	one, many := forward(t, openResNet(t, 1), b), forward(t, openResNet(t, 64), b)
	near(t, one.Logits, many.Logits, 1e-5)
}

func TestFixedBatchOfOneWorks(t *testing.T) {
	scale := 1.0
	teacher := open(t, Options{Model: mnist, Scale: &scale, Size: []int{28, 28}, Taps: []string{"*Pooling160*"}})
	b := testImages(t, 4)
	gray := &data.Batch{Shape: [4]int{4, 1, 32, 32}}
	for i := range 4 {
		gray.X = append(gray.X, b.X[i*3*32*32:][:32*32]...)
	}
	all := forward(t, teacher, gray)
	if len(all.Logits) != 40 || teacher.Classes() != 10 || teacher.Output() != "logits" {
		t.Fatalf("%d logits, %d classes, %s", len(all.Logits), teacher.Classes(), teacher.Output())
	}
	for i := range 4 {
		alone := forward(t, teacher, &data.Batch{X: gray.X[i*32*32:][:32*32], Shape: [4]int{1, 1, 32, 32}})
		if !slices.Equal(alone.Logits, all.Logits[i*10:][:10]) {
			t.Errorf("image %d differs when it is alone", i)
		}
	}
	for name, tap := range all.Taps {
		if tap.Shape[0] != 4 {
			t.Errorf("tap %s is %v", name, tap.Shape)
		}
	}
}

func TestUnsuitableDataIsRefusedWithTheWayOut(t *testing.T) {
	teacher := openResNet(t, 0)
	ten, hundred := make([]string, 10), make([]string, 100)
	for _, c := range []struct {
		classes []string
		c, h, w int
		words   []string
	}{
		{ten, 3, 32, 32, nil},
		{hundred, 3, 32, 32, []string{"the model tells 10 classes apart, the data has 100", "use a model trained on the classes"}},
		{ten, 1, 32, 32, []string{"the model takes 3-channel images, the data has 1-channel ones", "same number of channels"}},
		{ten, 3, 28, 32, []string{"images of 32×32, these are 28×32", "teacher.size=[32,32]"}},
	} {
		err := teacher.Check(c.classes, c.c, c.h, c.w)
		if c.words != nil {
			wantError(t, err, append(c.words, "teacher: check "+resnet)...)
		} else if err != nil {
			t.Error(err)
		}
	}
	for _, b := range []*data.Batch{{}, {Shape: [4]int{1, 3, 32, 32}}, {X: make([]float32, 3*28*28), Shape: [4]int{1, 3, 28, 28}}} {
		if _, err := teacher.Forward(b); err == nil {
			t.Errorf("a batch of shape %v with %d pixels runs", b.Shape, len(b.X))
		}
	}
}

func TestUnreadableFileIsNamed(t *testing.T) {
	folder := t.TempDir()
	whole, err := os.ReadFile(resnet)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path  string
		words []string
	}{
		{"", []string{"no model is named"}},
		{filepath.Join(folder, "none.onnx"), []string{"none.onnx", "no such file"}},
		{write("short.onnx", whole[:len(whole)/2]), []string{"short.onnx", "truncated: the file ends at byte 1718424", "copy or export"}},
		{write("text.onnx", []byte("a text, not a model")), []string{"text.onnx", "not an ONNX model"}},
	} {
		_, err := Open(Options{Model: c.path}, data.DefaultPreprocess(), 1)
		wantError(t, err, append(c.words, "teacher: ")...)
	}
}

func TestLatencyIsMeasuredUntilCancelled(t *testing.T) {
	teacher := open(t, Options{Model: mnist})
	ms, err := teacher.Latency(t.Context(), 4)
	if err != nil || !(ms > 0 && ms < 1000) {
		t.Errorf("%v ms, %v", ms, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := teacher.Latency(cancelled, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after cancellation", err)
	}
	if _, err := teacher.Latency(t.Context(), 0); err == nil {
		t.Error("no runs have a latency")
	}
}

func TestClosedTeacherRefusesToRun(t *testing.T) {
	teacher := open(t, Options{Model: small{ending: "logits"}.write(t)})
	for range 2 {
		if err := teacher.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := teacher.Forward(smallBatch(1)); err == nil {
		t.Error("no error")
	}
}

func TestOptionsComeBackFromYAML(t *testing.T) {
	scale := 1.0
	for name, want := range map[string]Options{
		"least": {Model: "a.onnx"},
		"full": {Model: "a.onnx", Mean: []float64{0.5}, Std: []float64{0.25}, Scale: &scale, Size: []int{28, 28},
			Batch: 4, Provider: "cuda", ProviderOptions: map[string]string{"device_id": "1"}},
	} {
		text, err := strictyaml.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Options
		if err := strictyaml.Decode(text, "recipe.yaml", &got, nil); err != nil || !equalJSON(t, got, want) {
			t.Errorf("%s: got %+v, %v from\n%s", name, got, err, text)
		}
	}
	var o Options
	wantError(t, strictyaml.Decode([]byte("model: a.onnx\nbatch: -1"), "recipe.yaml", &o, nil), "recipe.yaml:1", "batch -1")
}

func TestBatchIsCutIntoRunsThatShareTheThreads(t *testing.T) {
	for _, c := range []struct {
		images, threads, limit, fixed int
		runs, each, batch             int
	}{
		{images: 0, threads: 2, runs: 1, each: 2, batch: 0},
		{images: 64, threads: 1, runs: 1, each: 1, batch: 0},
		{images: 64, threads: 2, runs: 2, each: 1, batch: 32},
		{images: 31, threads: 2, runs: 1, each: 2, batch: 0},
		{images: 64, threads: 3, runs: 3, each: 1, batch: 22},
		{images: 64, threads: 6, runs: 3, each: 2, batch: 22},
		{images: 64, threads: 16, runs: 4, each: 4, batch: 16},
		{images: 64, threads: 2, limit: 8, runs: 2, each: 1, batch: 8},
		{images: 64, threads: 2, limit: 50, runs: 2, each: 1, batch: 32},
		{images: 64, threads: 4, fixed: 1, runs: 4, each: 1, batch: 1},
		{images: 64, threads: 4, fixed: 20, runs: 2, each: 2, batch: 20},
		{images: 64, threads: 2, fixed: 64, runs: 1, each: 2, batch: 64},
		{images: 16, threads: 2, fixed: 64, runs: 1, each: 2, batch: 64},
	} {
		teacher := &Teacher{batch: max(c.limit, c.fixed)}
		teacher.model.batch = c.fixed
		teacher.cut(Options{Images: c.images}, c.threads)
		if teacher.runs != c.runs || teacher.threads != c.each || teacher.batch != c.batch {
			t.Errorf("%+v: %d runs at once of %d images on %d threads", c, teacher.runs, teacher.batch, teacher.threads)
		}
	}
	elsewhere := &Teacher{}
	if elsewhere.cut(Options{Images: 64, Provider: "cuda"}, 2); elsewhere.runs != 1 || elsewhere.threads != 2 || elsewhere.batch != 0 {
		t.Errorf("on another provider it is cut: %d runs of %d images", elsewhere.runs, elsewhere.batch)
	}
}

func TestBatchesAtOnceComeToTheSameAsOneByOne(t *testing.T) {
	budget := runtime.NewBudget(2)
	teacher := open(t, Options{Model: mnist, Images: 64, Batch: 20, Budget: budget})
	var batches []*data.Batch
	var want []Outputs
	for i := range 4 {
		x, shape := teacher.noise(64 + i)
		for j := range x {
			x[j] = float32((j*(i+1) + j/7) % 256)
		}
		batches = append(batches, &data.Batch{X: x, Shape: shape})
		want = append(want, forward(t, teacher, batches[i]))
	}
	got := make([]Outputs, len(batches))
	var all sync.WaitGroup
	for i := range batches {
		all.Go(func() {
			var err error
			if got[i], err = teacher.Forward(batches[i]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range want {
		if !slices.Equal(got[i].Logits, want[i].Logits) {
			t.Errorf("batch %d has other logits than alone", i)
		}
	}
	budget.Take(2) // as all are given back
}
