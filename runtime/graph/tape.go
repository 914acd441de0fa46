package graph

import (
	"fmt"

	G "gorgonia.org/gorgonia"
)

// Tape runs a Program on Gorgonia's tape machine, in float64: the plain reference that the fast engine is tested
// against. It is many times slower. A Program runs on one Tape at a time.
type Tape struct {
	program *Program
	vm      G.VM
}

// NewTape prepares a Program.
func NewTape(p *Program) (t *Tape, err error) {
	// Gorgonia panics on graphs it cannot compile.
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("graph: compile for the tape machine: %v", r)
		}
	}()
	if _, err := p.Steps(); err != nil {
		return nil, err
	}
	return &Tape{p, G.NewTapeMachine(p.g)}, nil
}

// Eval runs once on arrays by name, stored tensors among them, and returns outputs and updates, each by name.
func (t *Tape) Eval(in map[string]Array) (outputs, updates map[string]Array, err error) {
	for _, l := range append(append([]Leaf(nil), t.program.Inputs...), t.program.Stored...) {
		a, ok := in[l.Name]
		if !ok && l.Knob {
			a, ok = Array{Shape: Shape{}, F: []float64{float64(l.Default)}}, true
		}
		if !ok {
			return nil, nil, fmt.Errorf("graph: no value for %s", l.Name)
		}
		if !a.Shape.Equal(l.Shape) {
			return nil, nil, fmt.Errorf("graph: %s is %v, not %v", l.Name, l.Shape, a.Shape)
		}
		if err := G.Let(l.Node, valueOf(a)); err != nil {
			return nil, nil, fmt.Errorf("graph: set %s: %w", l.Name, err)
		}
	}
	t.vm.Reset()
	if err := t.vm.RunAll(); err != nil {
		return nil, nil, fmt.Errorf("graph: run on the tape machine: %w", err)
	}
	if outputs, err = read(t.program.Outputs); err != nil {
		return nil, nil, err
	}
	updates, err = read(t.program.Updates)
	return outputs, updates, err
}

func read(nodes []Named) (map[string]Array, error) {
	arrays := make(map[string]Array, len(nodes))
	for _, n := range nodes {
		a, err := arrayOf(n.Node.Value())
		if err != nil {
			return nil, fmt.Errorf("graph: read %s: %w", n.Name, err)
		}
		arrays[n.Name] = a
	}
	return arrays, nil
}

// Run is Eval over a Store: it reads what is stored, and puts the updates back.
func (t *Tape) Run(in map[string]Tensor, s *Store) (map[string]Tensor, error) {
	arrays := make(map[string]Array, len(in)+len(t.program.Stored))
	for name, v := range in {
		arrays[name] = v.array()
	}
	for _, l := range t.program.Stored {
		v, ok := s.Tensor(l.Name)
		if !ok {
			return nil, fmt.Errorf("graph: the store has no %s", l.Name)
		}
		arrays[l.Name] = v.array()
	}
	outputs, updates, err := t.Eval(arrays)
	if err != nil {
		return nil, err
	}
	for name, a := range updates {
		if err := s.Replace(name, a.tensor()); err != nil {
			return nil, err
		}
	}
	tensors := make(map[string]Tensor, len(outputs))
	for name, a := range outputs {
		tensors[name] = a.tensor()
	}
	return tensors, nil
}

// Close frees the tape machine.
func (t *Tape) Close() error { return t.vm.Close() }
