package graph

import (
	"fmt"
	"slices"
)

// Kind says what a stored tensor is for.
type Kind int

// The kinds of tensor in a Store.
const (
	Param  Kind = iota // trained by gradient: weights and biases
	State              // part of the model, not trained: running statistics
	Moment             // of the optimizer alone: momentum, second moments, step count
)

// String names the kind as checkpoints write it.
func (k Kind) String() string { return [...]string{"param", "state", "moment"}[k] }

// Store holds parameters and state by name. Programs compiled over one Store share the tensors whose names they share.
// The zero value is an empty store. It is not safe for concurrent use.
type Store struct {
	entries map[string]entry
}

type entry struct {
	kind   Kind
	tensor Tensor
}

// Set puts a tensor under a name, replacing any other; the store keeps the elements, it does not copy them.
func (s *Store) Set(name string, kind Kind, t Tensor) {
	if s.entries == nil {
		s.entries = map[string]entry{}
	}
	s.entries[name] = entry{kind, t}
}

// Tensor returns the tensor under name, sharing its elements, and whether there is one.
func (s *Store) Tensor(name string) (Tensor, bool) {
	e, ok := s.entries[name]
	return e.tensor, ok
}

// Kind returns the kind of the tensor under name; the zero Kind where there is none.
func (s *Store) Kind(name string) Kind { return s.entries[name].kind }

// Names lists what is stored, sorted; with kinds given, only those.
func (s *Store) Names(kinds ...Kind) []string {
	var names []string
	for name, e := range s.entries {
		if len(kinds) == 0 || slices.Contains(kinds, e.kind) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Clone copies the store and every element in it.
func (s *Store) Clone() *Store {
	c := &Store{}
	for name, e := range s.entries {
		c.Set(name, e.kind, e.tensor.Clone())
	}
	return c
}

// Replace puts new elements under a name that exists, with the shape and type it has.
func (s *Store) Replace(name string, t Tensor) error {
	e, ok := s.entries[name]
	if !ok {
		return fmt.Errorf("graph: the store has no %q", name)
	}
	if !e.tensor.Shape.Equal(t.Shape) || e.tensor.DType() != t.DType() {
		return fmt.Errorf("graph: %q is %v %v, not %v %v", name, e.tensor.DType(), e.tensor.Shape, t.DType(), t.Shape)
	}
	s.entries[name] = entry{e.kind, t}
	return nil
}
