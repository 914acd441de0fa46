package onnx

import (
	"maps"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

func intsOf(shape graph.Shape, v ...int64) *graph.Array {
	return &graph.Array{Shape: shape, I: append([]int64{}, v...)}
}

func floatsOf(shape graph.Shape, v ...float64) *graph.Array {
	return &graph.Array{Shape: shape, F: append([]float64{}, v...)}
}

func list(v ...int64) *graph.Array            { return intsOf(graph.Shape{len(v)}, v...) }
func numbers(v ...float64) *graph.Array       { return floatsOf(graph.Shape{len(v)}, v...) }
func scalar(v int64) *graph.Array             { return intsOf(graph.Shape{}, v) }
func number64(v float64) *graph.Array         { return floatsOf(graph.Shape{}, v) }
func ramped(shape ...int) *graph.Array        { return intsOf(shape, upTo(graph.Shape(shape).Size())...) }
func inputs(a ...*graph.Array) []*graph.Array { return a }

func upTo(n int) []int64 {
	v := make([]int64, n)
	for i := range v {
		v[i] = int64(i)
	}
	return v
}

type attrs = map[string]any

func TestNodesOfConstantsAreComputed(t *testing.T) {
	const float, double, boolean, int64s, int8s = 1, 11, 9, 7, 3
	mask := func(v ...int64) *graph.Array { return list(v...) }
	for _, c := range []struct {
		op    string
		opset int // 0: 17
		attrs attrs
		in    []*graph.Array
		want  *graph.Array
	}{
		{"Abs", 0, nil, inputs(list(-3, 4)), list(3, 4)},
		{"Add", 0, nil, inputs(ramped(2, 1), list(10, 20)), intsOf(graph.Shape{2, 2}, 10, 20, 11, 21)},
		{"Add", 0, nil, inputs(number64(0.1), number64(0.2)), number64(float64(float32(0.1 + 0.2)))},
		{"And", 0, nil, inputs(mask(1, 1, 0), mask(1, 0, 0)), mask(1, 0, 0)},
		{"Cast", 0, attrs{"to": int64s}, inputs(numbers(2.9, -2.9)), list(2, -2)},
		{"Cast", 0, attrs{"to": int8s}, inputs(list(300)), list(44)},
		{"Cast", 0, attrs{"to": boolean}, inputs(numbers(0, 0.5)), list(0, 1)},
		{"Cast", 0, attrs{"to": float}, inputs(list(3)), numbers(3)},
		{"Cast", 0, attrs{"to": double}, inputs(numbers(1.5)), numbers(1.5)},
		{"Ceil", 0, nil, inputs(numbers(1.2, -1.2)), numbers(2, -1)},
		{"Concat", 0, attrs{"axis": 0}, inputs(list(1), list(2, 3), list()), list(1, 2, 3)},
		{"Concat", 0, attrs{"axis": -1}, inputs(ramped(2, 2), intsOf(graph.Shape{2, 1}, 8, 9)), intsOf(graph.Shape{2, 3}, 0, 1, 8, 2, 3, 9)},
		{"Constant", 0, attrs{"value": *list(7)}, nil, list(7)},
		{"Constant", 0, attrs{"value_int": 7}, nil, scalar(7)},
		{"Constant", 0, attrs{"value_ints": []int{7, 8}}, nil, list(7, 8)},
		{"Constant", 0, attrs{"value_float": 0.5}, nil, number64(0.5)},
		{"Constant", 0, attrs{"value_floats": []float64{0.5}}, nil, numbers(0.5)},
		{"ConstantOfShape", 0, nil, inputs(list(2)), numbers(0, 0)},
		{"ConstantOfShape", 0, attrs{"value": *list(4)}, inputs(list(1, 2)), intsOf(graph.Shape{1, 2}, 4, 4)},
		{"ConstantOfShape", 0, attrs{"value": *list(4)}, inputs(list()), scalar(4)},
		{"ConstantOfShape", 0, attrs{"value": *list(4)}, inputs(list(0)), list()},
		{"Div", 0, nil, inputs(list(7, -7), list(2, 2)), list(3, -3)},
		{"Div", 0, nil, inputs(list(math.MinInt64), list(-1)), list(math.MinInt64)},
		{"Div", 0, nil, inputs(numbers(1), numbers(0)), numbers(math.Inf(1))},
		{"Equal", 0, nil, inputs(list(1, 2), scalar(2)), list(0, 1)},
		{"Expand", 0, nil, inputs(ramped(2, 1), list(3, 1, 2)), intsOf(graph.Shape{3, 2, 2}, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1)},
		{"Flatten", 0, attrs{"axis": -1}, inputs(ramped(2, 1, 3)), ramped(2, 3)},
		{"Flatten", 0, attrs{"axis": 0}, inputs(ramped(2)), ramped(1, 2)},
		{"Floor", 0, nil, inputs(numbers(1.8, -1.2)), numbers(1, -2)},
		{"Gather", 0, nil, inputs(list(10, 20, 30), scalar(-1)), scalar(30)},
		{"Gather", 0, attrs{"axis": 1}, inputs(ramped(2, 3), list(2, 0)), intsOf(graph.Shape{2, 2}, 2, 0, 5, 3)},
		{"Greater", 0, nil, inputs(numbers(1, 2), numbers(1, 1)), list(0, 1)},
		{"GreaterOrEqual", 0, nil, inputs(numbers(1, math.NaN()), numbers(1, 1)), list(1, 0)},
		{"Identity", 0, nil, inputs(list(5)), list(5)},
		{"Less", 0, nil, inputs(list(1), list(2)), list(1)},
		{"LessOrEqual", 0, nil, inputs(list(3), list(2)), list(0)},
		{"Max", 0, nil, inputs(list(1, 5), scalar(3), scalar(2)), list(3, 5)},
		{"Min", 0, nil, inputs(numbers(1, 5), numbers(3)), numbers(1, 3)},
		{"Mod", 0, nil, inputs(list(-4, 7, 5), list(3, -3, -5)), list(2, -2, 0)},
		{"Mod", 0, attrs{"fmod": 1}, inputs(numbers(-4.5), numbers(3)), numbers(-1.5)},
		{"Mul", 0, nil, inputs(list(2, 3), list(4, 5)), list(8, 15)},
		{"Neg", 0, nil, inputs(numbers(2)), numbers(-2)},
		{"Not", 0, nil, inputs(list(0, 1)), list(1, 0)},
		{"Or", 0, nil, inputs(list(0, 1), list(0, 0)), list(0, 1)},
		{"Pow", 0, nil, inputs(list(2, 3), list(10, 0)), list(1024, 1)},
		{"Pow", 0, nil, inputs(list(4), numbers(0.5)), list(2)},
		{"Pow", 0, nil, inputs(numbers(0.5), list(2)), numbers(0.25)},
		{"Range", 0, nil, inputs(scalar(1), scalar(8), scalar(3)), list(1, 4, 7)},
		{"Range", 0, nil, inputs(scalar(3), scalar(-1), scalar(-2)), list(3, 1)},
		{"Range", 0, nil, inputs(scalar(math.MaxInt64-2), scalar(math.MaxInt64), scalar(math.MaxInt64)), list(math.MaxInt64 - 2)},
		{"Range", 0, nil, inputs(scalar(3), scalar(3), scalar(1)), list()},
		{"Range", 0, nil, inputs(number64(0), number64(1), number64(0.5)), numbers(0, 0.5)},
		{"ReduceMax", 0, attrs{"axes": []int{1}}, inputs(ramped(2, 3)), intsOf(graph.Shape{2, 1}, 2, 5)},
		{"ReduceMax", 0, attrs{"axes": []int{0}, "keepdims": 0}, inputs(floatsOf(graph.Shape{0, 1})), numbers(math.Inf(-1))},
		{"ReduceMean", 18, attrs{"keepdims": 0}, inputs(ramped(2, 3), list(0)), list(1, 2, 3)},
		{"ReduceMin", 0, attrs{"axes": []int{-1}, "keepdims": 0}, inputs(numbers(3, 2)), number64(2)},
		{"ReduceProd", 0, attrs{"keepdims": 0}, inputs(list(3, 4)), scalar(12)},
		{"ReduceProd", 0, attrs{"keepdims": 0}, inputs(list()), scalar(1)},
		{"ReduceSum", 0, attrs{"noop_with_empty_axes": 1}, inputs(list(3, 4)), list(3, 4)},
		{"ReduceSum", 0, attrs{"keepdims": 0}, inputs(ramped(2, 2, 2), list(0, 2)), list(10, 18)},
		{"Reshape", 0, nil, inputs(ramped(2, 3), list(0, -1, 1)), ramped(2, 3, 1)},
		{"Reshape", 0, attrs{"allowzero": 1}, inputs(ramped(0, 2), list(5, 0)), ramped(5, 0)},
		{"Reshape", 0, nil, inputs(list(4), list()), scalar(4)},
		{"ScatterND", 0, nil, inputs(ramped(2, 2), intsOf(graph.Shape{1, 1}, -1), intsOf(graph.Shape{1, 2}, 8, 9)), intsOf(graph.Shape{2, 2}, 0, 1, 8, 9)},
		{"ScatterND", 0, nil, inputs(list(0, 1, 2), intsOf(graph.Shape{2, 1}, 2, 0), list(8, 9)), list(9, 1, 8)},
		{"Shape", 0, attrs{"start": -2}, inputs(ramped(2, 3, 4)), list(3, 4)},
		{"Size", 0, nil, inputs(ramped(2, 3)), scalar(6)},
		{"Slice", 0, nil, inputs(list(1, 2, 3, 4), list(1), list(math.MaxInt64), list(0), list(2)), list(2, 4)},
		{"Slice", 0, nil, inputs(list(1, 2, 3), list(-1), list(math.MinInt64), list(0), list(-1)), list(3, 2, 1)},
		{"Slice", 0, nil, inputs(list(1, 2, 3), list(2), list(math.MinInt64), list(0), list(math.MinInt64)), list(3)},
		{"Slice", 0, nil, inputs(list(1, 2), list(5), list(9)), list()},
		{"Slice", 9, attrs{"starts": []int{1}, "ends": []int{3}, "axes": []int{1}}, inputs(ramped(2, 3)), intsOf(graph.Shape{2, 2}, 1, 2, 4, 5)},
		{"Sqrt", 0, nil, inputs(numbers(2)), numbers(float64(float32(math.Sqrt2)))},
		{"Squeeze", 0, nil, inputs(ramped(1, 2, 1)), ramped(2)},
		{"Squeeze", 0, nil, inputs(ramped(1, 2, 1), list(-1)), ramped(1, 2)},
		{"Squeeze", 11, attrs{"axes": []int{0}}, inputs(ramped(1)), scalar(0)},
		{"Sub", 0, nil, inputs(list(3), scalar(5)), list(-2)},
		{"Tile", 0, nil, inputs(ramped(2, 1), list(2, 3)), intsOf(graph.Shape{4, 3}, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1)},
		{"Transpose", 0, nil, inputs(ramped(2, 3)), intsOf(graph.Shape{3, 2}, 0, 3, 1, 4, 2, 5)},
		{"Transpose", 0, attrs{"perm": []int{0, 2, 1}}, inputs(ramped(1, 2, 2)), intsOf(graph.Shape{1, 2, 2}, 0, 2, 1, 3)},
		{"Unsqueeze", 0, nil, inputs(ramped(2), list(0, -1)), ramped(1, 2, 1)},
		{"Unsqueeze", 11, attrs{"axes": []int{0}}, inputs(scalar(0)), list(0)},
		{"Where", 0, nil, inputs(list(1, 0), list(8, 8), scalar(9)), list(8, 9)},
	} {
		if c.opset == 0 {
			c.opset = 17
		}
		out, ok, err := evaluate(c.op, c.opset, c.attrs, c.in)
		if !ok || err != nil || len(out) != 1 {
			t.Errorf("%s %v: %v, known %v, error %v", c.op, c.attrs, out, ok, err)
			continue
		}
		if !same(out[0], *c.want) {
			t.Errorf("%s %v gives %v, want %v", c.op, c.attrs, out[0], *c.want)
		}
	}
}

// same allows for float32 sums that round in another order.
func same(a, b graph.Array) bool {
	near := func(x, y float64) bool {
		return x == y || math.Abs(x-y) <= 1e-6*max(1, math.Abs(y)) || math.IsNaN(x) && math.IsNaN(y)
	}
	return a.Shape.Equal(b.Shape) && (a.I == nil) == (b.I == nil) && slices.Equal(a.I, b.I) && slices.EqualFunc(a.F, b.F, near)
}

func TestSplitGivesEveryPart(t *testing.T) {
	x := ramped(5)
	for _, c := range []struct {
		opset int
		attrs attrs
		in    []*graph.Array
		want  [][]int64
	}{
		{17, nil, inputs(x, list(1, 4)), [][]int64{{0}, {1, 2, 3, 4}}},
		{11, attrs{"split": []int{2, 3}}, inputs(x), [][]int64{{0, 1}, {2, 3, 4}}},
		{18, attrs{"num_outputs": 2}, inputs(x), [][]int64{{0, 1, 2}, {3, 4}}},
	} {
		out, _, err := evaluate("Split", c.opset, c.attrs, c.in)
		var got [][]int64
		for _, a := range out {
			got = append(got, a.I)
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("opset %d: %v, %v, want %v", c.opset, got, err, c.want)
		}
	}
}

func TestNodesThatCannotBeComputedSayWhy(t *testing.T) {
	if _, ok, err := evaluate("Conv", 17, nil, nil); ok || err != nil {
		t.Errorf("Conv: known %v, error %v", ok, err)
	}
	for _, c := range []struct {
		op    string
		attrs attrs
		in    []*graph.Array
		want  string
	}{
		{"Add", nil, inputs(list(1, 2), list(1, 2, 3)), "do not fit together"},
		{"Add", nil, inputs(list(1), numbers(1)), "differ in type"},
		{"Add", nil, inputs(list(1), nil), "input 1 is missing"},
		{"Add", nil, inputs(list(1)), "takes 2 inputs"},
		{"Cast", attrs{"to": 8}, inputs(list(1)), "cannot become string"},
		{"Cast", attrs{"to": 7}, inputs(numbers(math.NaN())), "does not fit an integer"},
		{"Cast", attrs{"to": "int64"}, inputs(list(1)), "attribute to is a string"},
		{"Concat", attrs{"axis": 1}, inputs(ramped(2, 1), ramped(3, 1)), "differ outside axis 1"},
		{"Constant", nil, nil, "not one value"},
		{"Constant", attrs{"value_string": "a"}, nil, "value_string is not supported"},
		{"ConstantOfShape", nil, inputs(list(1<<40, 1<<40)), "more than 16777216 elements"},
		{"ConstantOfShape", nil, inputs(list(0, 1<<40)), "more than 16777216 elements"},
		{"ConstantOfShape", nil, inputs(list(-1)), "negative"},
		{"ConstantOfShape", nil, inputs(numbers(1)), "must be integers"},
		{"Div", nil, inputs(list(1), list(0)), "divided by zero"},
		{"Expand", nil, inputs(scalar(1), list(1<<12, 1<<13)), "more than 16777216 elements"},
		{"Flatten", attrs{"axis": 3}, inputs(ramped(2)), "no axis 3"},
		{"Floor", nil, inputs(list(1)), "floats only"},
		{"Gather", nil, inputs(list(1, 2), list(2)), "index 2 is out of range"},
		{"Gather", nil, inputs(list(1, 2), list(math.MinInt64)), "out of range"},
		{"Mod", nil, inputs(numbers(1), numbers(1)), "integers or booleans only"},
		{"Range", nil, inputs(scalar(math.MinInt64), scalar(math.MaxInt64), scalar(1)), "more than 16777216"},
		{"Range", nil, inputs(number64(0), number64(1), number64(0)), "more than 16777216"},
		{"Range", nil, inputs(scalar(0), scalar(1), scalar(0)), "the step is 0"},
		{"Reshape", nil, inputs(ramped(6), list(4, -1)), "do not fill"},
		{"Reshape", nil, inputs(ramped(6), list(1<<32, 1<<32)), "do not fill"},
		{"ScatterND", nil, inputs(list(1), intsOf(graph.Shape{1, 1}, 1), list(5)), "out of range"},
		{"Slice", nil, inputs(list(1), list(0), list(1), list(0), list(0)), "a step is 0"},
		{"Slice", nil, inputs(list(1), list(0, 0), list(1, 1), list(0, 0)), "given twice"},
		{"Split", nil, inputs(list(1, 2), list(1, 2)), "do not fill axis 0"},
		{"Split", nil, inputs(list(1, 2)), "cannot be split into 0"},
		{"Squeeze", nil, inputs(ramped(2), list(0)), "has size 2, not 1"},
		{"Tile", nil, inputs(list(1), list(1<<62)), "more than 16777216 elements"},
		{"Transpose", attrs{"perm": []int{0}}, inputs(ramped(2, 2)), "does not name every axis"},
		{"Unsqueeze", nil, inputs(ramped(2), list(0, -3)), "given twice"},
	} {
		out, ok, err := evaluate(c.op, 17, c.attrs, c.in)
		if !ok || out != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v, known %v, error %v, want %q", c.op, c.attrs, out, ok, err, c.want)
		}
	}
}

