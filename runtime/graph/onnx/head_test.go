package onnx_test

import (
	"maps"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// number is a node that gives one number.
func number(out string, v float32) *pb.NodeProto {
	n := node("Constant", out, nil)
	value := &pb.AttributeProto{Name: proto.String("value"), Type: pb.AttributeProto_TENSOR.Enum(), T: weight("", []float32{v})}
	n.Attribute = append(n.Attribute, value)
	return n
}

func TestLastDenseLayersAreResized(t *testing.T) {
	gemm := func(out, x, w, b string) *pb.NodeProto {
		return node("Gemm", out, []string{x, w, b}, intAttr("transB", 1))
	}
	for _, c := range []struct {
		name  string
		nodes []*pb.NodeProto
		sizes map[string]string // of the weights of 3 classes
	}{
		{"one", []*pb.NodeProto{gemm("y", "x", "a", "p")}, map[string]string{"a": "[3,4]", "p": "[3]"}},
		{"product and sum", []*pb.NodeProto{node("MatMul", "h", []string{"x", "c"}), node("Add", "y", []string{"p", "h"})},
			map[string]string{"c": "[4,3]", "p": "[3]"}},
		{"the mean of two", []*pb.NodeProto{gemm("g", "x", "a", "p"), gemm("h", "x", "b", "q"),
			node("Add", "s", []string{"g", "h"}), number("two", 2), node("Div", "y", []string{"s", "two"})},
			map[string]string{"a": "[3,4]", "p": "[3]", "b": "[3,4]", "q": "[3]"}},
		{"a multiple", []*pb.NodeProto{gemm("g", "x", "a", "p"), node("Mul", "y", []string{"g", "half"})},
			map[string]string{"a": "[3,4]", "p": "[3]"}},
		{"scaled by class", []*pb.NodeProto{gemm("g", "x", "a", "p"), node("Mul", "y", []string{"g", "q"})}, nil},
		{"one read twice", []*pb.NodeProto{gemm("g", "x", "a", "p"), node("Add", "y", []string{"g", "g"})}, nil},
		{"another operator", []*pb.NodeProto{gemm("g", "x", "a", "p"), node("Softmax", "y", []string{"g"})}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parsed(t, modelProto([]*pb.ValueInfoProto{info("x", "batch", 4)}, []*pb.ValueInfoProto{info("y", "batch", 2)},
				[]*pb.TensorProto{weight("a", ramp(8, 0, 1), 2, 4), weight("b", ramp(8, 1, 1), 2, 4), weight("c", ramp(8, 2, 1), 4, 2),
					weight("p", ramp(2, 0, 1), 2), weight("q", ramp(2, 1, 1), 2), weight("half", []float32{0.5})}, c.nodes...))
			if _, err := m.Lift(onnx.Lifting{Classes: 2}); err != nil {
				t.Errorf("with the classes it has: %v", err)
			}
			n, err := m.Lift(onnx.Lifting{Classes: 3})
			if c.sizes == nil {
				if err == nil || !strings.Contains(err.Error(), "the output is no dense layer's") {
					t.Errorf("lifted with another number of classes: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p := built(t, graph.Training, func(g *graph.Graph) {
				g.Output("y", n.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, 2, 4)})["y"])
			})
			got := map[string]string{}
			for _, l := range p.Stored {
				got[l.Name] = l.Shape.String()
			}
			maps.DeleteFunc(got, func(name, size string) bool { return c.sizes[name] == "" && !strings.Contains(size, "3") })
			if !maps.Equal(got, c.sizes) {
				t.Errorf("the weights are %v, want %v", got, c.sizes)
			}
		})
	}
}
