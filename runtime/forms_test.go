package runtime

import (
	"fmt"
	"math"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// form is how an opset writes an operator that another one writes otherwise.
type form struct {
	op    string
	opset int
	note  string        // of the difference, for people; "" where another form of the operator has it
	in    []graph.Shape // of the tensors that come first
	node  op.Node       // attributes, and the inputs that come after
	want  func(in []*G.Node) *G.Node
}

type attrs = map[string]any

func written(a attrs, in ...op.Input) op.Node { return op.Node{Attrs: a, In: in} }

func ints(v ...int64) op.Input {
	return op.Input{Const: &graph.Array{Shape: graph.Shape{len(v)}, I: v}}
}

func number(v float64) op.Input {
	return op.Input{Const: &graph.Array{Shape: graph.Shape{}, F: []float64{v}}}
}

func first(f func(x *G.Node) *G.Node) func(in []*G.Node) *G.Node {
	return func(in []*G.Node) *G.Node { return f(in[0]) }
}

func shapes(s ...graph.Shape) []graph.Shape { return s }

// forms are what opsets 8 to 21 made a file write otherwise. What else they changed allows more types and shapes than before.
func forms() []form {
	x := shapes(graph.Shape{2, 5, 3})
	clipped := first(func(x *G.Node) *G.Node { return op.Clip(x, -0.5, 1) })
	padded := first(func(x *G.Node) *G.Node { return op.Pad(x, []int{0, 1, 0}, []int{0, 2, 0}) })
	sliced := first(func(x *G.Node) *G.Node { return op.Slice(x, op.Range{Axis: 1, From: 1, To: 4}) })
	part := first(func(x *G.Node) *G.Node { return op.Split(x, 1, 2, 2, 1)[0] })
	unsqueezed := first(func(x *G.Node) *G.Node { return op.Unsqueeze(x, 1) })
	squeezed := first(func(x *G.Node) *G.Node { return op.Squeeze(x, 1) })
	list := []form{
		{"Clip", 10, "limits by attribute before 11", x, written(attrs{"min": -0.5, "max": 1.0}), clipped},
		{"Clip", 11, "", x, written(nil, number(-0.5), number(1)), clipped},
		{"Dropout", 11, "ratio by attribute before 12", x, written(attrs{"ratio": 0.5}), first(same)},
		{"Dropout", 12, "", x, written(nil, number(0.5)), first(same)},
		{"GroupNormalization", 20, "a scale and a bias for each group before 21", shapes(graph.Shape{2, 4, 3}, graph.Shape{2}, graph.Shape{2}),
			written(attrs{"num_groups": 2}), func(in []*G.Node) *G.Node {
				each := func(v *G.Node) *G.Node { return op.Gather(v, 0, *ints(0, 0, 1, 1).Const) }
				return op.GroupNorm(in[0], each(in[1]), each(in[2]), 2, 1e-5)
			}},
		{"GroupNormalization", 21, "", shapes(graph.Shape{2, 4, 3}, graph.Shape{4}, graph.Shape{4}),
			written(attrs{"num_groups": 2}), func(in []*G.Node) *G.Node { return op.GroupNorm(in[0], in[1], in[2], 2, 1e-5) }},
		{"Pad", 10, "pads by attribute before 11", x, written(attrs{"pads": []int{0, 1, 0, 0, 2, 0}}), padded},
		{"Pad", 17, "", x, written(nil, ints(0, 1, 0, 0, 2, 0)), padded},
		{"Pad", 18, "with axes since 18", x, written(nil, ints(1, 2), op.Input{}, ints(-2)), padded},
		{"Slice", 9, "ranges by attribute before 10", x, written(attrs{"starts": []int{1}, "ends": []int{-1}, "axes": []int{1}}), sliced},
		{"Slice", 10, "", x, written(nil, ints(1), ints(-1), ints(1)), sliced},
		{"Split", 12, "sizes by attribute before 13", x, written(attrs{"axis": 1, "split": []int{2, 2, 1}}), part},
		{"Split", 13, "", x, written(attrs{"axis": 1}, ints(2, 2, 1)), part},
		{"Split", 18, "by number of parts since 18", x, written(attrs{"axis": 1, "num_outputs": 3}), part},
		{"Squeeze", 12, "axes by attribute before 13", shapes(graph.Shape{2, 1, 3}), written(attrs{"axes": []int{1}}), squeezed},
		{"Squeeze", 13, "", shapes(graph.Shape{2, 1, 3}), written(nil, ints(1)), squeezed},
		{"Unsqueeze", 12, "axes by attribute before 13", x, written(attrs{"axes": []int{1}}), unsqueezed},
		{"Unsqueeze", 13, "", x, written(nil, ints(1)), unsqueezed},
	}
	for name, f := range map[string]func(x *G.Node, axis int) *G.Node{"LogSoftmax": op.LogSoftmax, "Softmax": op.Softmax} {
		list = append(list,
			form{name, 12, "over all axes from its axis on before 13", x, written(attrs{"axis": 1}),
				first(func(x *G.Node) *G.Node { return op.Reshape(f(op.Reshape(x, 2, 15), 1), 2, 5, 3) })},
			form{name, 13, "", x, written(attrs{"axis": 1}), first(func(x *G.Node) *G.Node { return f(x, 1) })})
	}
	for name, f := range map[string]func(x *G.Node, axes []int, keep bool) *G.Node{
		"ReduceL1": op.ReduceL1, "ReduceL2": op.ReduceL2, "ReduceLogSum": op.ReduceLogSum, "ReduceLogSumExp": op.ReduceLogSumExp,
		"ReduceMax": op.ReduceMax, "ReduceMean": op.ReduceMean, "ReduceMin": op.ReduceMin, "ReduceSum": op.ReduceSum,
		"ReduceSumSquare": op.ReduceSumSquare,
	} {
		since, want := 18, first(func(x *G.Node) *G.Node { return f(x, []int{1}, true) })
		if name == "ReduceSum" {
			since = 13
		}
		list = append(list,
			form{name, since - 1, fmt.Sprintf("axes by attribute before %d", since), x, written(attrs{"axes": []int{1}}), want},
			form{name, since, "", x, written(nil, ints(1)), want})
	}
	return list
}

func TestFormsOfAnOperatorAreReadAsTheirOpsetMeansThem(t *testing.T) {
	for _, f := range forms() {
		t.Run(fmt.Sprintf("%s/%d", f.op, f.opset), func(t *testing.T) {
			p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
				in := make([]*G.Node, len(f.in))
				n := f.node
				n.Op, n.Opset, n.Graph, n.In = f.op, f.opset, g, nil
				for k, s := range f.in {
					in[k] = g.Input(fmt.Sprint(k), graph.Float32, s...)
					n.In = append(n.In, op.Input{Tensor: in[k]})
				}
				n.In = append(n.In, f.node.In...)
				g.Output("got", op.Lift(&n)[0])
				g.Output("want", f.want(in))
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := onTape(p, op.Example{In: f.in, Lo: 0.25, Hi: 2.25}.Inputs())
			if err != nil {
				t.Fatal(err)
			}
			got, want := out["got"], out["want"]
			if !got.Shape.Equal(want.Shape) {
				t.Fatalf("lifts to %v, want %v", got.Shape, want.Shape)
			}
			for i, w := range want.F {
				if math.Abs(got.F[i]-w) > 1e-12 {
					t.Fatalf("[%d] is %g, want %g", i, got.F[i], w)
				}
			}
		})
	}
}
