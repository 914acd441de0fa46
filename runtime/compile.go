package runtime

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sync/errgroup"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// Step is a compiled Program over a Store.
type Step interface {
	// Run feeds the inputs by name, computes once, puts the updates into the store and returns the outputs, which are
	// the caller's. Tensors of the store from before a Run may be written over by the Run after it.
	Run(in map[string]graph.Tensor) (map[string]graph.Tensor, error)
	// RunBeside is Run on Options.Beside threads, to the same bits, where Beside says so; else it is Run.
	RunBeside(in map[string]graph.Tensor) (map[string]graph.Tensor, error)
	// Beside reports whether there are fewer threads for RunBeside and they are known to come to the same bits: a first Run shows that.
	Beside() bool
	Close() error
}

// Engine names what runs a Program.
type Engine string

// The engines. Both compute the same; Gorgonia's is the plain reference.
const (
	ONNXRuntime Engine = "onnxruntime"
	Gorgonia    Engine = "gorgonia"
)

// Compile makes a Program ready to run on the store, which must hold all that it reads. ONNX Runtime gets one model of
// forward, backward and update; a target that is set replaces the one probed for this machine.
func Compile(p *graph.Program, s *graph.Store, e Engine, opts Options, target *graph.Target) (Step, error) {
	switch e {
	case Gorgonia:
		tape, err := graph.NewTape(p)
		if err != nil {
			return nil, err
		}
		return tapeStep{tape, s}, nil
	case ONNXRuntime:
		if target == nil {
			t, err := Probe(opts)
			if err != nil {
				return nil, err
			}
			target = &t
		}
		step, err := newORTStep(p, s, opts, *target)
		if err != nil {
			return nil, err // and no Step that holds a nil
		}
		return step, nil
	}
	return nil, fmt.Errorf("runtime: there is no engine %q, only %q and %q", e, ONNXRuntime, Gorgonia)
}

type tapeStep struct {
	tape  *graph.Tape
	store *graph.Store
}

func (t tapeStep) Run(in map[string]graph.Tensor) (map[string]graph.Tensor, error) {
	return t.tape.Run(in, t.store)
}

func (t tapeStep) RunBeside(in map[string]graph.Tensor) (map[string]graph.Tensor, error) {
	return t.Run(in)
}

func (t tapeStep) Beside() bool { return false }

func (t tapeStep) Close() error { return t.tape.Close() }

// ortStep runs a lowered Program. What it updates alternates between two buffers: the store's, which the run reads, and a
// spare one that it writes; then they change places.
type ortStep struct {
	program *graph.Program
	store   *graph.Store
	session *Session
	beside  *Session                // for RunBeside; nil: session has as few threads, or does not compute the same to the last bit
	proven  bool                    // that beside does
	spare   map[string]graph.Tensor // by stored name
	wrapped map[*float32]ort.Value  // of stored and spare tensors, by first element
	outputs []ort.Value             // of the program's outputs, reused
}

func newORTStep(p *graph.Program, s *graph.Store, opts Options, target graph.Target) (*ortStep, error) {
	m, err := onnx.Lower(p, onnx.Lowering{Target: target})
	if err != nil {
		return nil, err
	}
	if target.Half && opts.Provider.IsCPU() {
		m.RoundFloat16()
	}
	b, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	opts.DisableOptimization = opts.DisableOptimization || runsAsWritten(p, m)
	inputs, outputs := signature(p)
	o := &ortStep{program: p, store: s, spare: map[string]graph.Tensor{}, wrapped: map[*float32]ort.Value{}}
	var sessions errgroup.Group // each takes as long as the other
	open := func(to **Session, opts Options) {
		sessions.Go(func() (err error) {
			*to, err = openSession(b, inputs, outputs, nil, opts)
			return err
		})
	}
	open(&o.session, opts)
	if opts.Beside > 0 && opts.Beside < opts.threads() && opts.Provider.IsCPU() {
		opts.Threads = opts.Beside
		open(&o.beside, opts)
	}
	if err := sessions.Wait(); err != nil {
		o.Close()
		return nil, err
	}
	debug.FreeOSMemory() // what lowering took, before ONNX Runtime takes as much as it needs
	for _, u := range p.Updates {
		o.spare[u.Name] = graph.NewTensor(graph.Float32, graph.ShapeOf(u.Node)...)
	}
	for _, out := range p.Outputs {
		v, err := emptyValue(graph.ShapeOf(out.Node))
		if err != nil {
			o.Close()
			return nil, err
		}
		o.outputs = append(o.outputs, v)
	}
	return o, nil
}

// runsAsWritten reports whether ONNX Runtime's own passes over the graph are left out: in a training step in blocks they find little,
// and take twice as long as all else that a session needs. In inference they join more, as x·Sigmoid(x).
func runsAsWritten(p *graph.Program, m *onnx.Model) bool { return len(p.Updates) > 0 && m.InBlocks() }

// signature lists what a lowered Program takes and gives, in order.
func signature(p *graph.Program) (inputs, outputs []IO) {
	for _, l := range append(slices.Clone(p.Inputs), p.Stored...) {
		inputs = append(inputs, IO{Name: l.Name, DType: l.DType.String(), Shape: l.Shape})
	}
	for _, o := range p.Outputs {
		outputs = append(outputs, IO{Name: o.Name, DType: graph.Float32.String(), Shape: graph.ShapeOf(o.Node)})
	}
	for _, u := range p.Updates {
		outputs = append(outputs, IO{Name: u.Name + onnx.UpdateSuffix, DType: graph.Float32.String(), Shape: graph.ShapeOf(u.Node)})
	}
	return inputs, outputs
}

