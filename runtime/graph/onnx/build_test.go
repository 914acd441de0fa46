package onnx_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// modelProto is a model with float32 tensor inputs and outputs, of the given dimensions for a number and a symbol for a string.
func modelProto(inputs, outputs []*pb.ValueInfoProto, weights []*pb.TensorProto, nodes ...*pb.NodeProto) *pb.ModelProto {
	return &pb.ModelProto{
		IrVersion:    proto.Int64(8),
		ProducerName: proto.String("test"),
		OpsetImport:  []*pb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(17)}},
		Graph: &pb.GraphProto{
			Name: proto.String("g"), Node: nodes, Initializer: weights, Input: inputs, Output: outputs,
		},
	}
}

// info is a float32 value; a dimension is an int, or a string for a symbol.
func info(name string, dims ...any) *pb.ValueInfoProto {
	shape := &pb.TensorShapeProto{}
	for _, d := range dims {
		var dim pb.TensorShapeProto_Dimension
		switch d := d.(type) {
		case int:
			dim.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
		case string:
			dim.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: d}
		}
		shape.Dim = append(shape.Dim, &dim)
	}
	return &pb.ValueInfoProto{Name: proto.String(name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
		TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(int32(pb.TensorProto_FLOAT)), Shape: shape}}}}
}

// weight is a float32 initializer in the typed field.
func weight(name string, values []float32, dims ...int64) *pb.TensorProto {
	return &pb.TensorProto{
		Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(pb.TensorProto_FLOAT)), FloatData: values,
	}
}

// ramp is n values that all differ.
func ramp(n int, from, step float32) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = from + step*float32(i)
	}
	return v
}

// node has one output, which its name is made from.
func node(op, out string, inputs []string, attributes ...*pb.AttributeProto) *pb.NodeProto {
	return &pb.NodeProto{
		OpType: proto.String(op), Name: proto.String(op + "_" + out), Input: inputs, Output: []string{out}, Attribute: attributes,
	}
}

func intAttr(name string, v int64) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func floatAttr(name string, v float32) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}

func intsAttr(name string, v ...int64) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_INTS.Enum(), Ints: v}
}

// network is Conv, BatchNormalization, Relu, GlobalAveragePool, Flatten, Gemm, Softmax on [batch,2,4,4], three classes.
func network() *pb.ModelProto {
	return modelProto(
		[]*pb.ValueInfoProto{info("image", "batch", 2, 4, 4)},
		[]*pb.ValueInfoProto{info("probs", "batch", 3)},
		[]*pb.TensorProto{
			weight("conv1.weight", ramp(4*2*9, -0.4, 0.011), 4, 2, 3, 3),
			weight("bn1.weight", ramp(4, 0.5, 0.3), 4), weight("bn1.bias", ramp(4, -1, 0.4), 4),
			weight("bn1.running_mean", ramp(4, 0.1, -0.2), 4), weight("bn1.running_var", ramp(4, 0.2, 0.7), 4),
			weight("fc.weight", ramp(12, 0.3, -0.07), 3, 4), weight("fc.bias", ramp(3, 0, 1), 3),
		},
		node("Conv", "/layer1/conv", []string{"image", "conv1.weight"}, intsAttr("pads", 1, 1, 1, 1)),
		node("BatchNormalization", "/layer1/bn",
			[]string{"/layer1/conv", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"}),
		node("Relu", "/layer1/relu", []string{"/layer1/bn"}),
		node("GlobalAveragePool", "pool", []string{"/layer1/relu"}),
		node("Flatten", "flat", []string{"pool"}),
		node("Gemm", "logits", []string{"flat", "fc.weight", "fc.bias"}, intAttr("transB", 1)),
		node("Softmax", "probs", []string{"logits"}, intAttr("axis", 1)),
	)
}

func encoded(t testing.TB, p *pb.ModelProto) []byte {
	t.Helper()
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, p *pb.ModelProto) *onnx.Model {
	t.Helper()
	m, err := onnx.Parse(encoded(t, p), "test.onnx")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// decoded is what a file of the model holds; it fails the test if that is not well formed.
func decoded(t testing.TB, m *onnx.Model) *pb.ModelProto {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := onnx.Parse(b, "written.onnx"); err != nil {
		t.Fatal(err)
	}
	var p pb.ModelProto
	if err := proto.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

func initializer(t testing.TB, m *onnx.Model, name string) graph.Tensor {
	t.Helper()
	tensor, err := m.Initializer(name)
	if err != nil {
		t.Fatal(err)
	}
	return tensor
}

func initializerNames(p *pb.ModelProto) []string {
	var names []string
	for _, t := range p.Graph.Initializer {
		names = append(names, t.GetName())
	}
	return names
}

func nodeOps(p *pb.ModelProto) []string {
	var ops []string
	for _, n := range p.Graph.Node {
		ops = append(ops, n.GetOpType())
	}
	return ops
}
