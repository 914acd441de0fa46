// Package graph describes computations: a Program of operators on named inputs, parameters and state, built as a
// Gorgonia expression graph that Gorgonia differentiates and package runtime runs.
//
//	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
//		x := g.Input("x", graph.Float32, 64, 10)
//		w := g.Param("w", graph.Shape{10, 1}, graph.Constant(0))
//		loss := op.ReduceMean(op.MatMul(x, w), nil, false)
//		for _, d := range g.Grad(loss) {
//			g.Update(d.Name, op.Sub(d.Param, d.Grad))
//		}
//		g.Output("loss", loss)
//	})
package graph

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	G "gorgonia.org/gorgonia"
)

// Mode says what a network is built for; layers such as batch norm differ by it.
type Mode int

// The modes of building a network.
const (
	Inference Mode = iota
	Training
)

// Init fills a new parameter's elements. rng depends on the seed and the parameter's name alone.
type Init func(values []float32, shape Shape, rng *rand.Rand)

// Constant fills with one value.
func Constant(v float32) Init {
	return func(values []float32, _ Shape, _ *rand.Rand) {
		for i := range values {
			values[i] = v
		}
	}
}

// Leaf is a named value that a Program reads: an input of each run or an entry of the Store.
type Leaf struct {
	Name    string
	DType   DType
	Shape   Shape
	Kind    Kind    // of a stored tensor
	Init    Init    // of a stored tensor
	Knob    bool    // an input of rank 0 with a default
	Default float32 // of a knob
	Keep    float64 // of a mask: the probability of an element that is not 0; 0 for what is no mask
	Node    *G.Node
}

// Named is a node under a name.
type Named struct {
	Name string
	Node *G.Node
}

// Graph is a Program while it is being described.
type Graph struct {
	Mode    Mode
	g       *G.ExprGraph
	inputs  []Leaf
	stored  []Leaf
	outputs []Named
	updates []Named
	names   map[string]bool
	idle    []*G.Node
	cost    *G.Node // once it is differentiated
}

// Program is a closed computation. Running it reads the inputs and the stored tensors, gives the outputs, and puts the
// value of each update back into the store.
type Program struct {
	Inputs  []Leaf
	Stored  []Leaf
	Outputs []Named
	Updates []Named
	g       *G.ExprGraph
	cost    *G.Node // what was differentiated; nil if nothing was
}

// Build describes a Program. A mistake in the description, such as shapes that do not fit, is returned as an *Error.
func Build(mode Mode, describe func(g *Graph)) (p *Program, err error) {
	g := &Graph{Mode: mode, g: G.NewGraph(), names: map[string]bool{}}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			p, err = nil, e
		}
	}()
	describe(g)
	if len(g.outputs)+len(g.updates) == 0 {
		return nil, errors.New("graph: a program needs an output or an update")
	}
	return &Program{Inputs: g.inputs, Stored: g.stored, Outputs: g.outputs, Updates: g.updates, g: g.g, cost: g.cost}, nil
}

func (g *Graph) leaf(l Leaf) Leaf {
	if g.names[l.Name] {
		Fail(l.Name, nil, "the name is used twice")
	}
	g.names[l.Name] = true
	l.Node = newLeaf(g.g, l.Name, l.DType, l.Shape)
	return l
}

func newLeaf(g *G.ExprGraph, name string, t DType, s Shape, opts ...G.NodeConsOpt) *G.Node {
	notEmpty(name, nil, s)
	opts = append([]G.NodeConsOpt{G.In(g), G.WithName(name), G.WithType(nodeType(t, s)), G.WithShape(s...)}, opts...)
	return G.NewUniqueNode(opts...)
}

// Input is a value given anew to each run.
func (g *Graph) Input(name string, t DType, shape ...int) *G.Node {
	l := g.leaf(Leaf{Name: name, DType: t, Shape: Shape(shape).Clone()})
	g.inputs = append(g.inputs, l)
	return l.Node
}

// Shared is Input for a value that several parts of a program read: asking for it again, in the same shape, gives the same node.
func (g *Graph) Shared(name string, t DType, shape ...int) *G.Node {
	for _, l := range g.inputs {
		if l.Name == name && l.DType == t && l.Shape.Equal(shape) {
			return l.Node
		}
	}
	return g.Input(name, t, shape...)
}

// Knob is an input of rank 0 that may differ from step to step (a learning rate, a temperature); a run that does not
// give it uses the default. Asking for a knob again gives the same node.
func (g *Graph) Knob(name string, value float32) *G.Node {
	for _, l := range g.inputs {
		if l.Name == name && l.Knob {
			return l.Node
		}
	}
	l := g.leaf(Leaf{Name: name, Shape: Shape{}, Knob: true, Default: value})
	g.inputs = append(g.inputs, l)
	return l.Node
}

// Mask is an input that whoever trains draws anew for each step: an element is 1/keep with probability keep, 0 < keep < 1,
// else 0. Multiplied by it, a tensor keeps its mean: dropout (Srivastava et al. 2014).
func (g *Graph) Mask(name string, keep float64, shape ...int) *G.Node {
	if !(keep > 0 && keep < 1) {
		Fail(name, nil, "a mask keeps a share between 0 and 1, not %v", keep)
	}
	l := g.leaf(Leaf{Name: name, Shape: Shape(shape).Clone(), Keep: keep})
	g.inputs = append(g.inputs, l)
	return l.Node
}

// Param is a tensor of the Store that is trained.
func (g *Graph) Param(name string, shape Shape, init Init) *G.Node {
	return g.store(name, Param, shape, init)
}