func emptyValue(s graph.Shape) (ort.Value, error) {
	if len(s) == 0 {
		return ort.NewEmptyScalar[float32]()
	}
	return wrap(graph.NewTensor(graph.Float32, s...))
}

// stored wraps a tensor of the store once.
func (o *ortStep) stored(t graph.Tensor) (ort.Value, error) {
	key := &t.F[0]
	if v, ok := o.wrapped[key]; ok {
		return v, nil
	}
	v, err := wrap(t)
	if err == nil {
		o.wrapped[key] = v
	}
	return v, err
}

func (o *ortStep) Run(in map[string]graph.Tensor) (map[string]graph.Tensor, error) {
	return o.run(in, false)
}

func (o *ortStep) RunBeside(in map[string]graph.Tensor) (map[string]graph.Tensor, error) {
	return o.run(in, true)
}

func (o *ortStep) Beside() bool { return o.beside != nil && o.proven }

func (o *ortStep) run(in map[string]graph.Tensor, beside bool) (map[string]graph.Tensor, error) {
	var own []ort.Value // made for this run alone
	defer func() { destroy(own) }()
	var feed []ort.Value
	for _, l := range o.program.Inputs {
		t, ok := in[l.Name]
		if !ok && l.Knob {
			t, ok = graph.Scalar(l.Default), true
		}
		if !ok || !t.Shape.Equal(l.Shape) || t.DType() != l.DType {
			return nil, fmt.Errorf("runtime: run: input %s is %v %v, the program takes %v %v", l.Name, t.DType(), t.Shape, l.DType, l.Shape)
		}
		v, err := wrap(t)
		if err != nil {
			return nil, fmt.Errorf("runtime: run: input %s: %w", l.Name, err)
		}
		own, feed = append(own, v), append(feed, v)
	}
	for _, l := range o.program.Stored {
		t, ok := o.store.Tensor(l.Name)
		if !ok || !t.Shape.Equal(l.Shape) {
			return nil, fmt.Errorf("runtime: run: the store has no %s of shape %v", l.Name, l.Shape)
		}
		v, err := o.stored(t)
		if err != nil {
			return nil, fmt.Errorf("runtime: run: stored %s: %w", l.Name, err)
		}
		feed = append(feed, v)
	}
	fetch := append([]ort.Value(nil), o.outputs...)
	for _, u := range o.program.Updates {
		v, err := o.stored(o.spare[u.Name])
		if err != nil {
			return nil, fmt.Errorf("runtime: run: update %s: %w", u.Name, err)
		}
		fetch = append(fetch, v)
	}
	if err := o.compute(feed, fetch, beside); err != nil {
		return nil, fmt.Errorf("runtime: run: %w", err)
	}
	return o.take(fetch)
}

func (o *ortStep) compute(feed, fetch []ort.Value, beside bool) error {
	if o.beside != nil && !o.proven {
		if err := o.prove(feed, fetch); err != nil {
			return err
		}
	}
	if o.beside != nil && beside {
		return o.beside.run(feed, fetch)
	}
	return o.session.run(feed, fetch)
}

// prove computes with both sessions, and keeps the one beside only if it comes to the same bits: an operator may cut its sums by the
// number of threads, but then it does so whatever the numbers are. They must be numbers: parameters are moved away from where they
// start, for zeros, as in the last layer of a transformer, would let no gradient pass.
func (o *ortStep) prove(feed, fetch []ort.Value) error {
	feed = slices.Clone(feed)
	var own []ort.Value
	defer func() { destroy(own) }()
	rng := rand.New(rand.NewPCG(1, 1))
	for i, l := range o.program.Stored {
		if l.Kind != graph.Param {
			continue
		}
		t, _ := o.store.Tensor(l.Name)
		t = t.Clone()
		for j := range t.F {
			t.F[j] += 0.02 * float32(rng.NormFloat64())
		}
		v, err := wrap(t)
		if err != nil {
			return err
		}
		own = append(own, v)
		feed[len(o.program.Inputs)+i] = v
	}
	var sums [2][sha256.Size]byte
	for i, s := range []*Session{o.beside, o.session} {
		err := s.run(feed, fetch)
		if err == nil {
			sums[i], err = digest(fetch)
		}
		if err != nil {
			return err
		}
	}
	if o.proven = sums[0] == sums[1]; o.proven {
		return nil
	}
	err := o.beside.Close()
	o.beside = nil
	return err
}

// digest is the SHA-256 of float32 values' elements.
func digest(values []ort.Value) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, v := range values {
		t, err := unwrap(v)
		if err != nil {
			return sum, err
		}
		binary.Write(h, binary.LittleEndian, t.F) // to a hash that never fails
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// take copies the outputs and exchanges what was updated with the store.
func (o *ortStep) take(fetch []ort.Value) (map[string]graph.Tensor, error) {
	outputs := make(map[string]graph.Tensor, len(o.outputs))
	for i, out := range o.program.Outputs {
		t, err := unwrap(fetch[i])
		if err != nil {
			return nil, fmt.Errorf("runtime: run: output %s: %w", out.Name, err)
		}
		outputs[out.Name] = t.Clone()
	}
	for _, u := range o.program.Updates {
		next := o.spare[u.Name]
		old, _ := o.store.Tensor(u.Name)
		if err := o.store.Replace(u.Name, next); err != nil {
			return nil, err
		}
		o.spare[u.Name] = old
	}
	return outputs, nil
}

func (o *ortStep) Close() error {
	for _, v := range o.wrapped {
		v.Destroy()
	}
	destroy(o.outputs)
	o.wrapped, o.outputs = nil, nil
	var errs []error
	for _, s := range []*Session{o.session, o.beside} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
