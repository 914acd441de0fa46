package onnx_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

func TestNodeWithoutWhatItNeedsIsNoPanic(t *testing.T) {
	bare := node("Identity", "y", nil)
	silent := node("Identity", "y", []string{"w"})
	silent.Output = nil
	empty := node("Constant", "y", nil, &pb.AttributeProto{Name: proto.String("value"), Type: pb.AttributeProto_TENSOR.Enum()})
	for _, nodes := range [][]*pb.NodeProto{{bare}, {silent, node("Relu", "y", []string{"x"})}, {empty}} {
		m := parsed(t, modelProto([]*pb.ValueInfoProto{info("x", "batch", 4)}, []*pb.ValueInfoProto{info("y", "batch", 4)},
			[]*pb.TensorProto{weight("w", ramp(4, 0, 1), 4)}, nodes...))
		n, err := m.Lift(onnx.Lifting{})
		if err != nil {
			continue
		}
		graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("y", n.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, 2, 4)})["y"])
		})
	}
}

func TestOperatorOfAnotherDomainIsRefusedWithAWayOut(t *testing.T) {
	const domain = "pkg.torchlib"
	for _, c := range []struct {
		functions []*pb.FunctionProto
		reason    string
	}{
		{nil, "operators of domain pkg.torchlib cannot be trained; export the network in standard operators"},
		{[]*pb.FunctionProto{{Name: proto.String("Twice"), Domain: proto.String(domain)}},
			"a function of the file cannot be trained; inline it"},
	} {
		n := node("Twice", "y", []string{"x"})
		n.Domain = proto.String(domain)
		file := modelProto([]*pb.ValueInfoProto{info("x", "batch", 4)}, []*pb.ValueInfoProto{info("y", "batch", 4)}, nil, n)
		file.OpsetImport = append(file.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String(domain), Version: proto.Int64(1)})
		file.Functions = c.functions
		network, err := parsed(t, file).Lift(onnx.Lifting{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("y", network.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, 2, 4)})["y"])
		})
		if err == nil || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), "Twice_y") {
			t.Errorf("the error is %v, want one that names the node and says %q", err, c.reason)
		}
	}
}
