package runtime

import (
	"fmt"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"distill/runtime/graph"
)

// dtype is how a graph.Tensor carries elements of one ONNX type.
type dtype struct {
	scalar func() (ort.Value, error)             // allocates a value of rank 0
	tensor func(ort.Value) (graph.Tensor, error) // reads a value, sharing its elements where they need no conversion
}

// By ONNX's name: the types that can be read. Float64 rounds to float32; whole numbers and booleans widen to int64.
var dtypes = map[string]dtype{
	"float32": carried(func(x []float32) graph.Tensor { return graph.Tensor{F: x} }),
	"int64":   carried(func(x []int64) graph.Tensor { return graph.Tensor{I: x} }),
	"float64": carried(narrow),
	"int32":   carried(widen[int32]),
	"int16":   carried(widen[int16]),
	"int8":    carried(widen[int8]),
	"uint32":  carried(widen[uint32]),
	"uint16":  carried(widen[uint16]),
	"uint8":   carried(widen[uint8]),
	"bool":    carried(bits),
}

// dtypeName names an element type as ONNX does.
func dtypeName(t ort.TensorElementDataType) string {
	switch name := strings.ToLower(strings.TrimPrefix(t.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_")); name {
	case "float":
		return "float32"
	case "double":
		return "float64"
	default:
		return name
	}
}

func carried[T ort.TensorData](convert func([]T) graph.Tensor) dtype {
	return dtype{
		scalar: func() (ort.Value, error) { return ort.NewEmptyScalar[T]() },
		tensor: func(v ort.Value) (graph.Tensor, error) {
			var t graph.Tensor
			switch v := v.(type) {
			case *ort.Scalar[T]:
				t = convert([]T{v.GetData()})
			case *ort.Tensor[T]:
				t = convert(v.GetData())
			default:
				return t, fmt.Errorf("cannot read a %T", v)
			}
			t.Shape = fromDims(v.GetShape())
			return t, nil
		},
	}
}

func narrow(x []float64) graph.Tensor {
	f := make([]float32, len(x))
	for i, v := range x {
		f[i] = float32(v)
	}
	return graph.Tensor{F: f}
}

func widen[T int8 | int16 | int32 | uint8 | uint16 | uint32](x []T) graph.Tensor {
	n := make([]int64, len(x))
	for i, v := range x {
		n[i] = int64(v)
	}
	return graph.Tensor{I: n}
}

func bits(x []bool) graph.Tensor {
	n := make([]int64, len(x))
	for i, v := range x {
		if v {
			n[i] = 1
		}
	}
	return graph.Tensor{I: n}
}

// wrap makes an ONNX Runtime value over t's elements, which it does not copy: what either side writes, the other sees. Only
// a tensor of rank 0 is copied, for onnxruntime_go has no other way: wrap it again when it changes. The value keeps t's
// elements alive and must be destroyed; t outlives it.
func wrap(t graph.Tensor) (ort.Value, error) {
	if t.DType() == graph.Int64 {
		return wrapElements(t.Shape, t.I)
	}
	return wrapElements(t.Shape, t.F)
}

func wrapElements[T float32 | int64](shape graph.Shape, elements []T) (ort.Value, error) {
	if len(elements) != shape.Size() {
		return nil, fmt.Errorf("%d elements do not fill shape %v", len(elements), shape)
	}
	if len(shape) == 0 {
		return ort.NewScalar(elements[0])
	}
	dims := make(ort.Shape, len(shape))
	for i, d := range shape {
		dims[i] = int64(d)
	}
	return ort.NewTensor(dims, elements)
}

// unwrap reads a value that a run has filled, sharing its elements where they are float32 or int64 and of rank 1 or more.
// The elements stay valid after the value is destroyed.
func unwrap(v ort.Value) (graph.Tensor, error) {
	name := dtypeName(ort.TensorElementDataType(v.DataType()))
	d, ok := dtypes[name]
	if !ok {
		return graph.Tensor{}, fmt.Errorf("cannot read elements of type %s", name)
	}
	return d.tensor(v)
}

func fromDims(dims ort.Shape) graph.Shape {
	shape := make(graph.Shape, len(dims))
	for i, d := range dims {
		shape[i] = int(d)
	}
	return shape
}

func destroy(values []ort.Value) {
	for _, v := range values {
		v.Destroy()
	}
}
