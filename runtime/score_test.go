package runtime

import (
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

func TestSquaredScoresArePyTorchs(t *testing.T) {
	testInit(t)
	files := throughFiles(t)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		want := files[path]
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, err := onnx.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			n, err := m.Lift(onnx.Lifting{})
			if err != nil {
				t.Fatal(err)
			}
			one := want.Input.Clone()
			one[0] = 1
			s, err := NewScore(n, one, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			images, x := wave(want.Input).F, graph.NewTensor(graph.Float32, one...)
			k := len(want.Logits) / want.Input[0]
			for i, sample := range want.Samples {
				copy(x.F, images[i*len(x.F):])
				got, err := s.Square(x, sample.Label)
				if err != nil {
					t.Fatal(err)
				}
				trace := 0.0
				for _, w := range sample.Weights {
					trace += w.Square
				}
				if tolerance := 2e-3 + 0x1p-22/doubt(want.Logits[i*k:(i+1)*k], sample.Label); !(math.Abs(got/trace-1) <= tolerance) {
					t.Errorf("image %d: the squared score is %g, in PyTorch %g", i, got, trace)
				}
			}
		})
	}
}

// Of logits z = W·h + b, the squared score is ‖e_y − p‖²·(‖h‖²+1).
func TestSquaredScoreOfLinearSoftmaxIsAnalytic(t *testing.T) {
	testInit(t)
	const d, k = 6, 3
	waves := func(values []float32, _ graph.Shape, _ *rand.Rand) {
		for i := range values {
			values[i] = float32(math.Sin(float64(i + 1)))
		}
	}
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		h := op.Flatten(g.Input("x", graph.Float32, 2, d, 1, 1))
		g.Output("logits", op.Gemm(h, g.Param("w", graph.Shape{k, d}, waves), g.Param("b", graph.Shape{k}, waves)))
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
	n, err := m.Lift(onnx.Lifting{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewScore(n, graph.Shape{1, d, 1, 1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Weights() != k*d+k {
		t.Errorf("it has %d weights, want %d", s.Weights(), k*d+k)
	}
	x := graph.Floats([]float32{1, -2, 0.5, 0, 3, -1}, 1, d, 1, 1)
	w, _ := store.Tensor("w")
	b, _ := store.Tensor("b")
	var e [k]float64
	sum := 0.0
	for j := range e {
		z := float64(b.F[j])
		for i, v := range x.F {
			z += float64(w.F[j*d+i]) * float64(v)
		}
		e[j] = math.Exp(z)
		sum += e[j]
	}
	for y := range e {
		want := 0.0
		for j := range e {
			delta := e[j] / sum
			if j == y {
				delta--
			}
			want += delta * delta
		}
		want *= square(doubled(x.F)) + 1
		if got, err := s.Square(x, y); err != nil || math.Abs(got/want-1) > 1e-5 {
			t.Errorf("label %d: got %v, %v, want %v", y, got, err, want)
		}
	}
	for _, y := range []int{-1, k} {
		if _, err := s.Square(x, y); err == nil {
			t.Errorf("label %d was taken", y)
		}
	}
}
