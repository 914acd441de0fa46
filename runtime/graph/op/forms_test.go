package op_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func ints(values ...int64) op.Input {
	return op.Input{Const: &graph.Array{Shape: graph.Shape{len(values)}, I: values}}
}

func number(v float64) op.Input {
	return op.Input{Const: &graph.Array{Shape: graph.Shape{}, F: []float64{v}}}
}

// form is a node of an ONNX model and what it should come to.
type form struct {
	name  string
	in    []graph.Shape // of its first inputs
	node  op.Node       // with the inputs after those
	other int           // output to look at
	want  func(in []*G.Node) *G.Node
}

func of(shapes ...graph.Shape) []graph.Shape { return shapes }

func (f form) lift(g *graph.Graph, in []*G.Node) *G.Node {
	n := f.node
	n.Graph, n.In = g, nil
	for _, x := range in {
		n.In = append(n.In, op.Input{Tensor: x})
	}
	n.In = append(n.In, f.node.In...)
	return op.Lift(&n)[f.other]
}

// valueOf is what a description gives for the inputs of an example.
func valueOf(t *testing.T, shapes []graph.Shape, describe func(g *graph.Graph, in []*G.Node) *G.Node) (graph.Array, error) {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		in := make([]*G.Node, len(shapes))
		for k, s := range shapes {
			in[k] = g.Input(fmt.Sprint(k), graph.Float32, s...)
		}
		g.Output("y", describe(g, in))
	})
	if err != nil {
		return graph.Array{}, err
	}
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	return eval(t, tape, op.Example{In: shapes}.Inputs())["y"], nil
}

