package teacher

import (
	"fmt"
	"math/rand/v2"

	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// Tensor is a tensor inside a teacher that holds features of each image.
type Tensor struct {
	Name  string
	Op    string      // that gives it
	Shape graph.Shape // for one image, without the axis of the batch; rank 1 or more
}

// tried is how many images [Teacher.Tensors] runs where the file takes any number: all tensors are kept at once.
const tried = 2

// Tensors lists what can be tapped on the way to the logits, in the order of the file, the logits last: the tensors of float32
// whose first axis is the batch. Their shapes are those of a run on noise, in a session of its own on a number of threads; o are
// the options that the teacher was opened with.
func (t *Teacher) Tensors(o Options, threads int) ([]Tensor, error) {
	tensors, err := t.tensors(o, threads)
	if err != nil {
		return nil, fmt.Errorf("teacher: list the tensors of %s: %w", t.Path(), err)
	}
	return tensors, nil
}

func (t *Teacher) tensors(o Options, threads int) ([]Tensor, error) {
	file, err := onnx.Read(t.Path())
	if err != nil {
		return nil, err
	}
	if file, err = file.Only(t.source); err != nil {
		return nil, err
	}
	taps := file.Data() // a file computes with shapes, too
	names := make([]string, len(taps))
	for i, tap := range taps {
		names[i] = tap.Tensor
	}
	got, n, err := t.trace(file, names, o, threads)
	if err != nil {
		return nil, err
	}
	var tensors []Tensor
	for _, tap := range taps {
		v, ok := got[tap.Tensor]
		if ok && v.F != nil && len(v.Shape) > 1 && v.Shape[0] == n {
			tensors = append(tensors, Tensor{tap.Tensor, tap.Op, v.Shape[1:].Clone()})
		}
	}
	return tensors, nil
}

// trace runs the file on noise, in a session of its own, and gives the named tensors and what went in, for n images.
func (t *Teacher) trace(file *onnx.Model, names []string, o Options, threads int) (tensors map[string]graph.Tensor, n int, err error) {
	if file, err = file.WithOutputs(names...); err != nil {
		return nil, 0, err
	}
	b, err := file.Marshal()
	if err != nil {
		return nil, 0, err
	}
	session, err := runtime.NewSession(b, runtime.Options{Threads: threads, Provider: runtime.Provider{Name: o.Provider, Options: o.ProviderOptions}})
	if err != nil {
		return nil, 0, err
	}
	defer session.Close()
	n = tried
	if t.model.batch > 0 {
		n = t.model.batch
	} else if t.batch > 0 {
		n = min(n, t.batch)
	}
	in := t.input(n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range in.F {
		in.F[i] = float32(rng.NormFloat64())
	}
	if tensors, err = session.Run(map[string]graph.Tensor{t.model.input.Name: in}); err != nil {
		return nil, 0, t.explain(err)
	}
	tensors[t.model.input.Name] = in
	return tensors, n, nil
}

// MACs is the number of multiply-adds on the way to the logits of one image, as [onnx.Model.MACs] counts them, of shapes seen as
// in [Teacher.Tensors].
func (t *Teacher) MACs(o Options, threads int) (int64, error) {
	macs, err := t.macs(o, threads)
	if err != nil {
		return 0, fmt.Errorf("teacher: count multiply-adds of %s: %w", t.Path(), err)
	}
	return macs, nil
}

func (t *Teacher) macs(o Options, threads int) (int64, error) {
	file, err := onnx.Read(t.Path())
	if err != nil {
		return 0, err
	}
	if file, err = file.Only(t.source); err != nil {
		return 0, err
	}
	var names []string
	for _, tap := range file.Taps() {
		names = append(names, tap.Tensor)
	}
	got, n, err := t.trace(file, names, o, threads)
	if err != nil {
		return 0, err
	}
	shapes := make(map[string][]int, len(got))
	for name, v := range got {
		shapes[name] = v.Shape
	}
	macs, _, err := file.MACs(shapes)
	return macs / int64(n), err
}
