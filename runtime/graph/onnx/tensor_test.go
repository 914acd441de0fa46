package onnx_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"distill/internal/hint"
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

func TestInitializersOfEveryNumberTypeAreDecoded(t *testing.T) {
	cases := []struct {
		name   string
		tensor *pb.TensorProto
		want   graph.Tensor
	}{
		{"float raw", &pb.TensorProto{Dims: []int64{2}, RawData: []byte{0, 0, 128, 63, 0, 0, 0, 192}}, graph.Floats([]float32{1, -2}, 2)},
		{"float typed", &pb.TensorProto{Dims: []int64{1, 2}, FloatData: []float32{1, -2}}, graph.Floats([]float32{1, -2}, 1, 2)},
		{"scalar", &pb.TensorProto{FloatData: []float32{3}}, graph.Scalar(3)},
		{"double raw", &pb.TensorProto{Dims: []int64{1}, RawData: []byte{0, 0, 0, 0, 0, 0, 248, 63}}, graph.Floats([]float32{1.5}, 1)},
		{"double typed", &pb.TensorProto{Dims: []int64{1}, DoubleData: []float64{1.5}}, graph.Floats([]float32{1.5}, 1)},
		{"float16 raw", &pb.TensorProto{Dims: []int64{4}, RawData: []byte{0, 60, 0, 192, 255, 123, 1, 0}},
			graph.Floats([]float32{1, -2, 65504, 0x1p-24}, 4)},
		{"float16 typed", &pb.TensorProto{Dims: []int64{3}, Int32Data: []int32{0x3555, 0x7c00, 0x8000}},
			graph.Floats([]float32{0x1.554p-2, float32(math.Inf(1)), 0}, 3)},
		{"bfloat16 raw", &pb.TensorProto{Dims: []int64{1}, RawData: []byte{0x80, 0xbf}}, graph.Floats([]float32{-1}, 1)},
		{"int64 raw", &pb.TensorProto{Dims: []int64{1}, RawData: []byte{254, 255, 255, 255, 255, 255, 255, 255}}, graph.Ints([]int64{-2}, 1)},
		{"int64 typed", &pb.TensorProto{Dims: []int64{1}, Int64Data: []int64{-2}}, graph.Ints([]int64{-2}, 1)},
		{"int32 raw", &pb.TensorProto{Dims: []int64{1}, RawData: []byte{254, 255, 255, 255}}, graph.Ints([]int64{-2}, 1)},
		{"int32 typed", &pb.TensorProto{Dims: []int64{1}, Int32Data: []int32{-2}}, graph.Ints([]int64{-2}, 1)},
		{"int64 empty", &pb.TensorProto{Dims: []int64{0}}, graph.NewTensor(graph.Int64, 0)},
	}
	types := map[string]pb.TensorProto_DataType{
		"float": pb.TensorProto_FLOAT, "scalar": pb.TensorProto_FLOAT, "double": pb.TensorProto_DOUBLE,
		"float16": pb.TensorProto_FLOAT16, "bfloat16": pb.TensorProto_BFLOAT16,
		"int64": pb.TensorProto_INT64, "int32": pb.TensorProto_INT32,
	}
	p := network()
	for _, c := range cases {
		kind, _, _ := strings.Cut(c.name, " ")
		c.tensor.Name, c.tensor.DataType = proto.String(c.name), proto.Int32(int32(types[kind]))
		p.Graph.Initializer = append(p.Graph.Initializer, c.tensor)
	}
	m := parsed(t, p)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := initializer(t, m, c.name)
			if !got.Shape.Equal(c.want.Shape) || got.DType() != c.want.DType() ||
				!slices.Equal(got.F, c.want.F) || !slices.Equal(got.I, c.want.I) {
				t.Errorf("decoded %v, want %v", got, c.want)
			}
		})
	}
}

func TestInitializersThatCannotBeDecodedSayWhy(t *testing.T) {
	p := network()
	p.Graph.Initializer = append(p.Graph.Initializer,
		&pb.TensorProto{Name: proto.String("mask"), DataType: proto.Int32(int32(pb.TensorProto_STRING)), StringData: [][]byte{{1}}},
		&pb.TensorProto{Name: proto.String("far"), DataType: proto.Int32(int32(pb.TensorProto_FLOAT)), Dims: []int64{1 << 30},
			DataLocation: pb.TensorProto_EXTERNAL.Enum(),
			ExternalData: []*pb.StringStringEntryProto{{Key: proto.String("location"), Value: proto.String("weights.bin")}}})
	m := parsed(t, p)
	for name, want := range map[string]string{
		"mask":  `initializer "mask": string elements cannot be decoded`,
		"far":   `initializer "far": its data lies in another file`,
		"ghost": `no initializer "ghost"`,
	} {
		_, err := m.Initializer(name)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "test.onnx") {
			t.Errorf("error %v, want %q of test.onnx", err, want)
		}
		if name == "far" && hint.Of(err) == "" {
			t.Errorf("error %v has no hint", err)
		}
	}
	if !m.Audit().ExternalData {
		t.Error("the audit misses external data")
	}
}

func TestSetInitializerReplacesAndAdds(t *testing.T) {
	m := parsed(t, network())
	m.SetInitializer("fc.bias", graph.Floats([]float32{7, 8, 9}, 3))
	m.SetInitializer("shape", graph.Ints([]int64{1, -1}, 2))
	if got := initializer(t, m, "fc.bias"); !slices.Equal(got.F, []float32{7, 8, 9}) {
		t.Errorf("fc.bias is %v", got)
	}
	if got := initializer(t, m, "shape"); !slices.Equal(got.I, []int64{1, -1}) {
		t.Errorf("shape is %v", got)
	}
	if got := len(decoded(t, m).Graph.Initializer); got != 8 {
		t.Errorf("%d initializers, want 8", got)
	}
}

func TestOldModelsListNewInitializersAsInputs(t *testing.T) {
	p := network()
	p.IrVersion = proto.Int64(3)
	for _, w := range p.Graph.Initializer {
		p.Graph.Input = append(p.Graph.Input, info(w.GetName()))
	}
	m := parsed(t, p)
	if got := m.Inputs(); len(got) != 1 || got[0].Name != "image" {
		t.Errorf("inputs %v, want the image alone", got)
	}
	m.SetInitializer("new", graph.Floats([]float32{1, 2}, 2))
	m.SetInitializer("fc.bias", graph.Floats([]float32{1, 2}, 1, 2))
	if got := m.Inputs(); len(got) != 1 {
		t.Errorf("inputs %v, want the image alone", got)
	}
	for _, in := range decoded(t, m).Graph.Input {
		if name := in.GetName(); name == "new" || name == "fc.bias" {
			if dims := in.GetType().GetTensorType().GetShape().GetDim(); dims[len(dims)-1].GetDimValue() != 2 {
				t.Errorf("input %s has dimensions %v", name, dims)
			}
		}
	}
}
