package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
	"distill/train"
)

// computation is a Program that a provider is tried on, beside the CPU.
type computation struct {
	kind  string // one of the kinds
	name  string // of the operator or the student
	build func() (*graph.Program, error)
	feed  func(p *graph.Program, step int) map[string]graph.Tensor
	steps int // runs, one after another over one store
}

const (
	kindOperator  = "operator"  // an example of op.Table: its result and its gradients
	kindInference = "inference" // a student's logits
	kindStep      = "step"      // forward, backward and update: logits, losses, weights and momenta after it
	kindTraining  = "training"  // the losses of some steps
)

// Sizes of what students are tried on: so small that a GPU emulated in software is done in minutes.
const (
	tinyBatch   = 4
	tinyImage   = 16 // pixels, height and width
	tinyClasses = 5
	tinySteps   = 8 // of a training
)

// tinyStudents are the architectures, as a recipe's student, in order.
var tinyStudents = []struct {
	name, yaml string
	trained    bool // also in a training step
}{
	{"cnn", "{arch: cnn, widths: [8, 16]}", true},
	{"convnext", "{arch: convnext_atto_cifar, stages: [[8, 1], [16, 1]]}", true},
	{"efficientnet", "{arch: efficientnet_cifar, stem: 8, settings: [[1, 8, 1, 1, 3], [6, 16, 1, 2, 5]], last: 32}", true},
	{"mlp", "{arch: mlp, hidden: [16]}", false},
	{"mobilenetv2", "{arch: mobilenetv2_cifar, stem: 8, settings: [[1, 8, 1, 1], [6, 16, 2, 2]], last: 32}", true},
	{"resnet", "{arch: resnet8, width: 8}", true},
	{"resnet50", "{arch: resnet50, width: 0.125, depth: 0.2}", false},
	{"shufflenetv2", "{arch: shufflenetv2_cifar, stem: 8, stages: [[16, 2]], last: 32}", true},
	{"vgg", "{arch: vgg8, width: 0.125}", false},
	{"vit", "{arch: vit_tiny4, width: 16, depth: 2, heads: 2}", true},
	{"wrn", "{arch: wrn10_1, width: 8}", false},
}

// computations are all that a provider is tried on: every example of op.Table, then the students.
func computations() ([]computation, error) {
	var list []computation
	for _, row := range op.Table {
		for _, e := range row.Examples {
			list = append(list, computation{kindOperator, row.Name, e.Program, examples(e), 1})
		}
	}
	recipes := make([]*train.Recipe, len(tinyStudents))
	for i, s := range tinyStudents {
		r, err := train.ParseRecipe([]byte(fmt.Sprintf(`
data: {source: none}
teacher: {model: none}
student: %s
batch: %d
optimizer: {name: sgd, lr: 0.02, momentum: 0.9, weight_decay: 0.0005}
`, s.yaml, tinyBatch)), s.name, nil)
		if err != nil {
			return nil, err
		}
		recipes[i] = r
		list = append(list, computation{kindInference, s.name, func() (*graph.Program, error) { return inference(r) }, waves, 1})
	}
	step := func(r *train.Recipe) func() (*graph.Program, error) {
		return func() (*graph.Program, error) { return r.Training([3]int{3, tinyImage, tinyImage}, tinyClasses) }
	}
	for i, s := range tinyStudents {
		if s.trained {
			list = append(list, computation{kindStep, s.name, step(recipes[i]), waves, 1})
		}
		if s.name == "resnet" {
			list = append(list, computation{kindTraining, s.name, step(recipes[i]), waves, tinySteps})
		}
	}
	return list, nil
}

func inference(r *train.Recipe) (*graph.Program, error) {
	return graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input("images", graph.Float32, tinyBatch, 3, tinyImage, tinyImage)
		g.Output("logits", r.Student.Arch.Build(g, x, tinyClasses).Logits)
	})
}

