package student_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/student"
)

const (
	resnet56 = "../models/cifar10_resnet56.onnx"
	fixed    = "../models/mnist_cntk.onnx"
)

// built describes a lifted network on 32x32 images for training, and lists what it stores.
func built(o *student.ONNX, classes int, image ...int) (map[string]graph.Leaf, error) {
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		x := g.Input("x", graph.Float32, append([]int{4}, image...)...)
		g.Output("logits", o.Build(g, x, classes).Logits)
	})
	if err != nil {
		return nil, err
	}
	leaves := map[string]graph.Leaf{}
	for _, l := range p.Stored {
		leaves[l.Name] = l
	}
	return leaves, nil
}

func TestLiftedStudentStartsFromItsFilesWeights(t *testing.T) {
	first := func(l graph.Leaf) []float32 {
		v := make([]float32, l.Shape.Size())
		l.Init(v, l.Shape, rand.New(rand.NewPCG(1, 2)))
		return v
	}
	kept, err := built(&student.ONNX{File: resnet56}, 10, 3, 32, 32)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := built(&student.ONNX{File: resnet56, Fresh: true}, 10, 3, 32, 32)
	if err != nil {
		t.Fatal(err)
	}
	hundred, err := built(&student.ONNX{File: resnet56}, 100, 3, 32, 32)
	if err != nil {
		t.Fatal(err)
	}
	frozen, err := built(&student.ONNX{File: resnet56, Freeze: []string{"linear.*"}}, 10, 3, 32, 32)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) == 0 || len(kept) != len(fresh) || len(kept) != len(hundred) {
		t.Fatalf("%d, %d and %d tensors are stored", len(kept), len(fresh), len(hundred))
	}
	for name, l := range kept {
		if l.Kind != graph.Param {
			t.Errorf("%s is a %v", name, l.Kind)
		}
		if len(l.Shape) > 1 && slices.Equal(first(l), first(fresh[name])) {
			t.Errorf("%s starts anew with the file's values", name)
		}
		head := strings.HasPrefix(name, "linear.")
		if s := hundred[name].Shape; head == s.Equal(l.Shape) || head && s[0] != 100 {
			t.Errorf("%s is %v for 100 classes, %v for 10", name, s, l.Shape)
		}
		if (frozen[name].Kind == graph.State) != head {
			t.Errorf("%s is a %v where linear.* is frozen", name, frozen[name].Kind)
		}
	}
}

func TestWhatAFileCannotDoIsSaid(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     student.ONNX
		image []int
		want  string
	}{
		{"another size", student.ONNX{File: resnet56}, []int{3, 28, 28}, "the network takes [batch 3 32 32]"},
		{"a fixed batch", student.ONNX{File: fixed}, []int{1, 28, 28}, "fixes a batch of 1"},
		{"no such weight", student.ONNX{File: resnet56, Freeze: []string{"head.*"}}, []int{3, 32, 32}, `no weight is like "head.*"`},
		{"no file", student.ONNX{}, []int{3, 32, 32}, "onnx must name a file"},
	} {
		if _, err := built(&c.o, 10, c.image...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestBatchNormAndDropoutAreAddedOnRequest(t *testing.T) {
	describe := func(mode graph.Mode, o *student.ONNX) *graph.Program {
		p, err := graph.Build(mode, func(g *graph.Graph) {
			g.Output("logits", o.Build(g, g.Input("x", graph.Float32, 4, 3, 32, 32), 10).Logits)
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	masks := func(p *graph.Program) (n int) {
		for _, l := range p.Inputs {
			if l.Keep > 0 {
				n++
				a, b, c := l.Draw(1, 0), l.Draw(1, 0), l.Draw(1, 1)
				if !slices.Equal(a.F, b.F) || slices.Equal(a.F, c.F) {
					t.Errorf("%s is no function of the step", l.Name)
				}
				if zeros := countZeros(a.F); zeros == 0 || zeros == len(a.F) {
					t.Errorf("%s drops %d of %d", l.Name, zeros, len(a.F))
				}
			}
		}
		return n
	}
	plain, more := &student.ONNX{File: resnet56}, &student.ONNX{File: resnet56, BatchNorm: true, Dropout: 0.5}
	training, inference := describe(graph.Training, more), describe(graph.Inference, more)
	if masks(training) != 1 || masks(inference) != 0 || masks(describe(graph.Training, plain)) != 0 {
		t.Error("dropout is not there in training, or is there at inference")
	}
	// Four tensors for each of ResNet-56's 55 convolutions.
	if got, want := len(training.Stored), len(describe(graph.Training, plain).Stored)+4*55; got != want {
		t.Errorf("%d tensors are stored, want %d", got, want)
	}
	if len(training.Updates) != 2*55 {
		t.Errorf("%d running statistics are updated, want %d", len(training.Updates), 2*55)
	}
	if _, err := built(&student.ONNX{File: resnet56, Dropout: 1}, 10, 3, 32, 32); err == nil {
		t.Error("a dropout of 1 was taken")
	}
}

func countZeros(values []float32) (n int) {
	for _, v := range values {
		if v == 0 {
			n++
		}
	}
	return n
}
