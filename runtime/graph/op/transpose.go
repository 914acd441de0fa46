package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// transpose permutes axes.
type transpose struct {
	smooth
	perm []int
}

// Transpose makes axis i of the result axis perm[i] of x.
func Transpose(x *G.Node, perm ...int) *G.Node { return graph.Apply(transpose{perm: perm}, x) }

func (transpose) Name() string { return "Transpose" }

func (t transpose) Infer(in []graph.Shape) []graph.Shape {
	arity("Transpose", in, 1)
	seen := slices.Sorted(slices.Values(t.perm))
	s := make(graph.Shape, len(t.perm))
	for i, p := range t.perm {
		if len(in[0]) != len(t.perm) || seen[i] != i {
			graph.Fail("Transpose", in, "%v is no permutation of the axes", t.perm)
		}
		s[i] = in[0][p]
	}
	return one(s)
}

func (t transpose) Eval(in []graph.Array) []graph.Array {
	y := graph.Zeros(t.Infer([]graph.Shape{in[0].Shape})[0])
	from := strides(in[0].Shape)
	st := make([]int, len(from))
	for i, p := range t.perm {
		st[i] = from[p]
	}
	walk(y.Shape, [][]int{st}, func(i int, at []int) { y.F[i] = in[0].F[at[0]] })
	return []graph.Array{y}
}

func (t transpose) Grad(_ []*G.Node, _, dy *G.Node) []*G.Node {
	back := make([]int, len(t.perm))
	for i, p := range t.perm {
		back[p] = i
	}
	return []*G.Node{Transpose(dy, back...)}
}

func (t transpose) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{emitTranspose(e, in[0], t.perm...).Name}
}

func emitTranspose(e graph.Emitter, x graph.Operand, perm ...int) graph.Operand {
	s := make(graph.Shape, len(perm))
	for i, p := range perm {
		s[i] = x.Shape[p]
	}
	return graph.Operand{Name: e.Emit("Transpose", s, []string{x.Name}, graph.Attr{Name: "perm", Value: perm}), Shape: s}
}

// liftTranspose reads a Transpose; without perm it reverses the axes.
func liftTranspose(n *Node) []*G.Node {
	perm := n.Ints("perm")
	if len(perm) == 0 {
		rank := len(graph.ShapeOf(n.X(0)))
		for i := range rank {
			perm = append(perm, rank-1-i)
		}
	}
	return []*G.Node{Transpose(n.X(0), perm...)}
}
