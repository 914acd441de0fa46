package op

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Node is a node of an ONNX model that is being lifted: what its operator is applied to, and its attributes. Shapes are
// known and constants are folded by then. Its methods fail, as graph code does, by [graph.Fail].
type Node struct {
	Op    string
	Opset int // of the default domain
	In    []Input
	Attrs map[string]any // int, float64, string, []int, []float64 or graph.Array
	Graph *graph.Graph   // that it is lifted into
	Like  *G.Node        // a tensor whose first size is the batch; nil where it does not matter
	Other graph.Shape    // of the first result at another batch size; nil where that is not known
}

// Input is an input of a Node: a tensor of the graph, a constant, or, where both are nil, absent.
type Input struct {
	Tensor *G.Node
	Const  *graph.Array
	Name   string // of a stored tensor
	Frozen bool   // whether that is not to change in training
	// Free says of each element of an integer constant whether it depends on the batch size; nil: none does.
	Free []bool
	// Sized says that the shape of the constant depends on the batch size.
	Sized bool
}

// Has reports whether input i is given.
func (n *Node) Has(i int) bool {
	return i < len(n.In) && (n.In[i].Tensor != nil || n.In[i].Const != nil)
}

// X is input i as a tensor of the graph.
func (n *Node) X(i int) *G.Node {
	if !n.Has(i) {
		n.fail("input %d is missing", i)
	}
	in := n.In[i]
	if in.Tensor != nil {
		return in.Tensor
	}
	if in.Sized || in.Free != nil {
		n.fail("input %d is a constant that depends on the batch size", i)
	}
	return n.Graph.Const(*in.Const)
}

// Optional is X, or nil where the input is absent.
func (n *Node) Optional(i int) *G.Node {
	if !n.Has(i) {
		return nil
	}
	return n.X(i)
}

// IntsIn is input i, a constant of integers; it fails on one that is computed.
func (n *Node) IntsIn(i int) []int {
	if !n.Has(i) || n.In[i].Const == nil || n.In[i].Const.I == nil {
		n.fail("input %d must be integers that do not depend on the data", i)
	}
	ints := make([]int, len(n.In[i].Const.I))
	for k, v := range n.In[i].Const.I {
		ints[k] = int(v)
	}
	return ints
}

// ScalarIn is input i, a constant number; otherwise where it is absent.
func (n *Node) ScalarIn(i int, otherwise float64) float64 {
	if !n.Has(i) {
		return otherwise
	}
	c := n.In[i].Const
	if c == nil || c.Shape.Size() != 1 {
		n.fail("input %d must be a constant number", i)
	}
	if c.I != nil {
		return float64(c.I[0])
	}
	return c.F[0]
}

// Int is an integer attribute.
func (n *Node) Int(name string, otherwise int) int { return attr(n, name, otherwise) }

// Float is a number attribute.
func (n *Node) Float(name string, otherwise float64) float64 { return attr(n, name, otherwise) }

// String is a text attribute.
func (n *Node) String(name, otherwise string) string { return attr(n, name, otherwise) }

// Ints is an attribute that lists integers.
func (n *Node) Ints(name string, otherwise ...int) []int { return attr(n, name, otherwise) }

// Axes are the axes that an attribute, or since some opset input i, lists; nil where neither does.
func (n *Node) Axes(i int) []int {
	if n.Has(i) {
		return n.IntsIn(i)
	}
	return n.Ints("axes")
}

func attr[T any](n *Node, name string, otherwise T) T {
	v, ok := n.Attrs[name]
	if !ok {
		return otherwise
	}
	t, ok := v.(T)
	if !ok {
		n.fail("attribute %s is a %T", name, v)
	}
	return t
}

// fail refuses the node.
func (n *Node) fail(format string, args ...any) {
	var shapes []graph.Shape
	for _, in := range n.In {
		switch {
		case in.Tensor != nil:
			shapes = append(shapes, graph.ShapeOf(in.Tensor))
		case in.Const != nil:
			shapes = append(shapes, in.Const.Shape)
		}
	}
	graph.Fail(n.Op, shapes, "%s", fmt.Sprintf(format, args...))
}

// Lift applies a node's operator by its row in Table.
func Lift(n *Node) []*G.Node {
	for _, row := range Table {
		if row.Name == n.Op && row.Lift != nil {
			return row.Lift(n)
		}
	}
	graph.Fail(n.Op, nil, "the operator cannot be trained")
	return nil
}

// lift1 lifts an operator of one tensor without attributes.
func lift1(f func(x *G.Node) *G.Node) func(n *Node) []*G.Node {
	return func(n *Node) []*G.Node { return []*G.Node{f(n.X(0))} }
}

// lift2 lifts an operator of two tensors without attributes.
func lift2(f func(a, b *G.Node) *G.Node) func(n *Node) []*G.Node {
	return func(n *Node) []*G.Node { return []*G.Node{f(n.X(0), n.X(1))} }
}

func liftReduce(f func(x *G.Node, axes []int, keep bool) *G.Node) func(n *Node) []*G.Node {
	return func(n *Node) []*G.Node {
		axes := n.Axes(1)
		if len(axes) == 0 && n.Int("noop_with_empty_axes", 0) == 1 { // of each element alone: its square, its logarithm, …
			each := Unsqueeze(n.X(0), len(graph.ShapeOf(n.X(0))))
			return []*G.Node{f(each, []int{-1}, false)}
		}
		return []*G.Node{f(n.X(0), axes, n.Int("keepdims", 1) == 1)}
	}
}