// nodeCase is one operator of ONNX's backend tests, its inputs and its outputs.
type nodeCase struct {
	name    string
	node    *pb.NodeProto
	opset   int
	in, out []*graph.Array
}

// nodeCases reads the cases of one node that evaluate knows, with tensors that can be decoded.
func nodeCases(t *testing.T, folder string) []nodeCase {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []nodeCase
	for _, path := range paths {
		m, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		nodes := m.proto.Graph.Node
		if len(nodes) != 1 || evaluators[nodes[0].GetOpType()] == nil {
			continue
		}
		c := nodeCase{name: filepath.Base(filepath.Dir(path)), node: nodes[0], opset: m.Opset()}
		data := filepath.Join(filepath.Dir(path), "test_data_set_0")
		var inOK, outOK bool
		c.in, inOK = arrays(filepath.Join(data, "input_"), len(m.Inputs()))
		c.out, outOK = arrays(filepath.Join(data, "output_"), len(m.Outputs()))
		for i, name := range c.node.Input {
			if name == "" { // left out
				c.in = slices.Insert(c.in, i, nil)
			}
		}
		if inOK && outOK {
			cases = append(cases, c)
		}
	}
	return cases
}

func arrays(prefix string, n int) (list []*graph.Array, ok bool) {
	for i := range n {
		v, err := ReadTensor(prefix + string(rune('0'+i)) + ".pb")
		if err != nil {
			return nil, false
		}
		a := arrayOf(v)
		list = append(list, &a)
	}
	return list, true
}