func TestNodeLiftsInEveryFormThatOpsetsGaveIt(t *testing.T) {
	x := of(graph.Shape{2, 4, 3})
	split := func(i int, sizes ...int) func([]*G.Node) *G.Node {
		return func(in []*G.Node) *G.Node { return op.Split(in[0], 1, sizes...)[i] }
	}
	on1 := func(f func(*G.Node) *G.Node) func([]*G.Node) *G.Node {
		return func(in []*G.Node) *G.Node { return f(in[0]) }
	}
	image := of(graph.Shape{2, 4, 2, 3}, graph.Shape{4}, graph.Shape{4})
	for _, f := range []form{
		{name: "split by attribute", in: x, other: 1, want: split(1, 1, 3),
			node: op.Node{Op: "Split", Opset: 11, Attrs: map[string]any{"axis": 1, "split": []int{1, 3}}}},
		{name: "split by input", in: x, other: 2, want: split(2, 1, 1, 2),
			node: op.Node{Op: "Split", Opset: 13, Attrs: map[string]any{"axis": -2}, In: []op.Input{ints(1, 1, 2)}}},
		{name: "split into parts of which the last is smaller", in: of(graph.Shape{2, 5}), other: 2,
			want: on1(func(x *G.Node) *G.Node { return op.Slice(x, op.Range{Axis: 1, From: 4}) }),
			node: op.Node{Op: "Split", Opset: 18, Attrs: map[string]any{"axis": 1, "num_outputs": 3}}},
		{name: "unsqueeze by attribute", in: x, want: on1(func(x *G.Node) *G.Node { return op.Unsqueeze(x, 0, 2) }),
			node: op.Node{Op: "Unsqueeze", Opset: 11, Attrs: map[string]any{"axes": []int{0, 2}}}},
		{name: "unsqueeze by input", in: x, want: on1(func(x *G.Node) *G.Node { return op.Unsqueeze(x, -1) }),
			node: op.Node{Op: "Unsqueeze", Opset: 13, In: []op.Input{ints(-1)}}},
		{name: "axes by attribute", in: x, want: on1(func(x *G.Node) *G.Node { return op.ReduceL2(x, []int{1}, false) }),
			node: op.Node{Op: "ReduceL2", Opset: 13, Attrs: map[string]any{"axes": []int{1}, "keepdims": 0}}},
		{name: "axes by input", in: x, want: on1(func(x *G.Node) *G.Node { return op.ReduceLogSumExp(x, []int{-1}, true) }),
			node: op.Node{Op: "ReduceLogSumExp", Opset: 18, In: []op.Input{ints(-1)}}},
		{name: "no axes, which are none", in: x, want: on1(func(x *G.Node) *G.Node { return op.Mul(x, x) }),
			node: op.Node{Op: "ReduceSumSquare", Opset: 18, Attrs: map[string]any{"noop_with_empty_axes": 1}}},
		{name: "no axes, which are all", in: x, want: on1(func(x *G.Node) *G.Node { return op.ReduceL1(x, []int{0, 1, 2}, true) }),
			node: op.Node{Op: "ReduceL1", Opset: 18, In: []op.Input{ints([]int64{}...)}}},
		{name: "reshape with allowzero and no zero", in: x, want: on1(func(x *G.Node) *G.Node { return op.Reshape(x, 8, 3) }),
			node: op.Node{Op: "Reshape", Opset: 14, Attrs: map[string]any{"allowzero": 1}, In: []op.Input{ints(-1, 3)}}},
		{name: "reshape to a size that the batch decides", in: x, want: on1(func(x *G.Node) *G.Node { return op.Reshape(x, 2, 2, 6) }),
			node: op.Node{Op: "Reshape", Opset: 13, Other: graph.Shape{3, 2, 6}, In: []op.Input{ints(2, 2, -1)}}},
		{name: "pads for some axes", in: x, want: on1(func(x *G.Node) *G.Node { return op.Pad(x, []int{0, 1, 2}, []int{0, 3, 0}) }),
			node: op.Node{Op: "Pad", Opset: 18, In: []op.Input{ints(2, 1, 0, 3), {}, ints(-1, 1)}}},
		{name: "pads by a number", in: x, want: on1(func(x *G.Node) *G.Node { return op.PadBy(x, 7, []int{0, 0, 1}, []int{0, 0, 1}) }),
			node: op.Node{Op: "Pad", Opset: 11, In: []op.Input{ints(0, 0, 1, 0, 0, 1), number(7)}}},
		{name: "pads by attribute", in: x, want: on1(func(x *G.Node) *G.Node { return op.Pad(x, []int{0, 1, 0}, []int{0, 0, 2}) }),
			node: op.Node{Op: "Pad", Opset: 2, Attrs: map[string]any{"pads": []int{0, 1, 0, 0, 0, 2}}}},
		{name: "reflection", in: x, want: on1(func(x *G.Node) *G.Node {
			return op.Concat(2, op.Slice(x, op.Range{Axis: 2, From: 1, To: 2}), x, op.Slice(x, op.Range{Axis: 2, From: 1, To: 2}))
		}), node: op.Node{Op: "Pad", Opset: 13, Attrs: map[string]any{"mode": "reflect"}, In: []op.Input{ints(0, 0, 1, 0, 0, 1)}}},
		{name: "wrap", in: x, want: on1(func(x *G.Node) *G.Node { return op.Concat(1, op.Slice(x, op.Range{Axis: 1, From: 3}), x) }),
			node: op.Node{Op: "Pad", Opset: 19, Attrs: map[string]any{"mode": "wrap"}, In: []op.Input{ints(0, 1, 0, 0, 0, 0)}}},
		{name: "line convolved", in: of(graph.Shape{2, 4, 7}, graph.Shape{6, 2, 3}, graph.Shape{6}),
			want: func(in []*G.Node) *G.Node {
				a := op.ConvAttrs{Strides: [2]int{1, 2}, Pads: [4]int{0, 1, 0, 2}, Dilations: [2]int{1, 2}, Group: 2}
				return op.Squeeze(op.Conv(op.Unsqueeze(in[0], 2), op.Unsqueeze(in[1], 2), in[2], a), 2)
			}, node: op.Node{Op: "Conv", Opset: 11, Attrs: map[string]any{"group": 2, "strides": []int{2}, "pads": []int{1, 2}, "dilations": []int{2}}}},
		{name: "ceil_mode that adds windows", in: of(graph.Shape{1, 2, 4, 5}),
			want: on1(func(x *G.Node) *G.Node {
				return op.MaxPool(x, op.PoolAttrs{Kernel: [2]int{3, 2}, Strides: [2]int{2, 2}, Pads: [4]int{0, 0, 1, 1}})
			}), node: op.Node{Op: "MaxPool", Opset: 12, Attrs: map[string]any{"ceil_mode": 1, "kernel_shape": []int{3, 2}, "strides": []int{2, 2}}}},
		{name: "ceil_mode that adds no window of padding alone", in: of(graph.Shape{1, 2, 4, 4}),
			want: on1(func(x *G.Node) *G.Node {
				return op.MaxPool(x, op.PoolAttrs{Kernel: [2]int{1, 1}, Strides: [2]int{3, 4}})
			}), node: op.Node{Op: "MaxPool", Opset: 12, Attrs: map[string]any{"ceil_mode": 1, "kernel_shape": []int{1, 1}, "strides": []int{3, 4}}}},
		{name: "ceil_mode averages what is there", in: of(graph.Shape{1, 2, 3, 3}),
			want: on1(func(x *G.Node) *G.Node {
				return op.AveragePool(x, op.PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}, Pads: [4]int{0, 0, 1, 1}, ExcludePad: true})
			}), node: op.Node{Op: "AveragePool", Opset: 19, Attrs: map[string]any{"ceil_mode": 1, "count_include_pad": 1,
				"kernel_shape": []int{2, 2}, "strides": []int{2, 2}, "dilations": []int{1, 1}}}},
		{name: "ceil_mode without effect", in: of(graph.Shape{1, 2, 4, 4}),
			want: on1(func(x *G.Node) *G.Node {
				return op.AveragePool(x, op.PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}, Pads: [4]int{1, 1, 1, 1}})
			}), node: op.Node{Op: "AveragePool", Opset: 11, Attrs: map[string]any{"ceil_mode": 1, "count_include_pad": 1,
				"kernel_shape": []int{2, 2}, "strides": []int{2, 2}, "pads": []int{1, 1, 1, 1}}}},
		{name: "gather one", in: x, want: on1(func(x *G.Node) *G.Node { return op.Index(x, 1, -1) }),
			node: op.Node{Op: "Gather", Opset: 11, Attrs: map[string]any{"axis": 1},
				In: []op.Input{{Const: &graph.Array{Shape: graph.Shape{}, I: []int64{-1}}}}}},
		{name: "pow of a number", in: x, want: on1(func(x *G.Node) *G.Node { return op.Mul(x, x) }),
			node: op.Node{Op: "Pow", Opset: 13, In: []op.Input{number(2)}}},
		{name: "elu without alpha", in: x, want: on1(func(x *G.Node) *G.Node { return op.Elu(x, 1) }),
			node: op.Node{Op: "Elu", Opset: 6}},
		{name: "celu", in: x, want: on1(func(x *G.Node) *G.Node { return op.Celu(x, 2) }),
			node: op.Node{Op: "Celu", Opset: 12, Attrs: map[string]any{"alpha": 2.0}}},
		{name: "selu", in: x, want: on1(op.Selu), node: op.Node{Op: "Selu", Opset: 6}},
		{name: "hard sigmoid", in: x, want: on1(func(x *G.Node) *G.Node { return op.HardSigmoid(x, 0.2, 0.5) }),
			node: op.Node{Op: "HardSigmoid", Opset: 6}},
		{name: "gelu", in: x, want: on1(op.Gelu), node: op.Node{Op: "Gelu", Opset: 20}},
		{name: "gelu by tanh", in: x, want: on1(op.GeluTanh),
			node: op.Node{Op: "Gelu", Opset: 20, Attrs: map[string]any{"approximate": "tanh"}}},
		{name: "mish", in: x, want: on1(op.Mish), node: op.Node{Op: "Mish", Opset: 18}},
		{name: "cast to double", in: x, want: on1(func(x *G.Node) *G.Node { return op.Scale(x, 1) }),
			node: op.Node{Op: "Cast", Opset: 13, Attrs: map[string]any{"to": 11}}},
		{name: "dropout with ratio and mode", in: x, want: on1(func(x *G.Node) *G.Node { return op.Scale(x, 1) }),
			node: op.Node{Op: "Dropout", Opset: 13, In: []op.Input{number(0.5), {}}}},
		{name: "pixel shuffle", in: of(graph.Shape{1, 8, 2, 3}), want: on1(func(x *G.Node) *G.Node { return op.DepthToSpace(x, 2, true) }),
			node: op.Node{Op: "DepthToSpace", Opset: 13, Attrs: map[string]any{"blocksize": 2, "mode": "CRD"}}},
		{name: "space to depth", in: of(graph.Shape{1, 2, 4, 6}), want: on1(func(x *G.Node) *G.Node { return op.SpaceToDepth(x, 2) }),
			node: op.Node{Op: "SpaceToDepth", Opset: 13, Attrs: map[string]any{"blocksize": 2}}},
		{name: "norm of order 1", in: x, want: on1(func(x *G.Node) *G.Node { return op.Div(x, op.ReduceL1(x, []int{0}, true)) }),
			node: op.Node{Op: "LpNormalization", Opset: 1, Attrs: map[string]any{"axis": 0, "p": 1}}},
		{name: "mean of several", in: of(graph.Shape{2, 3}, graph.Shape{3}, graph.Shape{}),
			want: func(in []*G.Node) *G.Node { return op.Scale(op.Add(op.Add(in[0], in[1]), in[2]), 1.0/3) },
			node: op.Node{Op: "Mean", Opset: 13}},
		{name: "largest of one", in: x, want: on1(func(x *G.Node) *G.Node { return op.Scale(x, 1) }), node: op.Node{Op: "Max", Opset: 13}},
		{name: "layer norm without bias", in: of(graph.Shape{2, 3}, graph.Shape{3}),
			want: func(in []*G.Node) *G.Node { return op.LayerNorm(in[0], in[1], nil, 1, 1e-5) },
			node: op.Node{Op: "LayerNormalization", Opset: 17}},
		{name: "group norm by channel", in: image,
			want: func(in []*G.Node) *G.Node { return op.GroupNorm(in[0], in[1], in[2], 2, 1e-5) },
			node: op.Node{Op: "GroupNormalization", Opset: 21, Attrs: map[string]any{"num_groups": 2}}},
		{name: "group norm by group", in: of(graph.Shape{2, 4, 2, 3}, graph.Shape{2}, graph.Shape{2}),
			want: func(in []*G.Node) *G.Node {
				each := func(v *G.Node) *G.Node { return op.Gather(v, 0, *ints(0, 0, 1, 1).Const) }
				return op.GroupNorm(in[0], each(in[1]), each(in[2]), 2, 1e-5)
			}, node: op.Node{Op: "GroupNormalization", Opset: 18, Attrs: map[string]any{"num_groups": 2}}},
		{name: "instance norm", in: image,
			want: func(in []*G.Node) *G.Node { return op.GroupNorm(in[0], in[1], in[2], 4, 1e-3) },
			node: op.Node{Op: "InstanceNormalization", Opset: 6, Attrs: map[string]any{"epsilon": 1e-3}}},
	} {
		t.Run(f.name, func(t *testing.T) {
			a, err := valueOf(t, f.in, f.lift)
			if err != nil {
				t.Fatal(err)
			}
			b, err := valueOf(t, f.in, func(_ *graph.Graph, in []*G.Node) *G.Node { return f.want(in) })
			if err != nil {
				t.Fatal(err)
			}
			if !a.Shape.Equal(b.Shape) {
				t.Fatalf("lifts to %v, want %v", a.Shape, b.Shape)
			}
			near(t, "y", a.F, b.F)
		})
	}
}

