package graph

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shape is the size of each dimension, outermost first; a scalar has none.
type Shape []int

// Size is the number of elements: the product of the dimensions, 1 for a scalar.
func (s Shape) Size() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal reports whether both shapes have the same dimensions.
func (s Shape) Equal(t Shape) bool { return slices.Equal(s, t) }

// Clone returns a copy that shares nothing.
func (s Shape) Clone() Shape { return slices.Clone(s) }

// String writes the shape as [64,3,32,32].
func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = strconv.Itoa(d)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// DType is the type of a tensor's elements.
type DType int

// The element types that travel between programs and the host.
const (
	Float32 DType = iota
	Int64
)

// String names the type as ONNX does.
func (d DType) String() string {
	if d == Int64 {
		return "int64"
	}
	return "float32"
}

// Tensor is a dense row-major array on the host: what goes into a program, comes out of it, and rests in a Store.
// Exactly one of F and I is set, of length Shape.Size(). Copying a Tensor shares its elements.
type Tensor struct {
	Shape Shape
	F     []float32
	I     []int64
}

// NewTensor is a tensor of zeros.
func NewTensor(t DType, shape ...int) Tensor {
	s := Shape(shape).Clone()
	if t == Int64 {
		return Tensor{Shape: s, I: make([]int64, s.Size())}
	}
	return Tensor{Shape: s, F: make([]float32, s.Size())}
}

// Floats is a float32 tensor over values, which it does not copy. It panics if the count does not fit the shape.
func Floats(values []float32, shape ...int) Tensor {
	t := Tensor{Shape: Shape(shape).Clone(), F: values}
	if len(values) != t.Shape.Size() {
		panic(fmt.Sprintf("graph: %d values do not fill shape %v", len(values), t.Shape))
	}
	return t
}

// Ints is an int64 tensor over values, which it does not copy. It panics if the count does not fit the shape.
func Ints(values []int64, shape ...int) Tensor {
	t := Tensor{Shape: Shape(shape).Clone(), I: values}
	if len(values) != t.Shape.Size() {
		panic(fmt.Sprintf("graph: %d values do not fill shape %v", len(values), t.Shape))
	}
	return t
}

// Scalar is a float32 tensor of rank 0.
func Scalar(v float32) Tensor { return Tensor{Shape: Shape{}, F: []float32{v}} }

// DType is the type of the elements.
func (t Tensor) DType() DType {
	if t.I != nil {
		return Int64
	}
	return Float32
}

// Clone returns a copy that shares no elements.
func (t Tensor) Clone() Tensor {
	return Tensor{Shape: t.Shape.Clone(), F: slices.Clone(t.F), I: slices.Clone(t.I)}
}
