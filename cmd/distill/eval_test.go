package main

import (
	"context"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
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
