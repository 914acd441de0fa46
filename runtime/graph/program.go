package graph

import (
	"fmt"
	"strings"

	G "gorgonia.org/gorgonia"
)

// Step is one operator of a Program in an order in which each comes after what it reads.
type Step struct {
	Node   *G.Node
	Op     Op // nil for the two foreign nodes Gorgonia's Grad leaves: see Sum and Value
	Inputs []*G.Node
	Shapes []Shape // of the outputs

	Sum   bool    // Gorgonia's own addition of gradients, of two inputs of one shape
	Value *Tensor // a constant
	Of    *G.Node // a selector: output Index of this node
	Index int
}

// Steps lists what the outputs and updates need, leaves that are inputs or stored left out. It fails on a Gorgonia
// operator that is not ours, but for the addition and the constant that Grad adds.
func (p *Program) Steps() ([]Step, error) {
	var roots []*G.Node
	for _, o := range p.Outputs {
		roots = append(roots, o.Node)
	}
	for _, u := range p.Updates {
		roots = append(roots, u.Node)
	}
	leaves := map[*G.Node]bool{}
	for _, l := range p.Inputs {
		leaves[l.Node] = true
	}
	for _, l := range p.Stored {
		leaves[l.Node] = true
	}
	var steps []Step
	for _, n := range sorted(p.g, roots) {
		if leaves[n] {
			continue
		}
		s := Step{Node: n, Inputs: children(p.g, n), Shapes: []Shape{ShapeOf(n)}}
		switch op := n.Op().(type) {
		case *apply:
			s.Op, s.Shapes = op.op, op.outputs
			if sel, ok := op.op.(selector); ok {
				s.Of, s.Index = s.Inputs[0], sel.index
			}
		case nil:
			t, err := constant(n)
			if err != nil {
				return nil, err
			}
			s.Value = &t
		default:
			if len(s.Inputs) == 0 && n.Value() != nil {
				t, err := constant(n)
				if err != nil {
					return nil, err
				}
				s.Value = &t
				break
			}
			if len(s.Inputs) != 2 || !strings.HasPrefix(fmt.Sprint(op), "+") {
				return nil, fmt.Errorf("graph: Gorgonia's own operator %v cannot be run", op)
			}
			s.Sum = true
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// Forward are the nodes that the cost which was differentiated is made of, itself included; none where nothing was.
func (p *Program) Forward() map[*G.Node]bool {
	made := map[*G.Node]bool{}
	if p.cost != nil {
		for _, n := range sorted(p.g, []*G.Node{p.cost}) {
			made[n] = true
		}
	}
	return made
}

func constant(n *G.Node) (Tensor, error) {
	if n.Value() == nil {
		return Tensor{}, fmt.Errorf("graph: node %s has no value", n.Name())
	}
	a, err := arrayOf(n.Value())
	if err != nil {
		return Tensor{}, err
	}
	return a.tensor(), nil
}

func (a Array) tensor() Tensor {
	if a.I != nil {
		return Tensor{Shape: a.Shape, I: a.I}
	}
	t := NewTensor(Float32, a.Shape...)
	for i, v := range a.F {
		t.F[i] = float32(v)
	}
	return t
}

func (t Tensor) array() Array {
	if t.I != nil {
		return Array{Shape: t.Shape, I: t.I}
	}
	a := Zeros(t.Shape)
	for i, v := range t.F {
		a.F[i] = float64(v)
	}
	return a
}

// children are a node's inputs in order, duplicates kept.
func children(g *G.ExprGraph, n *G.Node) []*G.Node {
	if a, ok := n.Op().(*apply); ok {
		return a.inputs
	}
	var nodes []*G.Node
	for it := g.From(n.ID()); it.Next(); {
		nodes = append(nodes, it.Node().(*G.Node))
	}
	return nodes
}

// sorted lists what the roots are made of, inputs before what reads them, in an order that depends on the graph alone.
func sorted(g *G.ExprGraph, roots []*G.Node) []*G.Node {
	type visit struct {
		node *G.Node
		open bool // its inputs are on the stack above it
	}
	var order []*G.Node
	done := map[*G.Node]bool{}
	var stack []visit
	for _, root := range roots {
		stack = append(stack, visit{node: root})
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			switch {
			case done[v.node]:
			case v.open:
				done[v.node] = true
				order = append(order, v.node)
			default:
				stack = append(stack, visit{v.node, true})
				in := children(g, v.node)
				for i := len(in) - 1; i >= 0; i-- {
					stack = append(stack, visit{node: in[i]})
				}
			}
		}
	}
	return order
}
