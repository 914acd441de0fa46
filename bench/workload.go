package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"

	"distill/internal/atomicfile"
	"distill/internal/safetensors"
	"distill/losses"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
	"distill/train"
)

// learningRate is low enough that a few hundred steps on one batch converge.
const learningRate = 0.01

// workload is something to time, made ready to run again and again on the same numbers.
type workload interface {
	run() error
	// first runs for the first time and returns what a peer with the same weights must have come to.
	first() (map[string]graph.Tensor, error)
	close() error
}

// open readies a network and writes what it starts from to its batchFile. The seed is that of weights and batch.
func (n network) open(batch int, seed uint64, opts runtime.Options, folder string) (workload, error) {
	if n.arch == nil {
		return n.openTeacher(batch, seed, opts, folder)
	}
	return n.openTraining(batch, seed, opts, folder)
}

// normal draws from the standard normal distribution.
func normal(rng *rand.Rand, shape ...int) graph.Tensor {
	t := graph.NewTensor(graph.Float32, shape...)
	for i := range t.F {
		t.F[i] = float32(rng.NormFloat64())
	}
	return t
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func writeTensors(path string, tensors map[string]graph.Tensor) error {
	return atomicfile.Write(path, func(w io.Writer) error { return safetensors.Write(w, tensors, nil) })
}

// training is a student's step: forward, backward and update, on one batch.
type training struct {
	step  runtime.Step
	store *graph.Store
	in    map[string]graph.Tensor
}

// openTraining takes the step as train builds it, with a recipe's default losses (0.1·CE + 0.9·KD at temperature 4) and
// optimizer (SGD, momentum 0.9, weight decay 5e-4).
func (n network) openTraining(batch int, seed uint64, opts runtime.Options, folder string) (workload, error) {
	r := train.NewRecipe()
	r.Batch, r.Optimizer.LR, r.Student = batch, learningRate, train.Student{Name: n.name, Arch: n.arch}
	p, err := r.Training(n.image, n.classes)
	if err != nil {
		return nil, err
	}
	t := &training{store: &graph.Store{}}
	if err := p.Fill(t.store, seed); err != nil {
		return nil, err
	}
	rng := newRand(seed)
	labels := graph.NewTensor(graph.Int64, batch)
	for i := range labels.I {
		labels.I[i] = rng.Int64N(int64(n.classes))
	}
	t.in = map[string]graph.Tensor{
		p.Inputs[0].Name:    normal(rng, p.Inputs[0].Shape...),
		losses.LabelsInput:  labels,
		losses.TeacherInput: normal(rng, batch, n.classes),
	}
	start := maps.Clone(t.in)
	for _, name := range t.store.Names(graph.Param, graph.State) {
		start[name], _ = t.store.Tensor(name)
		if t.store.Kind(name) == graph.Param {
			disturb(start[name], rng)
		}
	}
	if err := writeTensors(n.batchFile(folder), start); err != nil {
		return nil, err
	}
	t.step, err = runtime.Compile(p, t.store, runtime.ONNXRuntime, opts, nil)
	return t, err
}

// disturb moves weights away from where they start: zeros, as in the last layer of a transformer, would let no gradient pass.
func disturb(t graph.Tensor, rng *rand.Rand) {
	for i := range t.F {
		t.F[i] += 0.02 * float32(rng.NormFloat64())
	}
}

func (t *training) run() error {
	out, err := t.step.Run(t.in)
	if err != nil {
		return err
	}
	if loss := float64(out["loss"].F[0]); math.IsNaN(loss) || math.IsInf(loss, 0) {
		return fmt.Errorf("bench: run: the loss became %v, which may take another time", loss)
	}
	return nil
}

// first returns the momenta: after one step they are the gradients plus the decayed weights.
func (t *training) first() (map[string]graph.Tensor, error) {
	if err := t.run(); err != nil {
		return nil, err
	}
	momenta := map[string]graph.Tensor{}
	for _, name := range t.store.Names(graph.Moment) {
		m, _ := t.store.Tensor(name)
		momenta[name] = m.Clone()
	}
	return momenta, nil
}

func (t *training) close() error { return t.step.Close() }

// inference is a model that runs on one batch.
type inference struct {
	session *runtime.Session
	in      map[string]graph.Tensor
}

func (n network) openTeacher(batch int, seed uint64, opts runtime.Options, folder string) (workload, error) {
	model, err := os.ReadFile(n.modelFile(folder))
	if err != nil {
		return nil, err
	}
	images := normal(newRand(seed), slices.Concat([]int{batch}, n.image[:])...)
	if err := writeTensors(n.batchFile(folder), map[string]graph.Tensor{"images": images}); err != nil {
		return nil, err
	}
	s, err := specialized(model, images, opts)
	if err != nil {
		return nil, err
	}
	return inference{s, map[string]graph.Tensor{s.Inputs()[0].Name: images}}, nil
}

// specialized is the session that a teacher has in a training run.
func specialized(model []byte, images graph.Tensor, opts runtime.Options) (*runtime.Session, error) {
	first := opts
	first.Profile = ""
	plain, err := runtime.NewSession(model, first)
	if err != nil {
		return nil, err
	}
	s, form, err := runtime.Specialize(model, plain, images, opts)
	if err != nil || form != "" || opts.Profile == "" {
		return s, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return runtime.NewSession(model, opts)
}

func (i inference) run() error {
	_, err := i.session.Run(i.in)
	return err
}

func (i inference) first() (map[string]graph.Tensor, error) {
	out, err := i.session.Run(i.in)
	return map[string]graph.Tensor{"logits": out[i.session.Outputs()[0].Name]}, err
}

func (i inference) close() error { return i.session.Close() }

// productName stands for the workload that measures what the machine can do: one product of two square matrices.
const (
	productName = "product"
	productSize = 2048
)

func openProduct(opts runtime.Options) (workload, error) {
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		a := g.Input("a", graph.Float32, productSize, productSize)
		b := g.Input("b", graph.Float32, productSize, productSize)
		g.Output("ab", op.MatMul(a, b))
	})
	if err != nil {
		return nil, err
	}
	m, err := onnx.Lower(p, onnx.Lowering{})
	if err != nil {
		return nil, err
	}
	model, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	s, err := runtime.NewSession(model, opts)
	if err != nil {
		return nil, err
	}
	rng := newRand(1)
	return inference{s, map[string]graph.Tensor{
		"a": normal(rng, productSize, productSize), "b": normal(rng, productSize, productSize),
	}}, nil
}
