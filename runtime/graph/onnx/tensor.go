package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"distill/internal/hint"
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// element is how one data type is named and stored.
type element struct {
	name   string
	bits   int                       // per element in raw data; 0 where raw data is not allowed
	stored func(*pb.TensorProto) int // elements in the typed field; nil where several pack into one
}

func inInt32(t *pb.TensorProto) int  { return len(t.Int32Data) }
func inInt64(t *pb.TensorProto) int  { return len(t.Int64Data) }
func inUint64(t *pb.TensorProto) int { return len(t.Uint64Data) }

// elements are the data types of TensorProto.DataType. Numbers past BFLOAT16 came after IR version 8 (onnx.proto of 1.18).
var elements = map[pb.TensorProto_DataType]element{
	pb.TensorProto_FLOAT:      {"float32", 32, func(t *pb.TensorProto) int { return len(t.FloatData) }},
	pb.TensorProto_UINT8:      {"uint8", 8, inInt32},
	pb.TensorProto_INT8:       {"int8", 8, inInt32},
	pb.TensorProto_UINT16:     {"uint16", 16, inInt32},
	pb.TensorProto_INT16:      {"int16", 16, inInt32},
	pb.TensorProto_INT32:      {"int32", 32, inInt32},
	pb.TensorProto_INT64:      {"int64", 64, inInt64},
	pb.TensorProto_STRING:     {"string", 0, func(t *pb.TensorProto) int { return len(t.StringData) }},
	pb.TensorProto_BOOL:       {"bool", 8, inInt32},
	pb.TensorProto_FLOAT16:    {"float16", 16, inInt32},
	pb.TensorProto_DOUBLE:     {"float64", 64, func(t *pb.TensorProto) int { return len(t.DoubleData) }},
	pb.TensorProto_UINT32:     {"uint32", 32, inUint64},
	pb.TensorProto_UINT64:     {"uint64", 64, inUint64},
	pb.TensorProto_COMPLEX64:  {"complex64", 64, func(t *pb.TensorProto) int { return len(t.FloatData) / 2 }},
	pb.TensorProto_COMPLEX128: {"complex128", 128, func(t *pb.TensorProto) int { return len(t.DoubleData) / 2 }},
	pb.TensorProto_BFLOAT16:   {"bfloat16", 16, inInt32},
	17:                        {"float8e4m3fn", 8, inInt32},
	18:                        {"float8e4m3fnuz", 8, inInt32},
	19:                        {"float8e5m2", 8, inInt32},
	20:                        {"float8e5m2fnuz", 8, inInt32},
	21:                        {"uint4", 4, nil},
	22:                        {"int4", 4, nil},
	23:                        {"float4e2m1", 4, nil},
}

// dtype names a data type as Value does.
func dtype(t int32) string {
	if e, ok := elements[pb.TensorProto_DataType(t)]; ok {
		return e.name
	}
	return fmt.Sprintf("type %d", t)
}

// maxElements is far above what a model can hold and far below what overflows when multiplied by a type's size.
const maxElements = 1 << 40

// size is the number of elements: the product of the dimensions, checked.
func size(dims []int64) (int, error) {
	n := int64(1)
	for _, d := range dims {
		if d < 0 {
			return 0, fmt.Errorf("dimensions %v: one is negative", dims)
		}
		if d > 0 && n > maxElements/d {
			return 0, fmt.Errorf("dimensions %v: more than %d elements", dims, int64(maxElements))
		}
		n *= d
	}
	return int(n), nil
}

// Initializer decodes a constant of the graph, or what an Identity makes of one: float32, float64, float16 and bfloat16 to float32; int64 and int32 to int64.
// Other types, names that are no initializer, and external data are errors. The elements are a copy.
func (m *Model) Initializer(name string) (graph.Tensor, error) {
	t := m.initializer(name)
	if n := m.producers()[name]; t == nil && is(n, "Identity") {
		t = m.initializer(n.Input[0])
	}
	if t == nil {
		return graph.Tensor{}, fmt.Errorf("onnx: decode %s: the model has no initializer %q", m.name, name)
	}
	out, err := decode(t)
	if err != nil {
		return graph.Tensor{}, fmt.Errorf("onnx: decode %s: initializer %q: %w", m.name, name, err)
	}
	return out, nil
}

// initializer finds a constant by name; nil where there is none.
func (m *Model) initializer(name string) *pb.TensorProto {
	for _, t := range m.proto.Graph.Initializer {
		if t.GetName() == name {
			return t
		}
	}
	return nil
}

