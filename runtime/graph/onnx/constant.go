package onnx

import (
	"math"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// maxConstant bounds the elements of an array that evaluate makes: far above what shape arithmetic and masks need.
const maxConstant = 1 << 24

// evaluate computes a node whose inputs are all constants, such as exporters leave around shapes and masks. attrs are as
// in [op.Node]; an absent input is nil. Floats are float32 numbers, as which every result is rounded; integers of any
// type, and booleans as 0 and 1, are int64. A Split without sizes needs the number of its outputs as the attribute
// num_outputs. Results may share their elements with the inputs. ok is false for an operator that is not evaluated here;
// err is a *graph.Error.
func evaluate(kind string, opset int, attrs map[string]any, in []*graph.Array) (out []graph.Array, ok bool, err error) {
	f, ok := evaluators[kind]
	if !ok {
		return nil, false, nil
	}
	n := &op.Node{Op: kind, Opset: opset, Attrs: attrs, In: make([]op.Input, len(in))}
	for i, a := range in {
		n.In[i].Const = a
	}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *graph.Error:
			out, err = nil, e
		default:
			panic(e)
		}
	}()
	return f(n), true, nil
}

// evaluator computes the outputs of a node of constants; it fails by graph.Fail.
type evaluator func(n *op.Node) []graph.Array

// evaluators are the operators of shape arithmetic, by name.
var evaluators = map[string]evaluator{
	"Abs":             unary(math.Abs, func(v int64) int64 { return max(v, -v) }),
	"Add":             pairwise(add[float64], add[int64]),
	"And":             pairwise(nil, func(a, b int64) int64 { return truth(a != 0 && b != 0) }),
	"Cast":            cast,
	"Ceil":            unary(math.Ceil, nil),
	"Clip":            clip,
	"Concat":          concat,
	"Constant":        constantValue,
	"ConstantOfShape": constantOfShape,
	"Div":             pairwise(func(a, b float64) float64 { return a / b }, divide),
	"Equal":           compare(equal[float64], equal[int64]),
	"Expand":          expand,
	"Flatten":         flatten,
	"Floor":           unary(math.Floor, nil),
	"Gather":          gather,
	"Greater":         compare(greater[float64], greater[int64]),
	"GreaterOrEqual":  compare(atLeast[float64], atLeast[int64]),
	"Identity":        func(n *op.Node) []graph.Array { return one(operand(n, 0)) },
	"Less":            compare(less[float64], less[int64]),
	"LessOrEqual":     compare(atMost[float64], atMost[int64]),
	"Max":             variadic(larger[float64], larger[int64]),
	"Min":             variadic(smaller[float64], smaller[int64]),
	"Mod":             modulo,
	"Mul":             pairwise(mul[float64], mul[int64]),
	"Neg":             unary(neg[float64], neg[int64]),
	"Not":             unary(nil, func(v int64) int64 { return truth(v == 0) }),
	"Or":              pairwise(nil, func(a, b int64) int64 { return truth(a != 0 || b != 0) }),
	"Pow":             power,
	"Range":           arithmeticRange,
	"ReduceMax":       reduction(math.Inf(-1), larger[float64], math.MinInt64, larger[int64]),
	"ReduceMean":      reduceMean,
	"ReduceMin":       reduction(math.Inf(1), smaller[float64], math.MaxInt64, smaller[int64]),
	"ReduceProd":      reduction(1, mul[float64], 1, mul[int64]),
	"ReduceSum":       reduction(0, add[float64], 0, add[int64]),
	"Reshape":         reshape,
	"ScatterND":       scatterND,
	"Shape":           shapeOf,
	"Size":            func(n *op.Node) []graph.Array { return ints(graph.Shape{}, []int64{int64(count(operand(n, 0)))}) },
	"Slice":           slice,
	"Split":           split,
	"Sqrt":            unary(math.Sqrt, nil),
	"Squeeze":         squeeze,
	"Sub":             pairwise(func(a, b float64) float64 { return a - b }, func(a, b int64) int64 { return a - b }),
	"Tile":            tile,
	"Transpose":       transpose,
	"Unsqueeze":       unsqueeze,
	"Where":           where,
}

type number interface{ int64 | float64 }

func add[T number](a, b T) T      { return a + b }
func mul[T number](a, b T) T      { return a * b }
func neg[T number](a T) T         { return -a }
func larger[T number](a, b T) T   { return max(a, b) }
func smaller[T number](a, b T) T  { return min(a, b) }
func equal[T number](a, b T) bool { return a == b }
func less[T number](a, b T) bool  { return a < b }

