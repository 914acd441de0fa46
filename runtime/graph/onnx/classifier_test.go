package onnx_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
)

func TestClassifierIsTheLastDenseLayer(t *testing.T) {
	w, turned := []float32{1, 2, 3, 4, 5, 6}, []float32{1, 4, 2, 5, 3, 6} // [2,3] and its transpose
	for _, c := range []struct {
		name   string
		nodes  []*pb.NodeProto
		bias   []float32
		reason string // of the refusal
	}{
		{"Gemm", []*pb.NodeProto{node("Gemm", "y", []string{"x", "w", "b"}, intAttr("transB", 1))}, []float32{7, 8}, ""},
		{"Gemm, not transposed", []*pb.NodeProto{node("Gemm", "y", []string{"x", "wt", "b"})}, []float32{7, 8}, ""},
		{"Gemm without bias", []*pb.NodeProto{node("Gemm", "y", []string{"x", "w"}, intAttr("transB", 1))}, []float32{0, 0}, ""},
		{"MatMul", []*pb.NodeProto{node("MatMul", "y", []string{"x", "wt"})}, []float32{0, 0}, ""},
		{"MatMul and Add", []*pb.NodeProto{node("MatMul", "h", []string{"x", "wt"}), node("Add", "y", []string{"b", "h"})}, []float32{7, 8}, ""},
		{"looked through", []*pb.NodeProto{node("Gemm", "h", []string{"x", "wt", "b"}), node("Identity", "y", []string{"h"})}, []float32{7, 8}, ""},
		{"scaled", []*pb.NodeProto{node("Gemm", "h", []string{"x", "wt", "b"}), node("Mul", "y", []string{"h", "b"})}, nil, "come from a Mul"},
		{"transposed input", []*pb.NodeProto{node("Gemm", "y", []string{"x", "wt", "b"}, intAttr("transA", 1))}, nil, "scales or transposes"},
		{"bias of another size", []*pb.NodeProto{node("Gemm", "y", []string{"x", "wt", "three"})}, nil, `bias "three" is float32 [3] for 2 classes`},
		{"weight that is no constant", []*pb.NodeProto{node("MatMul", "y", []string{"x", "x"})}, nil, `no initializer "x"`},
		{"weight that is no matrix", []*pb.NodeProto{node("MatMul", "y", []string{"x", "three"})}, nil, "not a matrix"},
		{"an input", []*pb.NodeProto{node("Identity", "y", []string{"x"})}, nil, "no node's output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parsed(t, modelProto([]*pb.ValueInfoProto{info("x", "batch", 3)}, []*pb.ValueInfoProto{info("y", "batch", 2)},
				[]*pb.TensorProto{weight("w", w, 2, 3), weight("wt", turned, 3, 2), weight("b", []float32{7, 8}, 2), weight("three", ramp(3, 0, 1), 3)},
				c.nodes...))
			got, err := m.Classifier()
			if c.reason != "" {
				if err == nil || !strings.Contains(err.Error(), "test.onnx") || !strings.Contains(err.Error(), c.reason) {
					t.Errorf("error %v, want %q", err, c.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Features != "x" || !slices.Equal(got.Weight.F, w) || !slices.Equal(got.Weight.Shape, []int{2, 3}) || !slices.Equal(got.Bias.F, c.bias) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestNormOfATensorIsTheBatchNormThatGivesIt(t *testing.T) {
	p := network()
	m := parsed(t, p)
	gamma, beta, ok := m.Norm("/layer1/bn")
	if !ok || !slices.Equal(gamma.F, ramp(4, 0.5, 0.3)) || !slices.Equal(beta.F, ramp(4, -1, 0.4)) {
		t.Errorf("%v, %v, %v", gamma, beta, ok)
	}
	for _, name := range []string{"/layer1/relu", "image", "none"} {
		if _, _, ok := m.Norm(name); ok {
			t.Errorf("%s has a norm", name)
		}
	}
	p.Graph.Node[1].Input[1] = "image"
	p.Graph.Node[1].Name = proto.String("bn")
	if _, _, ok := parsed(t, p).Norm("/layer1/bn"); ok {
		t.Error("a scale that is no constant is one")
	}
}