func TestConstantsAgreeWithONNXNodeCases(t *testing.T) {
	cases := nodeCases(t, "../../../testdata/onnx-node")
	if len(cases) < 150 {
		t.Fatalf("%d cases, which is too few", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			attrs, err := attributesOf(c.node)
			if err != nil {
				t.Fatal(err)
			}
			if c.node.GetOpType() == "Split" && len(c.in) == 1 && attrs["split"] == nil {
				attrs["num_outputs"] = len(c.out)
			}
			out, _, err := evaluate(c.node.GetOpType(), c.opset, attrs, c.in)
			if err != nil || len(out) != len(c.out) {
				t.Fatalf("%d outputs, want %d; %v", len(out), len(c.out), err)
			}
			for i, got := range out {
				if !same(got, *c.out[i]) {
					t.Errorf("output %d is %v, want %v", i, got, *c.out[i])
				}
			}
		})
	}
}

// script turns bytes into the arguments of a node; past their end it gives zeros.
type script []byte

func (s *script) below(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

func (s *script) int() int {
	odd := []int{math.MinInt64, math.MaxInt64, 1 << 40, -1 << 40}
	if v := s.below(20); v < 16 {
		return v - 6
	} else {
		return odd[v-16]
	}
}

func (s *script) array() *graph.Array {
	shape := graph.Shape{}
	for range s.below(4) {
		shape = append(shape, s.below(4))
	}
	a := graph.Zeros(shape)
	for i := range a.F {
		a.F[i] = float64(s.int()) / 4
	}
	if s.below(4) == 0 {
		return &a
	}
	return &graph.Array{Shape: shape, I: mapped(a.F, func(v float64) int64 { return int64(max(min(4*v, 1<<40), -1<<62)) })}
}

func (s *script) attribute() any {
	switch s.below(6) {
	case 0:
		return "none"
	case 1:
		return float64(s.int())
	case 2:
		return *s.array()
	case 3:
		return s.int()
	}
	v := make([]int, s.below(4))
	for i := range v {
		v[i] = s.int()
	}
	return v
}

func FuzzEvaluate(f *testing.F) {
	names := slices.Sorted(maps.Keys(evaluators))
	attributes := []string{"axis", "axes", "keepdims", "to", "perm", "starts", "ends", "start", "end", "split", "num_outputs", "fmod",
		"allowzero", "noop_with_empty_axes", "value", "reduction"}
	for i := range names {
		f.Add(uint8(i), uint8(17), []byte{2, 1, 2, 3, 7, 8, 9, 10, 11, 12, 1, 1, 1, 1, 7, 1, 1, 1, 1, 7, 1})
	}
	f.Fuzz(func(t *testing.T, kind, opset uint8, b []byte) {
		s := script(b)
		in := make([]*graph.Array, s.below(5))
		for i := range in {
			if s.below(8) > 0 {
				in[i] = s.array()
			}
		}
		attrs := map[string]any{}
		for range s.below(4) {
			attrs[attributes[s.below(len(attributes))]] = s.attribute()
		}
		name := names[int(kind)%len(names)]
		out, ok, err := evaluate(name, int(opset), attrs, in)
		if !ok || err != nil && out != nil {
			t.Fatalf("%s: %v, known %v, error %v", name, out, ok, err)
		}
		for _, a := range out {
			if len(a.F)+len(a.I) != a.Shape.Size() || a.F != nil && a.I != nil {
				t.Fatalf("%s gives %d elements of shape %v", name, len(a.F)+len(a.I), a.Shape)
			}
		}
	})
}
