package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// reshape gives the same elements another shape.
type reshape struct {
	smooth
	to []int
}

// Reshape gives x another shape of as many elements. As in ONNX, a size of 0 keeps the input's size on that axis and one
// size may be −1, which is worked out; with these a network can be exported for any batch size.
func Reshape(x *G.Node, to ...int) *G.Node {
	return graph.Apply(reshape{to: slices.Clone(to)}, x)
}

func (reshape) Name() string { return "Reshape" }

func (r reshape) Infer(in []graph.Shape) []graph.Shape {
	arity("Reshape", in, 1)
	s := graph.Shape(r.to).Clone()
	free, n := -1, 1
	for i, d := range s {
		if d == 0 && i < len(in[0]) {
			s[i] = in[0][i]
		}
		if d == -1 && free < 0 {
			free = i
			continue
		}
		n *= s[i]
	}
	size := in[0].Size()
	if free >= 0 && n > 0 && size%n == 0 {
		s[free] = size / n
	}
	if s.Size() != size || slices.Min(append([]int{0}, s...)) < 0 {
		graph.Fail("Reshape", in, "%d elements do not fit %v", size, graph.Shape(r.to))
	}
	return one(s)
}

func (r reshape) Eval(in []graph.Array) []graph.Array {
	y := in[0]
	y.Shape = r.Infer([]graph.Shape{in[0].Shape})[0]
	return []graph.Array{y}
}

func (reshape) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Reshape(dy, graph.ShapeOf(in[0])...)}
}

func (r reshape) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{emitReshape(e, in[0].Name, r.Infer([]graph.Shape{in[0].Shape})[0], r.to)}
}

// emitReshape emits a Reshape to out, written as to where that differs (0 and −1 keep it free of the batch size).
func emitReshape(e graph.Emitter, x string, out graph.Shape, to []int) string {
	if to == nil {
		to = out
	}
	return e.Emit("Reshape", out, []string{x, graph.ConstInts(e, to...)})
}

// Squeeze drops axes of size 1; Unsqueeze is a Reshape that puts them in.
func Squeeze(x *G.Node, axes ...int) *G.Node { return graph.Apply(squeeze{axes: axes}, x) }

type squeeze struct {
	smooth
	axes []int
}

func (squeeze) Name() string { return "Squeeze" }

func (q squeeze) Infer(in []graph.Shape) []graph.Shape {
	arity("Squeeze", in, 1)
	s := graph.Shape{}
	for i, d := range in[0] {
		if !slices.Contains(q.axes, i) && !slices.Contains(q.axes, i-len(in[0])) {
			s = append(s, d)
		} else if d != 1 {
			graph.Fail("Squeeze", in, "axis %d is not of size 1", i)
		}
	}
	return one(s)
}

func (q squeeze) Eval(in []graph.Array) []graph.Array {
	y := in[0]
	y.Shape = q.Infer([]graph.Shape{y.Shape})[0]
	return []graph.Array{y}
}

func (squeeze) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Reshape(dy, graph.ShapeOf(in[0])...)}
}

func (q squeeze) Lower(e graph.Emitter, in []graph.Operand) []string {
	out := q.Infer([]graph.Shape{in[0].Shape})[0]
	return []string{e.Emit("Squeeze", out, []string{in[0].Name, graph.ConstInts(e, q.axes...)})}
}

// flatten makes a matrix of its input.
type flatten struct{ smooth }

// Flatten keeps the first axis and merges the others: [N,…] becomes [N,D].
func Flatten(x *G.Node) *G.Node { return graph.Apply(flatten{}, x) }

func (flatten) Name() string { return "Flatten" }

func (flatten) Infer(in []graph.Shape) []graph.Shape {
	arity("Flatten", in, 1)
	if len(in[0]) < 1 {
		graph.Fail("Flatten", in, "needs rank 1 or more")
	}
	return one(graph.Shape{in[0][0], in[0][1:].Size()})
}

func (f flatten) Eval(in []graph.Array) []graph.Array {
	y := in[0]
	y.Shape = f.Infer([]graph.Shape{y.Shape})[0]
	return []graph.Array{y}
}

func (flatten) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Reshape(dy, graph.ShapeOf(in[0])...)}
}

func (f flatten) Lower(e graph.Emitter, in []graph.Operand) []string {
	out := f.Infer([]graph.Shape{in[0].Shape})[0]
	return []string{e.Emit("Flatten", out, names(in), graph.Attr{Name: "axis", Value: 1})}
}

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

func (o expand) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("Expand", o.to, []string{in[0].Name, graph.ConstInts(e, o.to...)})}
}

// concat joins along an axis.
type concat struct {
	smooth
	axis int
}

// Concat joins tensors along an axis; their other sizes agree.
func Concat(axis int, xs ...*G.Node) *G.Node {
	return graph.Apply(concat{axis: axisOf("Concat", axis, graph.ShapeOf(xs[0]))}, xs...)
}

func (concat) Name() string { return "Concat" }

func (c concat) Infer(in []graph.Shape) []graph.Shape {
	s := in[0].Clone()
	for _, t := range in[1:] {
		same := t.Clone()
		if len(t) == len(s) {
			same[c.axis] = s[c.axis]
		}
		if !same.Equal(s) {
			graph.Fail("Concat", in, "sizes off axis %d differ", c.axis)
		}
	}
	for _, t := range in[1:] {
		s[c.axis] += t[c.axis]
	}
	return one(s)
}

func (c concat) Eval(in []graph.Array) []graph.Array {
	shapes := make([]graph.Shape, len(in))
	for i, x := range in {
		shapes[i] = x.Shape
	}
	y := graph.Zeros(c.Infer(shapes)[0])
	outer := y.Shape[:c.axis].Size()
	at := 0
	for o := range outer {
		for _, x := range in {
			n := x.Shape[c.axis:].Size()
			at += copy(y.F[at:], x.F[o*n:(o+1)*n])
		}
	}
	return []graph.Array{y}
}

func (c concat) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	grads := make([]*G.Node, len(in))
	at := 0
	for i, x := range in {
		n := graph.ShapeOf(x)[c.axis]
		grads[i] = Slice(dy, Range{Axis: c.axis, From: at, To: at + n})
		at += n
	}
	return grads
}

func (c concat) Lower(e graph.Emitter, in []graph.Operand) []string {
	shapes := make([]graph.Shape, len(in))
	for i, x := range in {
		shapes[i] = x.Shape
	}
	return []string{emitConcat(e, c.axis, c.Infer(shapes)[0], names(in))}
}

func emitConcat(e graph.Emitter, axis int, out graph.Shape, in []string) string {
	if len(in) == 1 {
		return in[0]
	}
	return e.Emit("Concat", out, in, graph.Attr{Name: "axis", Value: axis})
}
