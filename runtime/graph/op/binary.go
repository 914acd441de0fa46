package op

import (
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// binary is an elementwise function of two inputs, broadcast against each other by ONNX's (NumPy's) rules.
type binary struct {
	smooth
	name string
	f    func(a, b float64) float64
	// grad gives the inputs' gradients in the output's shape; they are summed down to the inputs' own.
	grad func(a, b, y, dy *G.Node) (da, db *G.Node)
}

// The functions are made by functions, for their gradients refer to one another.

func add() binary {
	return binary{name: "Add", f: func(a, b float64) float64 { return a + b },
		grad: func(_, _, _, dy *G.Node) (*G.Node, *G.Node) { return dy, dy }}
}

func sub() binary {
	return binary{name: "Sub", f: func(a, b float64) float64 { return a - b },
		grad: func(_, _, _, dy *G.Node) (*G.Node, *G.Node) { return dy, Neg(dy) }}
}

func mul() binary {
	return binary{name: "Mul", f: func(a, b float64) float64 { return a * b },
		grad: func(a, b, _, dy *G.Node) (*G.Node, *G.Node) { return Mul(dy, b), Mul(dy, a) }}
}

func div() binary {
	return binary{name: "Div", f: func(a, b float64) float64 { return a / b },
		grad: func(_, b, y, dy *G.Node) (*G.Node, *G.Node) {
			da := Div(dy, b)
			return da, Neg(Mul(da, y))
		}}
}

// Add is a + b, broadcast.
func Add(a, b *G.Node) *G.Node { return graph.Apply(add(), a, b) }

// Sub is a − b, broadcast.
func Sub(a, b *G.Node) *G.Node { return graph.Apply(sub(), a, b) }

// Mul is a·b elementwise, broadcast.
func Mul(a, b *G.Node) *G.Node { return graph.Apply(mul(), a, b) }

// Div is a/b elementwise, broadcast.
func Div(a, b *G.Node) *G.Node { return graph.Apply(div(), a, b) }

func (o binary) Name() string { return o.name }

func (o binary) Infer(in []graph.Shape) []graph.Shape {
	arity(o.name, in, 2)
	s, ok := broadcast(in[0], in[1])
	if !ok {
		graph.Fail(o.name, in, "the shapes do not broadcast")
	}
	return one(s)
}

// broadcast is the shape that both stretch to; axes are matched from the last and a size of 1 stretches.
func broadcast(a, b graph.Shape) (graph.Shape, bool) {
	if len(a) < len(b) {
		a, b = b, a
	}
	s := a.Clone()
	off := len(a) - len(b)
	for i, d := range b {
		switch {
		case s[off+i] == 1:
			s[off+i] = d
		case d != 1 && d != s[off+i]:
			return nil, false
		}
	}
	return s, true
}

// stretched are the strides that read an array of shape s as if it were broadcast to shape to.
func stretched(s, to graph.Shape) []int {
	st := make([]int, len(to))
	own := strides(s)
	off := len(to) - len(s)
	for i, d := range s {
		if d != 1 {
			st[off+i] = own[i]
		}
	}
	return st
}

func (o binary) Eval(in []graph.Array) []graph.Array {
	a, b := in[0], in[1]
	s, _ := broadcast(a.Shape, b.Shape)
	y := graph.Zeros(s)
	switch { // without walk's overhead where nothing, or a scalar, is stretched
	case a.Shape.Equal(b.Shape):
		for i := range y.F {
			y.F[i] = o.f(a.F[i], b.F[i])
		}
		return []graph.Array{y}
	case len(b.Shape) == 0:
		for i := range y.F {
			y.F[i] = o.f(a.F[i], b.F[0])
		}
		return []graph.Array{y}
	}
	walk(s, [][]int{stretched(a.Shape, s), stretched(b.Shape, s)}, func(i int, at []int) {
		y.F[i] = o.f(a.F[at[0]], b.F[at[1]])
	})
	return []graph.Array{y}
}

func (o binary) Grad(in []*G.Node, out, dout *G.Node) []*G.Node {
	da, db := o.grad(in[0], in[1], out, dout)
	return []*G.Node{sumTo(da, graph.ShapeOf(in[0])), sumTo(db, graph.ShapeOf(in[1]))}
}

// fewPlaces of an image are stretched over before ONNX Runtime computes, which else takes the places of each channel by themselves.
const fewPlaces = 16

// Lower stretches, for ONNX Runtime, what has a number for each of an image's channels, if the image is small. And it gives a number
// as many axes as the other input has where that ends in an axis of one element, as the weights of a convolution of one tap do, whose
// elements would else be taken one by one, for a hundred times as long.
func (o binary) Lower(e graph.Emitter, in []graph.Operand) []string {
	s, _ := broadcast(in[0].Shape, in[1].Shape)
	list := names(in)
	if n := len(s); e.Target().Fused && n > 1 {
		for i, x := range in {
			switch p := places(x.Shape, s); {
			case len(x.Shape) == 0 && s[n-1] == 1:
				list[i] = emitReshape(e, x.Name, slices.Repeat(graph.Shape{1}, n), nil)
			case len(x.Shape) == 4 && p > 1 && p <= fewPlaces:
				list[i] = emitOverPlaces(e, x, s)
			}
		}
	}
	return []string{e.Emit(o.name, s, list)}
}

// sumTo undoes a broadcast: it sums x over the axes along which shape s was stretched.
func sumTo(x *G.Node, s graph.Shape) *G.Node {
	from := graph.ShapeOf(x)
	if from.Equal(s) {
		return x
	}
	var axes []int
	off := len(from) - len(s)
	for i, d := range from {
		if i < off || (s[i-off] == 1 && d != 1) {
			axes = append(axes, i)
		}
	}
	if len(axes) > 0 {
		x = ReduceSum(x, axes, false)
	}
	if graph.ShapeOf(x).Equal(s) {
		return x
	}
	return Reshape(x, s...)
}