func TestWhereChoosesByConstantTruthValues(t *testing.T) {
	cond := op.Input{Const: &graph.Array{Shape: graph.Shape{3}, I: []int64{1, 0, 1}}}
	shapes := of(graph.Shape{3})
	got, err := valueOf(t, shapes, func(g *graph.Graph, in []*G.Node) *G.Node {
		return op.Lift(&op.Node{Op: "Where", Opset: 16, Graph: g, In: []op.Input{cond, {Tensor: in[0]}, number(-7)}})[0]
	})
	if err != nil {
		t.Fatal(err)
	}
	x := op.Example{In: shapes}.Inputs()[0].F
	if want := []float64{x[0], -7, x[2]}; !slices.Equal(got.F, want) {
		t.Errorf("chose %v, want %v", got.F, want)
	}
}

func TestFormThatCannotBeTrainedIsRefusedWithItsReason(t *testing.T) {
	x := of(graph.Shape{2, 4, 3})
	indices := ints(1)
	indices.Free = []bool{true}
	for _, c := range []struct {
		form
		reason string
	}{
		{form{in: x, node: op.Node{Op: "Split", Opset: 13}}, "sizes of the parts are not given"},
		{form{in: x, node: op.Node{Op: "Split", Opset: 13, In: []op.Input{ints(1, 2)}}}, "do not make up axis 0"},
		{form{in: x, node: op.Node{Op: "Split", Opset: 18, Attrs: map[string]any{"num_outputs": 1 << 40}}}, "do not make"},
		{form{in: x, node: op.Node{Op: "Reshape", Opset: 14, Attrs: map[string]any{"allowzero": 1}, In: []op.Input{ints(0, 3)}}},
			"allowzero is not supported where a size is 0"},
		{form{in: x, node: op.Node{Op: "Reshape", Opset: 13, Other: graph.Shape{4, 9}, In: []op.Input{ints(3, 8)}}},
			"more than one size of [3,8] depends on the batch"},
		{form{in: x, node: op.Node{Op: "Pad", Opset: 13, Attrs: map[string]any{"mode": "reflect"}, In: []op.Input{ints(0, 0, 3, 0, 0, 0)}}},
			"3 and 0 elements cannot be made from axis 2"},
		{form{in: x, node: op.Node{Op: "Pad", Opset: 13, Attrs: map[string]any{"mode": "mirror"}, In: []op.Input{ints(0, 0, 1, 0, 0, 0)}}},
			`mode "mirror" is unknown`},
		{form{in: x, node: op.Node{Op: "Pad", Opset: 18, In: []op.Input{ints(1, 1), {}, ints(0, 1)}}}, "2 pads do not go before and after 2 axes"},
		{form{in: of(graph.Shape{1, 2, 4, 4}), node: op.Node{Op: "AveragePool", Opset: 11, Attrs: map[string]any{"ceil_mode": 1,
			"count_include_pad": 1, "kernel_shape": []int{3, 3}, "strides": []int{2, 2}, "pads": []int{1, 1, 1, 1}}}},
			"ceil_mode is not supported where it adds windows and padding counts"},
		{form{in: x, node: op.Node{Op: "Cast", Opset: 13, Attrs: map[string]any{"to": 7}}}, "only a cast to floats"},
		{form{in: x, node: op.Node{Op: "Gather", Opset: 13, In: []op.Input{ints(2)}}}, "no element 2 on axis 0"},
		{form{in: x, node: op.Node{Op: "Gather", Opset: 13, In: []op.Input{indices}}}, "indices must be constant"},
		{form{in: x, node: op.Node{Op: "Gelu", Opset: 20, Attrs: map[string]any{"approximate": "erf"}}}, `"erf" is unknown`},
		{form{in: x, node: op.Node{Op: "Celu", Opset: 12, Attrs: map[string]any{"alpha": 0.0}}}, "alpha must not be 0"},
		{form{in: x, node: op.Node{Op: "DepthToSpace", Opset: 13, Attrs: map[string]any{"blocksize": 1 << 32}}}, "with a block"},
		{form{in: x, node: op.Node{Op: "LpNormalization", Opset: 1, Attrs: map[string]any{"p": 3}}}, "p = 3 is not supported"},
		{form{in: x, node: op.Node{Op: "LayerNormalization", Opset: 17, In: []op.Input{}}}, "input 1 is missing"},
		{form{in: x, node: op.Node{Op: "Unsqueeze", Opset: 13, In: []op.Input{ints(0, -5)}}}, "put in twice"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if _, err := valueOf(t, c.in, c.lift); err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("the error is %v, want one that says %q", err, c.reason)
			}
		})
	}
}
