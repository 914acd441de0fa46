package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// writeLinear writes a classifier of [N,3,32,32] into 10 classes by a dense layer, whose weights its name decides, and returns
// its path. With odds, it gives probabilities that no softmax of the file makes.
func writeLinear(t *testing.T, name string, odds bool, classes []string) string {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := op.Flatten(op.AveragePool(g.Input("image", graph.Float32, 2, 3, 32, 32), op.PoolAttrs{Kernel: [2]int{8, 8}, Strides: [2]int{8, 8}}))
		z := op.Gemm(x, g.Param(name, graph.Shape{10, 48}, func(values []float32, _ graph.Shape, rng *rand.Rand) {
			for i := range values {
				values[i] = float32(rng.NormFloat64())
			}
		}), g.Param("bias", graph.Shape{10}, graph.Constant(0)))
		if odds {
			e := op.Exp(z)
			z = op.Div(e, op.ReduceSum(e, []int{1}, true))
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
	for key, value := range (data.Card{Preprocess: data.DefaultPreprocess(), Classes: classes}).Metadata() {
		m.SetMetadata(key, value)
	}
	path := filepath.Join(t.TempDir(), name+".onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// judgeFiles is what teacher eval finds of files on 20 images, as its JSON has it.
func judgeFiles(t *testing.T, files ...string) (judgement, error) {
	t.Helper()
	args := append([]string{"teacher", "eval", "--json", "--data", "cifar10:../../testdata/cifar10", "--limit", "20", "--fisher", "5"}, files...)
	var out bytes.Buffer
	if err := execute(context.Background(), args, &out, io.Discard); err != nil {
		return judgement{}, err
	}
	var j judgement
	if err := json.Unmarshal(out.Bytes(), &j); err != nil {
		t.Fatal(err)
	}
	return j, nil
}

func TestQualityComparesOneKindOfFisherInformation(t *testing.T) {
	a, b := writeLinear(t, "a", false, nil), writeLinear(t, "b", false, nil)
	odds := writeLinear(t, "odds", true, nil)
	for _, c := range []struct {
		files []string
		kind  string
	}{
		{[]string{a, b}, byGradient},
		{[]string{a, odds, b}, byLogits},
	} {
		j, err := judgeFiles(t, c.files...)
		if err != nil {
			t.Fatal(err)
		}
		if j.Fisher != c.kind {
			t.Errorf("%v: compared by %q, want %q", c.files, j.Fisher, c.kind)
		}
		var traces, components []float64
		for _, teacher := range j.Teachers {
			if lifts := teacher.File != odds; lifts != (teacher.Fisher.Error == nil) || lifts != (teacher.Fisher.Gradient != nil) || lifts != (teacher.Fisher.Classifier != nil) {
				t.Errorf("%s: %+v", teacher.File, teacher.Fisher)
			}
			traces, components = append(traces, *teacher.Fisher.by(c.kind)), append(components, float64(teacher.Features.Components))
		}
		for i, teacher := range j.Teachers {
			if want := 0.6*traces[i]/slices.Max(traces) + 0.4*components[i]/slices.Max(components); !near(teacher.Quality, want) {
				t.Errorf("%s: quality %v, want %v", teacher.File, teacher.Quality, want)
			}
		}
	}
	only := judged{Fisher: fisher{Gradient: new(float64), Classifier: new(float64)}}
	none := judged{Fisher: fisher{Classifier: new(float64)}}
	if kind := (&judgement{Teachers: []judged{only, none}}).kind(); kind != byClassifier {
		t.Errorf("with a last layer each, compared by %q", kind)
	}
}

// A dense layer is all the weights there are.
func TestGradientsOfDenseLayerAreItsClosedForm(t *testing.T) {
	path := writeLinear(t, "a", false, nil)
	args := []string{"teacher", "eval", path, "--json", "--data", "cifar10:../../testdata/cifar10", "--limit", "20", "--fisher", "1000"}
	var out bytes.Buffer
	if err := execute(context.Background(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var j judgement
	if err := json.Unmarshal(out.Bytes(), &j); err != nil {
		t.Fatal(err)
	}
	if f := j.Teachers[0].Fisher; math.Abs(*f.Gradient / *f.Classifier - 1) > 0.03 || *f.Weights != 490 {
		t.Errorf("by gradients %v with respect to %d weights, by the last layer %v", *f.Gradient, *f.Weights, *f.Classifier)
	}
}

func TestTeachersThatDoNotFitAreRefused(t *testing.T) {
	source, err := data.OpenSplit(data.Options{Source: "cifar10:../../testdata/cifar10"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	named := writeLinear(t, "named", false, source.Classes())
	turned := slices.Clone(source.Classes())
	turned[0], turned[1] = turned[1], turned[0]
	for _, c := range []struct {
		name  string
		files []string
		words []string
	}{
		{"names in another order", []string{named, writeLinear(t, "turned", false, turned)}, []string{"turned.onnx: class 0 is", "another order of the same names"}},
		{"twice", []string{named, "../../testdata/goldens/student.onnx", named}, []string{"are the same file", "name each teacher once"}},
		{"no classifier", []string{named, "../../testdata/onnx-node/test_abs/model.onnx"}, []string{"test_abs/model.onnx: input", "not float32 images [N,C,H,W]"}},
		{"other images", []string{named, "../../testdata/exports/swin.onnx", "--preset", "imagenet"}, []string{"the model takes images of 64×64, these are 32×32"}},
	} {
		_, err := judgeFiles(t, c.files...)
		for _, word := range c.words {
			if err == nil || !strings.Contains(err.Error()+hint.Of(err), word) {
				t.Errorf("%s: got the error %v, want one of %q", c.name, err, word)
			}
		}
	}
}

func TestInterruptedJudgingSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	args := []string{"teacher", "eval", "../../testdata/goldens/student.onnx", "--data", "cifar10:../../testdata/cifar10"}
	err := execute(ctx, args, io.Discard, io.Discard)
	if err == nil || err.Error() != "teacher eval: interrupted" || exitCode(err) != exitInterrupted {
		t.Errorf("got the error %v with status %d", err, exitCode(err))
	}
}

func TestNamesOfTeachersTellThemApart(t *testing.T) {
	j := judgement{Teachers: []judged{{File: "a/net.onnx"}, {File: "b/net.onnx"}, {File: "b/other.onnx"}}}
	for i, want := range []string{"1 a/net.onnx", "2 b/net.onnx", "3 other"} {
		if got := j.name(i); got != want {
			t.Errorf("teacher %d is %q, want %q", i, got, want)
		}
	}
}