// State is a tensor of the Store that is kept from run to run but not trained: a running statistic, a moment.
func (g *Graph) State(name string, kind Kind, shape Shape, init Init) *G.Node {
	return g.store(name, kind, shape, init)
}

func (g *Graph) store(name string, kind Kind, shape Shape, init Init) *G.Node {
	if len(shape) == 0 {
		Fail(name, nil, "a stored tensor has rank 1 or more")
	}
	l := g.leaf(Leaf{Name: name, Kind: kind, Shape: shape.Clone(), Init: init})
	g.stored = append(g.stored, l)
	return l.Node
}

// Const is a constant node of the graph that like belongs to.
func Const(like *G.Node, a Array) *G.Node { return constantIn(like.Graph(), a) }

// Const is a constant node.
func (g *Graph) Const(a Array) *G.Node { return constantIn(g.g, a) }

func constantIn(g *G.ExprGraph, a Array) *G.Node {
	t := Float32
	if a.I != nil {
		t = Int64
	}
	name := fmt.Sprintf("const_%d", len(g.AllNodes()))
	return newLeaf(g, name, t, a.Shape, G.WithValue(valueOf(a)))
}

// Output names a node's value as a result of each run.
func (g *Graph) Output(name string, n *G.Node) {
	for _, o := range g.outputs {
		if o.Name == name {
			Fail(name, nil, "the output is named twice")
		}
	}
	g.outputs = append(g.outputs, Named{name, n})
}

// Update makes each run put the node's value into the Store under the name of a Param or State of this program.
func (g *Graph) Update(name string, n *G.Node) {
	for _, l := range g.stored {
		if l.Name != name {
			continue
		}
		if s := ShapeOf(n); !s.Equal(l.Shape) {
			Fail(name, []Shape{l.Shape, s}, "an update keeps the shape")
		}
		g.updates = append(g.updates, Named{name, n})
		return
	}
	Fail(name, nil, "there is no stored tensor of that name to update")
}

// Gradient is the derivative of a cost with respect to a parameter.
type Gradient struct {
	Name  string
	Param *G.Node
	Grad  *G.Node
}

// Idle lets what n is made of have no part in the cost: Grad then leaves out the parameters that are not reached.
func (g *Graph) Idle(n *G.Node) { g.idle = append(g.idle, n) }

// Grad differentiates a scalar with respect to every Param so far, in order of declaration; each must have a part in it,
// unless it makes what Idle names. A graph can be differentiated once.
func (g *Graph) Grad(cost *G.Node) []Gradient {
	var params []Leaf
	reached := map[*G.Node]bool{}
	for _, n := range sorted(g.g, []*G.Node{cost}) {
		reached[n] = true
	}
	idle := map[*G.Node]bool{}
	for _, n := range sorted(g.g, g.idle) {
		idle[n] = true
	}
	for _, l := range g.stored {
		if l.Kind != Param || idle[l.Node] && !reached[l.Node] {
			continue
		}
		if !reached[l.Node] {
			Fail("Grad", nil, "parameter %s has no part in the cost", l.Name)
		}
		params = append(params, l)
	}
	if len(params) == 0 {
		Fail("Grad", nil, "there is no parameter to train: all are frozen")
	}
	return g.grad(cost, params)
}

// GradInput differentiates a scalar with respect to an input, as for the gradient check of an operator.
func (g *Graph) GradInput(cost *G.Node, inputs ...*G.Node) []Gradient {
	leaves := make([]Leaf, len(inputs))
	for i, n := range inputs {
		leaves[i] = Leaf{Name: n.Name(), Node: n}
	}
	return g.grad(cost, leaves)
}

func (g *Graph) grad(cost *G.Node, wrt []Leaf) []Gradient {
	if g.cost != nil {
		Fail("Grad", nil, "a graph can be differentiated once")
	}
	if s := ShapeOf(cost); len(s) != 0 {
		Fail("Grad", []Shape{s}, "the cost must be a scalar")
	}
	g.cost = cost
	nodes := make([]*G.Node, len(wrt))
	for i, l := range wrt {
		nodes[i] = l.Node
	}
	derivs, err := G.Grad(cost, nodes...)
	if err != nil {
		Fail("Grad", nil, "%v", err)
	}
	grads := make([]Gradient, len(wrt))
	for i, l := range wrt {
		grads[i] = Gradient{l.Name, l.Node, derivs[i]}
	}
	return grads
}

// Draw fills a tensor for a mask. Its values depend on the seed, the mask's name and the step alone.
func (l Leaf) Draw(seed uint64, step int) Tensor {
	h := fnv.New64a()
	h.Write([]byte(l.Name))
	rng := rand.New(rand.NewPCG(seed^h.Sum64(), uint64(step)))
	t := NewTensor(Float32, l.Shape...)
	for i := range t.F {
		if rng.Float64() < l.Keep {
			t.F[i] = float32(1 / l.Keep)
		}
	}
	return t
}

// Fill creates in the store what the program reads and the store lacks. Values depend on the seed and each tensor's
// name alone. A tensor that is there with another shape is an error.
func (p *Program) Fill(s *Store, seed uint64) error {
	for _, l := range p.Stored {
		if t, ok := s.Tensor(l.Name); ok {
			if !t.Shape.Equal(l.Shape) {
				return fmt.Errorf("graph: stored %s is %v, the program needs %v", l.Name, t.Shape, l.Shape)
			}
			continue
		}
		h := fnv.New64a()
		h.Write([]byte(l.Name))
		t := NewTensor(Float32, l.Shape...)
		l.Init(t.F, l.Shape, rand.New(rand.NewPCG(seed, h.Sum64())))
		s.Set(l.Name, l.Kind, t)
	}
	return nil
}
