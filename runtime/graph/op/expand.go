package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// expand stretches sizes of 1.
type expand struct {
	smooth
	to graph.Shape
}

// Expand stretches x to a shape by broadcasting; x itself where it has that shape.
func Expand(x *G.Node, to graph.Shape) *G.Node {
	if graph.ShapeOf(x).Equal(to) {
		return x
	}
	return graph.Apply(expand{to: to.Clone()}, x)
}

func (expand) Name() string { return "Expand" }

func (o expand) Infer(in []graph.Shape) []graph.Shape {
	arity("Expand", in, 1)
	if s, ok := broadcast(in[0], o.to); !ok || !s.Equal(o.to) {
		graph.Fail("Expand", in, "does not stretch to %v", o.to)
	}
	return one(o.to)
}

func (o expand) Eval(in []graph.Array) []graph.Array {
	y := graph.Zeros(o.to)
	walk(o.to, [][]int{stretched(in[0].Shape, o.to)}, func(i int, at []int) { y.F[i] = in[0].F[at[0]] })
	return []graph.Array{y}
}

func (expand) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{sumTo(dy, graph.ShapeOf(in[0]))}
}

// manyPlaces are too many for a constant of ones: 256 KB.
const manyPlaces = 1 << 16

// Lower writes, for ONNX Runtime, the same number at all places of an image as a product with ones: its Expand takes each of these
// by itself, on one thread.
func (o expand) Lower(e graph.Emitter, in []graph.Operand) []string {
	if p := places(in[0].Shape, o.to); p > 1 && p <= manyPlaces && e.Target().Fused {
		return []string{emitOverPlaces(e, in[0], o.to)}
	}
	to := o.to.Clone()
	for i, d := range in[0].Shape { // what stays as it is may be the batch, which 1 leaves open
		if at := i + len(to) - len(in[0].Shape); to[at] == d {
			to[at] = 1
		}
	}
	return []string{e.Emit("Expand", o.to, []string{in[0].Name, graph.ConstInts(e, to...)})}
}

// places is how often each number of a tensor of shape s lies in one of shape to where all its last axes, of 1, are stretched and no
// others; 0 where that is not how they differ, or s is one number.
func places(s, to graph.Shape) int {
	n := len(s)
	for n > 0 && s[n-1] == 1 {
		n--
	}
	if n == 0 || len(s) != len(to) || !s[:n].Equal(to[:n]) {
		return 0
	}
	return to[n:].Size()
}

// emitOverPlaces stretches x over its last axes: a column times a row of ones.
func emitOverPlaces(e graph.Emitter, x graph.Operand, to graph.Shape) string {
	rows, n := x.Shape.Size(), places(x.Shape, to)
	column := emitReshape(e, x.Name, graph.Shape{rows, 1}, nil)
	return emitReshape(e, e.Emit("MatMul", graph.Shape{rows, n}, []string{column, onesRow(e, n)}), to, nil)
}

// expandBatch repeats its first input along the first axis, as often as its second input is long there.
type expandBatch struct{}

// ExpandBatch repeats x [1,…] along its first axis, to the first size of like; no gradient flows to like. Other than Expand
// it can be exported for any batch size.
func ExpandBatch(x, like *G.Node) *G.Node { return graph.Apply(expandBatch{}, x, like) }

func (expandBatch) Name() string   { return "ExpandBatch" }
func (expandBatch) Wrt(i int) bool { return i == 0 }

func (expandBatch) Infer(in []graph.Shape) []graph.Shape {
	arity("ExpandBatch", in, 2)
	if len(in[0]) < 1 || len(in[1]) < 1 || in[0][0] != 1 {
		graph.Fail("ExpandBatch", in, "needs [1,…] and a tensor of rank 1 or more")
	}
	s := in[0].Clone()
	s[0] = in[1][0]
	return one(s)
}

func (o expandBatch) Eval(in []graph.Array) []graph.Array {
	return expand{to: o.Infer([]graph.Shape{in[0].Shape, in[1].Shape})[0]}.Eval(in[:1])
}

func (expandBatch) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{sumTo(dy, graph.ShapeOf(in[0])), nil}
}

// Lower reads the batch size from like, so that the exported model holds none.
func (o expandBatch) Lower(e graph.Emitter, in []graph.Operand) []string {
	x, like := in[0], in[1]
	size := e.Emit("Shape", graph.Shape{len(like.Shape)}, []string{like.Name})
	batch := emitSlice(e, graph.Operand{Name: size, Shape: graph.Shape{len(like.Shape)}}, Range{To: 1})
	to := emitConcat(e, 0, graph.Shape{len(x.Shape)}, []string{batch.Name, graph.ConstInts(e, x.Shape[1:]...)})
	return []string{e.Emit("Expand", o.Infer([]graph.Shape{x.Shape, like.Shape})[0], []string{x.Name, to})}
}

// liftExpand broadcasts both ways, as ONNX does: a size of 1 in the shape keeps the input's.
func liftExpand(n *Node) []*G.Node {
	x := n.X(0)
	to, ok := broadcast(graph.ShapeOf(x), graph.Shape(n.IntsIn(1)))
	if !ok {
		n.fail("does not stretch to %v", n.IntsIn(1))
	}
	if slices.Contains(n.In[1].Free, true) {
		s := graph.ShapeOf(x)
		free := n.In[1].Free
		fits := len(free) == len(to) && len(s) == len(to) && (s[0] == 1 || s[0] == to[0])
		if n.Like == nil || !fits || slices.Contains(free[1:], true) {
			n.fail("stretches to %v, which depends on the batch size beyond its first axis", to)
		}
		if s[0] == 1 {
			return []*G.Node{ExpandBatch(Expand(x, append(graph.Shape{1}, to[1:]...)), n.Like)}
		}
	}
	return []*G.Node{Expand(x, to)}
}