func greater[T number](a, b T) bool { return a > b }
func atLeast[T number](a, b T) bool { return a >= b }
func atMost[T number](a, b T) bool  { return a <= b }

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// divide truncates toward zero.
func divide(a, b int64) int64 {
	if b == 0 {
		graph.Fail("Div", nil, "an integer is divided by zero")
	}
	return a / b
}

// refuse fails with the shapes of the node's inputs.
func refuse(n *op.Node, format string, args ...any) {
	var shapes []graph.Shape
	for i := range n.In {
		if n.Has(i) {
			shapes = append(shapes, n.In[i].Const.Shape)
		}
	}
	graph.Fail(n.Op, shapes, format, args...)
}

// operand is input i, which must be there.
func operand(n *op.Node, i int) graph.Array {
	if !n.Has(i) {
		refuse(n, "input %d is missing", i)
	}
	return *n.In[i].Const
}

func count(a graph.Array) int { return len(a.F) + len(a.I) }

func one(a graph.Array) []graph.Array { return []graph.Array{a} }

// floats is an array over v, which it rounds to float32: that is what the model would hold.
func floats(s graph.Shape, v []float64) []graph.Array {
	for i, x := range v {
		v[i] = float64(float32(x))
	}
	return one(graph.Array{Shape: s, F: v})
}

func ints(s graph.Shape, v []int64) []graph.Array { return one(graph.Array{Shape: s, I: v}) }

func mapped[T, R any](x []T, f func(T) R) []R {
	y := make([]R, len(x))
	for i, v := range x {
		y[i] = f(v)
	}
	return y
}

func zipped[T, R any](a, b []T, f func(a, b T) R) []R {
	y := make([]R, len(a))
	for i := range a {
		y[i] = f(a[i], b[i])
	}
	return y
}

// known refuses an array of a type for which there is no function.
func known(n *op.Node, a graph.Array, floats, ints bool) {
	if a.I == nil && !floats {
		refuse(n, "it takes integers or booleans only")
	}
	if a.I != nil && !ints {
		refuse(n, "it takes floats only")
	}
}

func unary(f func(float64) float64, i func(int64) int64) evaluator {
	return func(n *op.Node) []graph.Array {
		x := operand(n, 0)
		known(n, x, f != nil, i != nil)
		if x.I != nil {
			return ints(x.Shape, mapped(x.I, i))
		}
		return floats(x.Shape, mapped(x.F, f))
	}
}

// aligned broadcasts two arrays of one type to one shape.
func aligned(n *op.Node, x, y graph.Array) (graph.Array, graph.Array) {
	if (x.I == nil) != (y.I == nil) {
		refuse(n, "the inputs differ in type")
	}
	if _, old := n.Attrs["axis"]; old && n.Opset < 7 {
		refuse(n, "broadcasting by the attribute axis, of opset 6, is not supported")
	}
	s := broadcast(n, x.Shape, y.Shape)
	return stretched(n, x, s), stretched(n, y, s)
}

// variadic combines any number of inputs, from the first on.
func variadic(f func(a, b float64) float64, i func(a, b int64) int64) evaluator {
	return func(n *op.Node) []graph.Array {
		x := operand(n, 0)
		for k := 1; k < len(n.In); k++ {
			a, b := aligned(n, x, operand(n, k))
			known(n, a, f != nil, i != nil)
			if a.I != nil {
				x = ints(a.Shape, zipped(a.I, b.I, i))[0]
			} else {
				x = floats(a.Shape, zipped(a.F, b.F, f))[0]
			}
		}
		return one(x)
	}
}

// clip limits to bounds that are attributes, or since opset 11 inputs that may be left out.
func clip(n *op.Node) []graph.Array {
	x := operand(n, 0)
	if n.Opset < 11 {
		lo, hi := n.Float("min", math.Inf(-1)), n.Float("max", math.Inf(1))
		return unary(func(v float64) float64 { return min(max(v, lo), hi) }, nil)(n)
	}
	limited := *n
	for i, choose := range []evaluator{variadic(larger[float64], larger[int64]), variadic(smaller[float64], smaller[int64])} {
		if n.Has(i + 1) {
			limited.In = []op.Input{{Const: &x}, n.In[i+1]}
			x = choose(&limited)[0]
		}
	}
	return one(x)
}