// examples are the inputs of an operator's example.
func examples(e op.Example) func(*graph.Program, int) map[string]graph.Tensor {
	return func(*graph.Program, int) map[string]graph.Tensor {
		in := map[string]graph.Tensor{}
		for k, a := range e.Inputs() {
			t := graph.NewTensor(graph.Float32, a.Shape...)
			for i, v := range a.F {
				t.F[i] = float32(v)
			}
			in[strconv.Itoa(k)] = t
		}
		return in
	}
}

// waves are what a student's Program reads at a step: sines, whole numbers that are classes, and what is drawn at random.
func waves(p *graph.Program, step int) map[string]graph.Tensor {
	in := map[string]graph.Tensor{}
	for k, l := range p.Inputs {
		switch {
		case l.Knob:
		case l.Keep > 0:
			in[l.Name] = l.Draw(1, step)
		case l.DType == graph.Int64:
			t := graph.Ints(make([]int64, l.Shape.Size()), l.Shape...)
			for i := range t.I {
				t.I[i] = int64((i + step) % tinyClasses)
			}
			in[l.Name] = t
		default:
			t := graph.NewTensor(graph.Float32, l.Shape...)
			for i := range t.F {
				t.F[i] = float32(2 * math.Sin(12.9898*float64(i+1)+78.233*float64(k+1)+0.1*float64(step)))
			}
			in[l.Name] = t
		}
	}
	return in
}

// results runs the computation and returns what it comes to, by name. A training comes to its losses, under the steps' numbers.
func (c computation) results(opts runtime.Options, target *graph.Target) (map[string]graph.Tensor, error) {
	p, err := c.build()
	if err != nil {
		return nil, err
	}
	var store graph.Store
	if err := p.Fill(&store, 1); err != nil {
		return nil, err
	}
	stir(p, &store)
	step, err := runtime.Compile(p, &store, runtime.ONNXRuntime, opts, target)
	if err != nil {
		return nil, err
	}
	defer step.Close()
	all := map[string]graph.Tensor{}
	for i := range c.steps {
		out, err := step.Run(c.feed(p, i))
		switch {
		case err != nil:
			return nil, err
		case c.kind == kindTraining:
			all[strconv.Itoa(i+1)] = out["loss"]
		default:
			all = out
		}
	}
	switch c.kind {
	case kindOperator:
		delete(all, "cost") // a sum that may cancel out: it is there for the gradients
	case kindStep:
		for _, u := range p.Updates {
			all[u.Name], _ = store.Tensor(u.Name)
		}
	}
	return all, nil
}

// stir tells the elements of a parameter apart that starts all alike, such as the last layer of a vision transformer, whose
// zeros would hide what comes before it.
func stir(p *graph.Program, store *graph.Store) {
	for _, l := range p.Stored {
		t, ok := store.Tensor(l.Name)
		if !ok || l.Kind != graph.Param || slices.Min(t.F) < slices.Max(t.F) {
			continue
		}
		for i := range t.F {
			t.F[i] += float32(0.05 * math.Sin(float64(i+1)))
		}
	}
}

// noSize is the size, of the largest result, below which a result is zero but for rounding, as the gradient of a bias ahead of
// a norm: it has no size of its own to be measured by.
const noSize = 1e-3

// furthest is the result that is off most, and by how much of its largest element.
func furthest(got, want map[string]graph.Tensor) (name string, difference float64) {
	size := func(t graph.Tensor) (largest float64) {
		for _, v := range t.F {
			largest = math.Max(largest, math.Abs(float64(v)))
		}
		return largest
	}
	least := 0.0
	for _, w := range want {
		least = math.Max(least, noSize*size(w))
	}
	for n, w := range want {
		off, g := 0.0, got[n]
		for i, v := range w.F {
			d := math.Inf(1)
			if i < len(g.F) {
				d = math.Abs(float64(g.F[i] - v))
			}
			if math.IsNaN(d) {
				d = math.Inf(1)
			}
			off = math.Max(off, d)
		}
		if off > 0 {
			off /= math.Max(size(w), least)
		}
		if off > difference || off == difference && (name == "" || n < name) {
			name, difference = n, off
		}
	}
	return name, difference
}