// decode turns a tensor of the file into one on the host.
func decode(t *pb.TensorProto) (graph.Tensor, error) {
	if external(t) {
		return graph.Tensor{}, hint.Wrap(errors.New("its data lies in another file, which is not read"),
			"store the model with its weights in one file, for example with onnx.save in Python")
	}
	if err := checkTensor(t); err != nil {
		return graph.Tensor{}, err
	}
	shape := make(graph.Shape, len(t.Dims))
	for i, d := range t.Dims {
		shape[i] = int(d)
	}
	n, raw := shape.Size(), t.RawData
	floats := func(at func(i int) float32) (graph.Tensor, error) {
		v := make([]float32, n)
		for i := range v {
			v[i] = at(i)
		}
		return graph.Tensor{Shape: shape, F: v}, nil
	}
	ints := func(at func(i int) int64) (graph.Tensor, error) {
		v := make([]int64, n)
		for i := range v {
			v[i] = at(i)
		}
		return graph.Tensor{Shape: shape, I: v}, nil
	}
	le := binary.LittleEndian
	// half reads 16 bits, which the typed field keeps in an int32 each.
	half := func(i int) uint16 {
		if raw != nil {
			return le.Uint16(raw[2*i:])
		}
		return uint16(t.Int32Data[i])
	}
	switch typ := pb.TensorProto_DataType(t.GetDataType()); {
	case typ == pb.TensorProto_FLOAT16:
		return floats(func(i int) float32 { return float16(half(i)) })
	case typ == pb.TensorProto_BFLOAT16:
		return floats(func(i int) float32 { return math.Float32frombits(uint32(half(i)) << 16) })
	case typ == pb.TensorProto_FLOAT && raw != nil:
		return floats(func(i int) float32 { return math.Float32frombits(le.Uint32(raw[4*i:])) })
	case typ == pb.TensorProto_FLOAT:
		return floats(func(i int) float32 { return t.FloatData[i] })
	case typ == pb.TensorProto_DOUBLE && raw != nil:
		return floats(func(i int) float32 { return float32(math.Float64frombits(le.Uint64(raw[8*i:]))) })
	case typ == pb.TensorProto_DOUBLE:
		return floats(func(i int) float32 { return float32(t.DoubleData[i]) })
	case typ == pb.TensorProto_INT64 && raw != nil:
		return ints(func(i int) int64 { return int64(le.Uint64(raw[8*i:])) })
	case typ == pb.TensorProto_INT64:
		return ints(func(i int) int64 { return t.Int64Data[i] })
	case typ == pb.TensorProto_BOOL && raw != nil:
		return ints(func(i int) int64 { return int64(raw[i]) })
	case typ == pb.TensorProto_BOOL:
		return ints(func(i int) int64 { return int64(t.Int32Data[i]) })
	case typ == pb.TensorProto_INT32 && raw != nil:
		return ints(func(i int) int64 { return int64(int32(le.Uint32(raw[4*i:]))) })
	case typ == pb.TensorProto_INT32:
		return ints(func(i int) int64 { return int64(t.Int32Data[i]) })
	}
	return graph.Tensor{}, fmt.Errorf("%s elements cannot be decoded", dtype(t.GetDataType()))
}

// float16 widens an IEEE 754 half-precision number; exact.
func float16(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, int(h>>10)&0x1f, uint32(h)&0x3ff
	switch exp {
	case 0: // zero and subnormal: frac · 2⁻²⁴
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	case 0x1f: // infinity and NaN
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | uint32(exp-15+127)<<23 | frac<<13)
}

// encode is the tensor as a file holds it: little-endian raw data.
func encode(name string, t graph.Tensor) *pb.TensorProto {
	typ, raw := pb.TensorProto_FLOAT, make([]byte, 0, 4*len(t.F)+8*len(t.I))
	if t.DType() == graph.Int64 {
		typ = pb.TensorProto_INT64
	}
	for _, v := range t.F {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	for _, v := range t.I {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	dims := make([]int64, len(t.Shape))
	for i, d := range t.Shape {
		dims[i] = int64(d)
	}
	return &pb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(typ)), RawData: raw}
}

// SetInitializer puts a constant under a name, replacing one that is there. The elements are copied. Where the graph
// lists its initializers as inputs too, as IR version 3 asks, that entry takes the type and shape of the tensor.
func (m *Model) SetInitializer(name string, t graph.Tensor) {
	g, p := m.proto.Graph, encode(name, t)
	isNew := true
	if i := slices.IndexFunc(g.Initializer, func(t *pb.TensorProto) bool { return t.GetName() == name }); i >= 0 {
		g.Initializer[i] = p
		isNew = false
	} else {
		g.Initializer = append(g.Initializer, p)
	}
	named := func(v *pb.ValueInfoProto) bool { return v.GetName() == name }
	g.ValueInfo = slices.DeleteFunc(g.ValueInfo, named)
	if i := slices.IndexFunc(g.Input, named); i >= 0 {
		g.Input[i] = valueInfo(p)
	} else if isNew && m.proto.GetIrVersion() < 4 {
		g.Input = append(g.Input, valueInfo(p))
	}
}

// valueInfo is the type of a constant.
func valueInfo(t *pb.TensorProto) *pb.ValueInfoProto {
	shape := &pb.TensorShapeProto{}
	for _, d := range t.Dims {
		shape.Dim = append(shape.Dim, &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
	}
	return &pb.ValueInfoProto{Name: t.Name, Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
		TensorType: &pb.TypeProto_Tensor{ElemType: t.DataType, Shape: shape}}}}
}
