package graph

import (
	"fmt"
	"hash"
	"slices"

	"github.com/chewxy/hm"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Op is an operator: its shape rule, its plain evaluation and its lowering. An Op holds attributes only, never values,
// so that one value may serve many nodes.
type Op interface {
	// Name is the ONNX operator's name where there is one, else a name of ours.
	Name() string
	// Infer gives the shape of each output for the shapes of the inputs; it calls Fail on shapes it cannot take.
	// The first output is the node's value, others are reached through Output.
	Infer(in []Shape) []Shape
	// Eval computes every output in float64 with plain loops; it may return views of its inputs, never change them.
	Eval(in []Array) []Array
	// Lower emits the ONNX nodes that compute the outputs and returns their names.
	Lower(e Emitter, in []Operand) []string
}

// Differentiable is an Op with a gradient.
type Differentiable interface {
	Op
	// Wrt reports whether there is a gradient with respect to input i.
	Wrt(i int) bool
	// Grad builds the gradient for each input out of ops, given the output's gradient; nil where Wrt is false.
	Grad(in []*G.Node, out, dout *G.Node) []*G.Node
}

// Typed is an Op with an output that is not Float32.
type Typed interface {
	DType(output int) DType
}

// Placer is an Op that may put its only input among zeros.
type Placer interface {
	// Place is where an input of a shape begins, on the only axis along which there are zeros beside it; ok is false where it is put
	// in any other way.
	Place(in Shape) (axis, from int, ok bool)
}

// Operand is an input of an operator being lowered. The zero Operand is an absent optional input.
type Operand struct {
	Name  string
	Shape Shape
}

// Attr is an attribute of an ONNX node; Value is an int, float32, string, []int or []float32.
type Attr struct {
	Name  string
	Value any
}

// Target says what a model is lowered for. The zero Target is plain ONNX, as an exported file needs it.
type Target struct {
	Fused bool // the com.microsoft operators of ONNX Runtime may be used
	Block int  // channel block of its internal NCHWc convolution, 8 or 16; 0 where there is none
	Half  bool // convolutions and matrix products compute in float16, what is stored stays in float32; neither Fused nor Block count then
	// Portable does without what the kernels of some provider lack: batch norm in training mode, which neither CUDA nor WebGPU
	// has, and the indices of a MaxPool, which WebGPU lacks.
	Portable bool
	Winograd Winograd // of a Target with blocks
}

// Winograd says which convolutions of 3×3 are computed by Winograd's algorithm: with the gradients of them, by squares of the image,
// those of many channels in as little as half the time, with five times the rounding of the plain one in blocks, 1e-6 of a result; and
// where weights are given, by strips of it, those of fewer channels in two thirds of the time, with 1.5 times the rounding.
type Winograd uint8

// The choices.
const (
	WinogradNever Winograd = iota
	WinogradWhereFaster
	WinogradSquares // by squares, wherever that computes the same: for checks on small images
	WinogradStrips  // by strips, likewise
)

// Fills reports whether images of c channels are kept in blocks: where they fill one, and ONNX Runtime can reorder them.
func (t Target) Fills(c int) bool { return t.Block > 0 && c >= t.Block && c%4 == 0 }

// BlockedDomain prefixes the operators that only a Target with blocks has, "distill.blocked:ConvGradW": the layout pass over
// the lowered model writes them out.
const BlockedDomain = "distill.blocked"

// Emitter receives the ONNX nodes that operators lower to.
type Emitter interface {
	// Emit appends a node of one output, of the given shape, and returns the output's name. The operator may be
	// prefixed by a domain, as in "com.microsoft:FusedMatMul". Trailing absent inputs are left out.
	Emit(op string, out Shape, in []string, attrs ...Attr) string
	// EmitN appends a node with one output for each shape.
	EmitN(op string, outs []Shape, in []string, attrs ...Attr) []string
	// Const returns the name of a constant; equal constants share one.
	Const(t Tensor) string
	// Target is what is lowered for.
	Target() Target
	// Reads reports whether anything reads an output after the first, counted from 1, of the operator that is being lowered.
	Reads(output int) bool
}

// ConstInts returns the name of a constant int64 vector, the form in which ONNX takes axes, sizes and starts.
func ConstInts(e Emitter, values ...int) string {
	wide := make([]int64, len(values))
	for i, v := range values {
		wide[i] = int64(v)
	}
	return e.Const(Ints(wide, len(wide)))
}

// Array is a dense row-major array as the reference engine computes it: floats in float64. Exactly one of F and I is set.
type Array struct {
	Shape Shape
	F     []float64
	I     []int64
}

// Zeros is a float array of zeros.
func Zeros(s Shape) Array { return Array{Shape: s, F: make([]float64, s.Size())} }

// Error is a mistake in how a graph is put together: shapes that do not fit, a name used twice.
// Graph code panics with it, so that formulas read as formulas, and Build returns it.
type Error struct {
	Op     string
	Shapes []Shape
	Reason string
}

func (e *Error) Error() string {
	if len(e.Shapes) == 0 {
		return fmt.Sprintf("graph: %s: %s", e.Op, e.Reason)
	}
	return fmt.Sprintf("graph: %s of %v: %s", e.Op, e.Shapes, e.Reason)
}

// Fail panics with an *Error about the operator.
func Fail(op string, in []Shape, format string, args ...any) {
	panic(&Error{Op: op, Shapes: in, Reason: fmt.Sprintf(format, args...)})
}

// notEmpty fails on a shape without elements, which Gorgonia's tensors cannot have.
func notEmpty(op string, in []Shape, s Shape) {
	for _, d := range s {
		if d < 1 {
			Fail(op, in, "the shape %v has no elements", s)
		}
	}
}

// Apply adds a node that applies op to the inputs, which must belong to one graph. No shape may have a size of 0.
func Apply(op Op, in ...*G.Node) *G.Node {
	shapes := make([]Shape, len(in))
	for i, n := range in {
		shapes[i] = ShapeOf(n)
	}
	a := &apply{op: op, inputs: in, outputs: op.Infer(shapes)}
	for _, s := range a.outputs {
		notEmpty(op.Name(), shapes, s)
	}
	return a.node(op.Name(), shapes)
}

// Output is output i, counted from 0, of a node whose op has several. No gradient flows through outputs after the first.
func Output(n *G.Node, i int) *G.Node {
	a, ok := n.Op().(*apply)
	if !ok || i < 0 || i >= len(a.outputs) {
		Fail("Output", nil, "the node has no output %d", i)
	}
	if i == 0 {
		return n
	}
	sel := &apply{op: selector{of: a, index: i}, inputs: []*G.Node{n}, outputs: []Shape{a.outputs[i]}}
	return sel.node("Output", nil)
}

// selector reads an output other than the first of its only input.
type selector struct {
	of    *apply
	index int
}

func (s selector) Name() string          { return "Output" }
func (s selector) Infer([]Shape) []Shape { return []Shape{s.of.outputs[s.index]} }
func (s selector) Eval([]Array) []Array  { return []Array{s.of.results[s.index]} }
func (s selector) Lower(Emitter, []Operand) []string {
	panic("graph: a selector is renamed, not lowered")
}
func (s selector) DType(int) DType { return s.of.dtype(s.index) }

// apply is an Op at one place in a graph; it speaks Gorgonia's protocol for it.
type apply struct {
	op      Op
	inputs  []*G.Node
	outputs []Shape
	results []Array // of the last evaluation, for selectors; only the tape machine sets it
	id      uint32  // unique in the graph: Gorgonia merges nodes whose hashes agree
}

func (a *apply) node(name string, shapes []Shape) *G.Node {
	g := a.inputs[0].Graph()
	// Equal 32-bit hashes would return another node; the next id then makes another hash.
	for a.id = uint32(len(g.AllNodes())); ; a.id += 0x9e3779b9 {
		n, err := G.ApplyOp(a, a.inputs...)
		if err != nil {
			Fail(name, shapes, "%v", err)
		}
		if n.Op() == G.Op(a) {
			return n
		}
	}
}

func (a *apply) dtype(i int) DType {
	if t, ok := a.op.(Typed); ok {
		return t.DType(i)
	}
	return Float32
}

func (a *apply) Arity() int { return len(a.inputs) }

func (a *apply) Type() hm.Type {
	types := make([]hm.Type, 0, len(a.inputs)+1)
	for _, n := range a.inputs {
		types = append(types, nodeType(dtypeOf(n), ShapeOf(n)))
	}
	return hm.NewFnType(append(types, nodeType(a.dtype(0), a.outputs[0]))...)
}

func (a *apply) InferShape(...G.DimSizer) (tensor.Shape, error) {
	return tensor.Shape(a.outputs[0].Clone()), nil
}

func (a *apply) Do(values ...G.Value) (G.Value, error) {
	in := make([]Array, len(values))
	for i, v := range values {
		var err error
		if in[i], err = arrayOf(v); err != nil {
			return nil, fmt.Errorf("graph: %s, input %d: %w", a.op.Name(), i, err)
		}
	}
	a.results = a.op.Eval(in)
	return valueOf(a.results[0]), nil
}

func (a *apply) ReturnsPtr() bool     { return false }
func (a *apply) CallsExtern() bool    { return false }
func (a *apply) OverwritesInput() int { return -1 }
func (a *apply) Hashcode() uint32     { return a.id }
func (a *apply) String() string       { return fmt.Sprintf("%s#%d", a.op.Name(), a.id) }

func (a *apply) WriteHash(h hash.Hash) { fmt.Fprintf(h, "%s#%d", a.op.Name(), a.id) }

func (a *apply) DiffWRT(inputs int) []bool {
	wrt := make([]bool, inputs)
	if d, ok := a.op.(Differentiable); ok {
		for i := range wrt {
			wrt[i] = d.Wrt(i)
		}
	}
	return wrt
}

func (a *apply) SymDiff(in G.Nodes, out, dout *G.Node) (G.Nodes, error) {
	return a.op.(Differentiable).Grad(in, out, dout), nil
}

// ShapeOf is the shape of a node's value.
func ShapeOf(n *G.Node) Shape { return Shape(slices.Clone([]int(n.Shape()))) }

func dtypeOf(n *G.Node) DType {
	if n.Dtype() == tensor.Int64 {
		return Int64
	}
	return Float32
}

// nodeType is Gorgonia's type; the graph's floats are float64 there, since its tape machine is the reference.
func nodeType(t DType, s Shape) hm.Type {
	of := tensor.Float64
	if t == Int64 {
		of = tensor.Int64
	}
	if len(s) == 0 {
		return of
	}
	return G.TensorType{Dims: len(s), Of: of}
}

func valueOf(a Array) G.Value {
	switch {
	case len(a.Shape) == 0 && a.I != nil:
		return G.NewI64(a.I[0])
	case len(a.Shape) == 0:
		return G.NewF64(a.F[0])
	case a.I != nil:
		return tensor.New(tensor.WithShape(a.Shape...), tensor.WithBacking(a.I))
	}
	return tensor.New(tensor.WithShape(a.Shape...), tensor.WithBacking(a.F))
}

func arrayOf(v G.Value) (Array, error) {
	shape := Shape(slices.Clone([]int(v.Shape())))
	switch data := v.Data().(type) {
	case []float64:
		return Array{Shape: shape, F: data}, nil
	case []int64:
		return Array{Shape: shape, I: data}, nil
	case float64:
		return Array{Shape: shape, F: []float64{data}}, nil
	case int64:
		return Array{Shape: shape, I: []int64{data}}, nil
	}
	return Array{}, fmt.Errorf("a value of type %T has no place in a program", v)
}
