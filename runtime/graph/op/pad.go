package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// pad surrounds with zeros.
type pad struct {
	smooth
	before, after []int
}

// Pad puts before[i] and after[i] zeros around axis i.
func Pad(x *G.Node, before, after []int) *G.Node {
	return graph.Apply(pad{before: before, after: after}, x)
}

func (pad) Name() string { return "Pad" }

func (p pad) Infer(in []graph.Shape) []graph.Shape {
	arity("Pad", in, 1)
	if len(p.before) != len(in[0]) || len(p.after) != len(in[0]) {
		graph.Fail("Pad", in, "needs one pad before and after each axis")
	}
	s := in[0].Clone()
	for i := range s {
		if p.before[i] < 0 || p.after[i] < 0 {
			graph.Fail("Pad", in, "pads must not be negative")
		}
		s[i] += p.before[i] + p.after[i]
	}
	return one(s)
}

// inner is the slice that Pad is the gradient of.
func (p pad) inner(in graph.Shape) slice {
	var o slice
	for i, n := range in {
		if p.before[i]+p.after[i] > 0 {
			o.ranges = append(o.ranges, Range{Axis: i, From: p.before[i], To: p.before[i] + n, Step: 1})
		}
	}
	return o
}

func (p pad) Eval(in []graph.Array) []graph.Array {
	whole := p.Infer([]graph.Shape{in[0].Shape})[0]
	return sliceGrad{p.inner(in[0].Shape), whole}.Eval(in)
}

func (p pad) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{graph.Apply(p.inner(graph.ShapeOf(in[0])), dy)}
}

func (p pad) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{emitPad(e, in[0], p.before, p.after).Name}
}

// emitPad pads by zeros and crops where a pad is negative; it is x itself where nothing changes.
func emitPad(e graph.Emitter, x graph.Operand, before, after []int) graph.Operand {
	s := x.Shape.Clone()
	same := true
	for i := range s {
		s[i] += before[i] + after[i]
		same = same && before[i] == 0 && after[i] == 0
	}
	if same {
		return x
	}
	pads := graph.ConstInts(e, append(append([]int(nil), before...), after...)...)
	return graph.Operand{Name: e.Emit("Pad", s, []string{x.Name, pads}), Shape: s}
}

// liftPad reads a Pad by zeros.
func liftPad(n *Node) []*G.Node {
	x := n.X(0)
	pads := n.Ints("pads")
	value := n.Float("value", 0)
	if n.Opset >= 11 {
		pads, value = n.IntsIn(1), n.ScalarIn(2, 0)
	}
	rank := len(graph.ShapeOf(x))
	if mode := n.String("mode", "constant"); mode != "constant" || value != 0 || n.Has(3) || len(pads) != 2*rank {
		n.fail("only padding by zeros on every axis is supported, not mode %q by %v", mode, value)
	}
	return []*G.Node{Pad(x, pads[:rank], pads[rank:])}
}
