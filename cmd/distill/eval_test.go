package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distill/data"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/teacher"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6 }

func TestEvaluationComparesOnTheSameImages(t *testing.T) {
	half := float32(math.Log(3)) // softmax([ln 3, 0]) = [¾, ¼]
	model := []float32{half, 0, half, 0, half, 0, 0, half}
	other := []float32{0, 0, half, 0, 0, half, 0, half}
	e := evaluate([][]float32{model, other}, 2, []int64{0, 0, 1, 1})
	kl := (0.5*math.Log(0.5/0.75) + 0.5*math.Log(0.5/0.25) + 0.75*math.Log(3) - 0.25*math.Log(3)) / 4
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"n", float64(e.N), 4},
		{"top1", e.Top1, 0.75},
		{"stderr", e.Stderr, math.Sqrt(0.75 * 0.25 / 4)},
		{"top5", e.Top5, 1},
		{"ece", e.ECE, 0}, // three of four are right, each with confidence ¾
		{"agreement", *e.Agreement, 0.75},
		{"its top1", e.Against.Top1, 1},
		{"difference", e.Against.Difference, -0.25},
		{"its stderr", e.Against.Stderr, 0.25}, // differences 0 0 −1 0: deviation ½, over √4
		{"kl", e.Against.KL, kl},
	} {
		if !near(c.got, c.want) {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	if e := evaluate([][]float32{model}, 2, []int64{0, 0, 1, 1}); e.Agreement != nil || e.Against != nil {
		t.Errorf("alone, a model agrees with %v, %v", e.Agreement, e.Against)
	}
}

func TestInfiniteLogitsAreRefused(t *testing.T) {
	m, err := onnx.Read("../../models/mnist_cntk.onnx")
	if err != nil {
		t.Fatal(err)
	}
	const bias = "Parameter194" // [1,10], added last
	b, err := m.Initializer(bias)
	if err != nil {
		t.Fatal(err)
	}
	b.F[7] = float32(math.Inf(1))
	m.SetInitializer(bias, graph.Floats(b.F, b.Shape...))
	path := filepath.Join(t.TempDir(), "inf.onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	args := []string{"predict", path, "../../testdata/images/cat.png", "--scale", "1"}
	err = execute(context.Background(), args, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "logit 7 of an image is +Inf") {
		t.Errorf("got the error %v", err)
	}
}

func TestInterruptedEvalSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	args := []string{"eval", "../../models/cifar10_resnet56.onnx", "--data", "cifar10:../../testdata/cifar10", "--preset", "imagenet"}
	err := execute(ctx, args, io.Discard, io.Discard)
	if err == nil || err.Error() != "eval: interrupted" || exitCode(err) != exitInterrupted {
		t.Errorf("got the error %v with status %d", err, exitCode(err))
	}
}

// writeImage writes an image of noise.
func writeImage(t *testing.T, path string, h, w int, rng *rand.Rand) {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = byte(rng.IntN(256))
		if i%4 == 3 {
			m.Pix[i] = 255 // opaque
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, m); err != nil {
		t.Fatal(err)
	}
}

func TestModelsSeeImagesAsInTraining(t *testing.T) {
	dir := t.TempDir()
	images, output := filepath.Join(dir, "images"), filepath.Join(dir, "run")
	rng := rand.New(rand.NewPCG(1, 1))
	var files []string
	for _, class := range []string{"a", "b"} {
		if err := os.MkdirAll(filepath.Join(images, class), 0o777); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			files = append(files, filepath.Join(images, class, fmt.Sprintf("%02d.png", i)))
			writeImage(t, files[len(files)-1], 12, 20, rng)
		}
	}
	ctx, source, student := context.Background(), "folder:"+images, filepath.Join(output, "student.onnx")
	train := []string{
		"train", "--data", source, "--output", output, "--epochs", "2", "--student", "mlp",
		"student.hidden=[8]", "batch=8", "data.augment={crop: 0}", "preprocess.size=[8, 8]",
	}
	if err := execute(ctx, train, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}

	// What training does: it reads images of their own size, and its preprocessing stretches them.
	src, err := data.OpenSplit(data.Options{Source: source}, "")
	if err != nil {
		t.Fatal(err)
	}
	var b data.Batch
	if err := (&data.Loader{Source: src, Batch: src.Len()}).Fill(&b, 0, 0); err != nil {
		t.Fatal(err)
	}
	model, err := teacher.Open(teacher.Options{Model: student}, data.DefaultPreprocess(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	z, err := logits(model, &b)
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	if err := execute(ctx, append([]string{"predict", student, "--json"}, files...), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var found []prediction
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	for i, p := range found {
		if want := best(z[2*i:2*i+2], []string{"a", "b"}, 1)[0]; p.Predictions[0].Class != want.Class || !near(p.Predictions[0].Probability, want.Probability) {
			t.Errorf("predict says %+v of %s, training saw %+v", p.Predictions[0], p.File, want)
		}
	}

	// Here images may differ in size.
	writeImage(t, filepath.Join(images, "b", "99.png"), 9, 5, rng)
	out.Reset()
	if err := execute(ctx, []string{"eval", student, "--data", source, "--limit", "60", "--json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var got evaluation
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := evaluate([][]float32{z}, 2, b.Y)
	if got.N != want.N || !near(got.Top1, want.Top1) || !near(got.ECE, want.ECE) {
		t.Errorf("eval measures %+v, training saw %+v", got, want)
	}
	if err := execute(ctx, []string{"eval", student, "--data", source}, io.Discard, io.Discard); err != nil {
		t.Error(err)
	}
}
