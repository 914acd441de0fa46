package op

import (
	"math"
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// reduce folds some axes of its input.
type reduce struct {
	smooth
	name string
	axes []int // sorted, from the start; never empty
	keep bool
}

// ReduceSum sums over axes, all of them where none is given; keep leaves each as a size of 1.
func ReduceSum(x *G.Node, axes []int, keep bool) *G.Node { return reduced("ReduceSum", x, axes, keep) }

// ReduceMean is the mean over axes, all of them where none is given; keep leaves each as a size of 1.
func ReduceMean(x *G.Node, axes []int, keep bool) *G.Node {
	return reduced("ReduceMean", x, axes, keep)
}

// ReduceMax is the maximum over axes, all of them where none is given. Where several elements are the maximum, each gets
// the gradient.
func ReduceMax(x *G.Node, axes []int, keep bool) *G.Node { return reduced("ReduceMax", x, axes, keep) }

func reduced(name string, x *G.Node, axes []int, keep bool) *G.Node {
	s := graph.ShapeOf(x)
	if len(s) == 0 {
		return x
	}
	r := reduce{name: name, keep: keep}
	for i := range s {
		if len(axes) == 0 {
			r.axes = append(r.axes, i)
		}
	}
	for _, a := range axes {
		r.axes = append(r.axes, axisOf(name, a, s))
	}
	slices.Sort(r.axes)
	r.axes = slices.Compact(r.axes)
	return graph.Apply(r, x)
}

func (r reduce) Name() string { return r.name }

func (r reduce) Infer(in []graph.Shape) []graph.Shape { return one(r.shape(in[0], r.keep)) }

func (r reduce) shape(in graph.Shape, keep bool) graph.Shape {
	out := graph.Shape{}
	for i, d := range in {
		switch {
		case !slices.Contains(r.axes, i):
			out = append(out, d)
		case keep:
			out = append(out, 1)
		}
	}
	return out
}

func (r reduce) count(in graph.Shape) float64 {
	n := 1
	for _, a := range r.axes {
		n *= in[a]
	}
	return float64(n)
}

func (r reduce) Eval(in []graph.Array) []graph.Array {
	x := in[0]
	kept := r.shape(x.Shape, true)
	y := graph.Zeros(r.shape(x.Shape, r.keep))
	if r.name == "ReduceMax" {
		for i := range y.F {
			y.F[i] = math.Inf(-1)
		}
	}
	walk(x.Shape, [][]int{stretched(kept, x.Shape)}, func(i int, at []int) {
		if r.name == "ReduceMax" {
			y.F[at[0]] = math.Max(y.F[at[0]], x.F[i])
		} else {
			y.F[at[0]] += x.F[i]
		}
	})
	if r.name == "ReduceMean" {
		n := r.count(x.Shape)
		for i := range y.F {
			y.F[i] /= n
		}
	}
	return []graph.Array{y}
}

func (r reduce) Grad(in []*G.Node, out, dout *G.Node) []*G.Node {
	s := graph.ShapeOf(in[0])
	kept := r.shape(s, true)
	if r.name == "ReduceMean" {
		dout = Scale(dout, 1/r.count(s))
	}
	dx := Expand(Reshape(dout, kept...), s)
	if r.name == "ReduceMax" {
		dx = Mul(dx, Equal(in[0], Expand(Reshape(out, kept...), s)))
	}
	return []*G.Node{dx}
}

// Lower, for ONNX Runtime, takes a batch's channel-wise statistic over H and W before N, which is three times as fast, and that
// of the rows of a large matrix in two stages: then each thread reads the rows that it wrote, and not half of every row. Where there
// are blocks the layout pass sums them: as they lie, if the rows are in blocks, else in these stages.
func (r reduce) Lower(e graph.Emitter, in []graph.Operand) []string {
	x, s, out := in[0].Name, in[0].Shape, r.shape(in[0].Shape, r.keep)
	if e.Target().Fused && r.name != "ReduceMax" {
		if len(s) == 4 && slices.Equal(r.axes, []int{0, 2, 3}) {
			rows := r.emit(e, x, []int{2, 3}, r.keep, reduce{axes: []int{2, 3}}.shape(s, r.keep))
			return []string{r.emit(e, rows, []int{0}, r.keep, out)}
		}
		if stages := r.stages(s); stages != nil {
			if r.name == "ReduceSum" && e.Target().Block > 0 && stages[2]%e.Target().Block == 0 {
				return []string{e.Emit(graph.BlockedDomain+":SumRows", out, []string{x}, graph.Attr{Name: "parts", Value: stages[0]})}
			}
			some := r.emit(e, emitReshape(e, x, stages, nil), []int{1}, false, graph.Shape{stages[0], stages[2]})
			return []string{r.emit(e, some, []int{0}, false, out)}
		}
	}
	return []string{r.emit(e, x, r.axes, r.keep, out)}
}

// largeMatrix is the number of elements from which it pays that each thread reads the rows that it wrote.
const largeMatrix = 1 << 19

// stages is the shape of a large matrix, or a batch of them taken for one, whose rows are cut up into about as many parts as each
// part has; nil where r does not reduce rows, or their number has no such divisor.
func (r reduce) stages(s graph.Shape) graph.Shape {
	rowsAlone := len(r.axes) == len(s)-1 && r.axes[len(r.axes)-1] == len(s)-2
	if !rowsAlone || r.keep || s.Size() < largeMatrix {
		return nil
	}
	rows := s[:len(r.axes)].Size()
	parts := int(math.Sqrt(float64(rows)))
	for rows%parts > 0 {
		parts--
	}
	if parts == 1 {
		return nil
	}
	return graph.Shape{parts, rows / parts, s.Size() / rows}
}

// emit writes the node in the form opset 17 has: ReduceSum takes its axes as an input, the others as an attribute.
func (r reduce) emit(e graph.Emitter, x string, axes []int, keep bool, out graph.Shape) string {
	k := 0
	if keep {
		k = 1
	}
	attrs := []graph.Attr{{Name: "keepdims", Value: k}}
	in := []string{x}
	if r.name == "ReduceSum" {
		in = append(in, graph.ConstInts(e, axes...))
	} else {
		attrs = append(attrs, graph.Attr{Name: "axes", Value: axes})
	}
	return e.Emit(r.name, out, in, attrs...)
}