func pairwise(f func(a, b float64) float64, i func(a, b int64) int64) evaluator {
	combine := variadic(f, i)
	return func(n *op.Node) []graph.Array {
		if len(n.In) != 2 {
			refuse(n, "takes 2 inputs")
		}
		return combine(n)
	}
}

func compare(f func(a, b float64) bool, i func(a, b int64) bool) evaluator {
	return func(n *op.Node) []graph.Array {
		x, y := aligned(n, operand(n, 0), operand(n, 1))
		hold := zipped(x.F, y.F, f)
		if x.I != nil {
			hold = zipped(x.I, y.I, i)
		}
		return ints(x.Shape, mapped(hold, truth))
	}
}

// modulo has the sign of the divisor, or with fmod, as in C, that of the dividend.
func modulo(n *op.Node) []graph.Array {
	if n.Int("fmod", 0) == 1 {
		return pairwise(math.Mod, remainder)(n)
	}
	return pairwise(nil, func(a, b int64) int64 {
		r := remainder(a, b)
		if r != 0 && (r < 0) != (b < 0) {
			r += b
		}
		return r
	})(n)
}

func remainder(a, b int64) int64 {
	if b == 0 {
		graph.Fail("Mod", nil, "an integer is divided by zero")
	}
	return a % b
}

// power gives the type of the base; the exponent may be of another.
func power(n *op.Node) []graph.Array {
	x, y := operand(n, 0), operand(n, 1)
	s := broadcast(n, x.Shape, y.Shape)
	base, exp := stretched(n, x, s), stretched(n, y, s)
	if base.I != nil && exp.I != nil {
		return ints(s, zipped(base.I, exp.I, intPower))
	}
	v := zipped(wide(base), wide(exp), math.Pow)
	if base.I != nil {
		return ints(s, mapped(v, truncated))
	}
	return floats(s, v)
}

// intPower is a^b, which wraps around as a product of integers does.
func intPower(a, b int64) int64 {
	if b < 0 {
		return truncated(math.Pow(float64(a), float64(b)))
	}
	p := int64(1)
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			p *= a
		}
		a *= a
	}
	return p
}

// wide is the elements as floats.
func wide(a graph.Array) []float64 {
	if a.I == nil {
		return a.F
	}
	return mapped(a.I, func(v int64) float64 { return float64(v) })
}

// truncated rounds toward zero.
func truncated(v float64) int64 {
	if !(v >= -0x1p63 && v < 0x1p63) {
		graph.Fail("Cast", nil, "%g does not fit an integer", v)
	}
	return int64(v)
}

// integers narrow to a type as C does: the low bits remain.
var integers = map[pb.TensorProto_DataType]func(int64) int64{
	pb.TensorProto_INT8:   func(v int64) int64 { return int64(int8(v)) },
	pb.TensorProto_INT16:  func(v int64) int64 { return int64(int16(v)) },
	pb.TensorProto_INT32:  func(v int64) int64 { return int64(int32(v)) },
	pb.TensorProto_INT64:  func(v int64) int64 { return v },
	pb.TensorProto_UINT8:  func(v int64) int64 { return int64(uint8(v)) },
	pb.TensorProto_UINT16: func(v int64) int64 { return int64(uint16(v)) },
	pb.TensorProto_UINT32: func(v int64) int64 { return int64(uint32(v)) },
	pb.TensorProto_UINT64: func(v int64) int64 { return v },
}

// cast converts; float to integer truncates toward zero, and any number but 0 is true.
func cast(n *op.Node) []graph.Array {
	x, to := operand(n, 0), pb.TensorProto_DataType(n.Int("to", 0))
	switch narrow := integers[to]; {
	case to == pb.TensorProto_FLOAT || to == pb.TensorProto_DOUBLE:
		return floats(x.Shape, mapped(wide(x), func(v float64) float64 { return v }))
	case to == pb.TensorProto_BOOL:
		return ints(x.Shape, mapped(wide(x), func(v float64) int64 { return truth(v != 0) }))
	case narrow != nil && x.I != nil:
		return ints(x.Shape, mapped(x.I, narrow))
	case narrow != nil:
		return ints(x.Shape, mapped(x.F, func(v float64) int64 { return narrow(truncated(v)) }))
	}
	refuse(n, "a constant cannot become %s", dtype(int32(to)))
	return nil
}
