package runtime

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// lifted reads a model and builds it at a batch size, or at the one it fixes, for inference and as the gradient of its
// output's sum of squares.
func lifted(t *testing.T, path string, mode graph.Mode, batch int) (*graph.Program, *graph.Store, onnx.Value) {
	t.Helper()
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Lift(onnx.Lifting{})
	if err != nil {
		t.Fatal(err)
	}
	in, out := n.Signature()
	if !in.Shape[0].Dynamic() {
		batch = in.Shape[0].Size
	}
	shape := []int{batch}
	for _, d := range in.Shape[1:] {
		shape = append(shape, d.Size)
	}
	p, err := graph.Build(mode, func(g *graph.Graph) {
		x := g.Input(in.Name, graph.Float32, shape...)
		y := n.Build(g, map[string]*G.Node{in.Name: x})[out.Name]
		g.Output(out.Name, y)
		if mode == graph.Training {
			cost := op.ReduceMean(op.Mul(y, y), nil, false)
			grads := g.Grad(cost)
			for _, d := range grads {
				g.Update(d.Name, op.Sub(d.Param, op.Mul(d.Grad, g.Knob("lr", 0))))
			}
			g.Output("cost", cost)
			var square *G.Node // of the gradient's length
			for _, d := range grads {
				part := op.ReduceSum(op.Mul(d.Grad, d.Grad), nil, false)
				if square == nil {
					square = part
				} else {
					square = op.Add(square, part)
				}
			}
			g.Output("square", square)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var s graph.Store
	if err := p.Fill(&s, 1); err != nil {
		t.Fatal(err)
	}
	return p, &s, in
}

func wave(shape graph.Shape) graph.Tensor {
	x := graph.NewTensor(graph.Float32, shape...)
	for i := range x.F {
		x.F[i] = float32(math.Sin(float64(i)*0.37) * 1.5)
	}
	return x
}

// liftable are those of the repository that can be lifted, and, where DISTILL_TEACHERS names a folder, those in it.
func liftable(t *testing.T) []string {
	paths, err := filepath.Glob("../testdata/exports/*.onnx")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no exports: %v", err)
	}
	paths = append(paths, "../models/cifar10_resnet56.onnx", "../testdata/goldens/student.onnx")
	if dir := os.Getenv("DISTILL_TEACHERS"); dir != "" {
		more, err := filepath.Glob(filepath.Join(dir, "*.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, more...)
	}
	return paths
}

func TestLiftedModelComputesWhatItsFileDoes(t *testing.T) {
	testInit(t)
	for _, path := range liftable(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			file, err := NewSession(b, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			p, s, in := lifted(t, path, graph.Inference, 3)
			lowering, shape := onnx.Lowering{Store: s}, p.Inputs[0].Shape.Clone()
			if in.Shape[0].Dynamic() { // at another batch than it is lowered at: nothing of that may be left in it
				lowering.Batch = "batch"
				shape[0] += 2
			}
			m, err := onnx.Lower(p, lowering)
			if err != nil {
				t.Fatal(err)
			}
			again, err := m.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			session, err := NewSession(again, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			x := map[string]graph.Tensor{in.Name: wave(shape)}
			want, err := file.Run(x)
			if err != nil {
				t.Fatal(err)
			}
			got, err := session.Run(x)
			if err != nil {
				t.Fatal(err)
			}
			for name, w := range want {
				scale := 1.0
				for _, v := range w.F {
					scale = math.Max(scale, math.Abs(float64(v)))
				}
				for i, v := range w.F {
					if d := math.Abs(float64(got[name].F[i] - v)); !(d <= 1e-4*scale) {
						t.Fatalf("%s[%d]: lifted %g, file %g", name, i, got[name].F[i], v)
					}
				}
			}
		})
	}
}

// A step down the gradient lowers the cost by the step times the gradient's squared length: for all weights at once.
func TestLiftedModelTrains(t *testing.T) {
	testInit(t)
	for _, path := range liftable(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			p, s, in := lifted(t, path, graph.Training, 4)
			step, err := Compile(p, s, ONNXRuntime, Options{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer step.Close()
			run := func(lr float32) (cost, square float32) {
				out, err := step.Run(map[string]graph.Tensor{in.Name: wave(p.Inputs[0].Shape), "lr": graph.Scalar(lr)})
				if err != nil {
					t.Fatal(err)
				}
				return out["cost"].F[0], out["square"].F[0]
			}
			const share = 0.003 // of the cost, to be gone after the step
			before, square := run(0)
			run(share * before / square)
			after, _ := run(0)
			if got := (before - after) / before; !(math.Abs(float64(got)-share) < 0.2*share) {
				t.Errorf("a step that should lower the cost %g by %g of it lowers it by %g", before, share, got)
			}
		})
	}
}

func TestWhatCannotBeLiftedIsNamed(t *testing.T) {
	m, err := onnx.Parse(lacking(t), "model")
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Lift(onnx.Lifting{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", n.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, 2, 3)})["y"])
	})
	if err == nil || !strings.Contains(err.Error(), "Hardplus_0") {
		t.Errorf("%v does not name the node", err)
	}
	if _, err := m.Lift(onnx.Lifting{Freeze: []string{"nothing*"}}); err == nil || !strings.Contains(err.Error(), `no weight is like "nothing*"`) {
		t.Errorf("freezing what is not there: %v", err)
	}
}
