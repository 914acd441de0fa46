package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// picking takes elements along an axis by index.
type picking struct {
	smooth
	axis    int
	indices graph.Array // of integers, counted from the start
}

// Gather picks along an axis by constant indices, integers of any shape, which takes the axis' place in the result: an index
// of rank 0 drops it. Negative indices count from the end, a negative axis from the last.
func Gather(x *G.Node, axis int, indices graph.Array) *G.Node {
	s := graph.ShapeOf(x)
	o := picking{axis: axisOf("Gather", axis, s), indices: indices}
	o.indices.I = slices.Clone(indices.I)
	for i, at := range indices.I {
		if at < 0 {
			at += int64(s[o.axis])
		}
		if at < 0 || at >= int64(s[o.axis]) {
			graph.Fail("Gather", one(s), "there is no element %d on axis %d", indices.I[i], o.axis)
		}
		o.indices.I[i] = at
	}
	return graph.Apply(o, x)
}

// Index is element i along an axis, which is dropped: Index(x, 1, 0) is the class token of x [N,L,D].
func Index(x *G.Node, axis, i int) *G.Node {
	return Gather(x, axis, graph.Array{Shape: graph.Shape{}, I: []int64{int64(i)}})
}

func (picking) Name() string { return "Gather" }

func (o picking) Infer(in []graph.Shape) []graph.Shape {
	arity("Gather", in, 1)
	return one(slices.Concat(in[0][:o.axis], o.indices.Shape, in[0][o.axis+1:]))
}

func (o picking) Eval(in []graph.Array) []graph.Array {
	x := in[0]
	y := graph.Zeros(o.Infer([]graph.Shape{x.Shape})[0])
	n, inner := x.Shape[o.axis], x.Shape[o.axis+1:].Size()
	at := 0
	for outer := range x.Shape[:o.axis].Size() {
		for _, i := range o.indices.I {
			from := (outer*n + int(i)) * inner
			at += copy(y.F[at:], x.F[from:from+inner])
		}
	}
	return []graph.Array{y}
}

// maxPicks limits the matrix of zeros and ones that a gradient multiplies by: 256 MB.
const maxPicks = 1 << 26

// Grad puts a single element among zeros; of several, which may repeat, it sums each's by a product with the matrix of
// zeros and ones that says which index picked it.
func (o picking) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	s := graph.ShapeOf(in[0])
	n, k := s[o.axis], len(o.indices.I)
	if k == 1 {
		before, after := make([]int, len(s)), make([]int, len(s))
		before[o.axis] = int(o.indices.I[0])
		after[o.axis] = n - 1 - before[o.axis]
		single := s.Clone()
		single[o.axis] = 1
		return []*G.Node{Pad(Reshape(dy, single...), before, after)}
	}
	if k > maxPicks/max(n, 1) {
		graph.Fail("Gather", one(s), "%d indices into %d elements are too many to differentiate", k, n)
	}
	picked := graph.Zeros(graph.Shape{k, n})
	for j, i := range o.indices.I {
		picked.F[j*n+int(i)] = 1
	}
	rows := Reshape(dy, s[:o.axis].Size(), k, s[o.axis+1:].Size())
	return []*G.Node{Reshape(MatMulT(graph.Const(dy, picked), rows, true, false), s...)}
}

func (o picking) Lower(e graph.Emitter, in []graph.Operand) []string {
	indices := e.Const(graph.Ints(o.indices.I, o.indices.Shape...))
	return []string{e.Emit("Gather", o.Infer([]graph.Shape{in[0].Shape})[0], []string{in[0].Name, indices},
		graph.Attr{Name: "axis", Value: o.axis})}
}

// liftGather reads a Gather by constant indices.
func liftGather(n *Node) []*G.Node {
	if !n.Has(1) || n.In[1].Const == nil || n.In[1].Const.I == nil || n.depends(1) {
		n.fail("the indices must be constant, whatever the data and the batch size")
	}
	return []*G.Node{Gather(n.X(0), n.Int("axis", 0), *n.In[1].Const)}
}
