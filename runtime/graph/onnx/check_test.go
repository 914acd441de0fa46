package onnx_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph/onnx"
)

func TestModelsThatAreNotWellFormedAreRefused(t *testing.T) {
	raw := func(typ pb.TensorProto_DataType, bytes int, dims ...int64) *pb.TensorProto {
		return &pb.TensorProto{Name: proto.String("w"), Dims: dims, DataType: proto.Int32(int32(typ)), RawData: make([]byte, bytes)}
	}
	elsewhere := func(location string) *pb.TensorProto {
		return &pb.TensorProto{Name: proto.String("w"), Dims: []int64{4}, DataType: proto.Int32(1),
			DataLocation: pb.TensorProto_EXTERNAL.Enum(),
			ExternalData: []*pb.StringStringEntryProto{{Key: proto.String("location"), Value: proto.String(location)}}}
	}
	add := func(w *pb.TensorProto) func(*pb.ModelProto) {
		return func(p *pb.ModelProto) { p.Graph.Initializer = append(p.Graph.Initializer, w) }
	}
	for name, c := range map[string]struct {
		spoil func(p *pb.ModelProto)
		want  string
	}{
		"no graph":          {func(p *pb.ModelProto) { p.Graph = nil }, "it has no graph"},
		"no ir version":     {func(p *pb.ModelProto) { p.IrVersion = nil }, "ir_version is 0"},
		"no operator set":   {func(p *pb.ModelProto) { p.OpsetImport = nil }, "imports no operator set"},
		"operator set zero": {func(p *pb.ModelProto) { p.OpsetImport[0].Version = nil }, `operator set "ai.onnx" has version 0`},
		"no outputs":        {func(p *pb.ModelProto) { p.Graph.Output = nil }, "the graph has no outputs"},
		"unknown domain": {func(p *pb.ModelProto) { p.Graph.Node[0].Domain = proto.String("com.example") },
			`node 0 "Conv_/layer1/conv" (Conv): the model does not import its operator set "com.example"`},
		"unknown name": {func(p *pb.ModelProto) { p.Graph.Node[2].Input[0] = "ghost" },
			`node 2 "Relu_/layer1/relu" (Relu): nothing before it defines "ghost"`},
		"order": {func(p *pb.ModelProto) { n := p.Graph.Node; n[2], n[3] = n[3], n[2] },
			`nothing before it defines "/layer1/relu"; "Relu_/layer1/relu" (Relu) comes later`},
		"unknown output": {func(p *pb.ModelProto) { p.Graph.Output[0].Name = proto.String("ghost") }, `output 0: nothing before it defines "ghost"`},
		"name defined twice": {func(p *pb.ModelProto) { p.Graph.Node[3].Output[0] = "/layer1/bn" },
			`its output "/layer1/bn" is defined already`},
		"input twice":        {func(p *pb.ModelProto) { p.Graph.Input = append(p.Graph.Input, p.Graph.Input[0]) }, `input "image" occurs twice`},
		"no operator":        {func(p *pb.ModelProto) { p.Graph.Node[0].OpType = nil }, "it names no operator"},
		"initializer twice":  {add(weight("fc.bias", ramp(3, 0, 1), 3)), `initializer "fc.bias": the name occurs twice`},
		"too few bytes":      {add(raw(pb.TensorProto_FLOAT, 15, 2, 2)), `initializer "w": 15 bytes of data do not fill float32 [2 2], which takes 16`},
		"too many bytes":     {add(raw(pb.TensorProto_FLOAT16, 10, 2, 2)), "which takes 8"},
		"too few elements":   {add(weight("w", ramp(3, 0, 1), 2, 2)), "3 elements do not fill float32 [2 2]"},
		"no data":            {add(weight("w", nil, 2, 2)), "0 elements do not fill float32 [2 2]"},
		"negative":           {add(raw(pb.TensorProto_FLOAT, 4, -1)), "dimensions [-1]: one is negative"},
		"overflow":           {add(raw(pb.TensorProto_INT8, 0, 1<<32, 1<<32)), "dimensions [4294967296 4294967296]: more than"},
		"raw strings":        {add(raw(pb.TensorProto_STRING, 1, 1)), "string data cannot be raw bytes"},
		"no type":            {add(raw(pb.TensorProto_UNDEFINED, 4, 1)), "it has no data type"},
		"segments":           {add(&pb.TensorProto{Name: proto.String("w"), DataType: proto.Int32(1), Segment: &pb.TensorProto_Segment{}}), "segments"},
		"outside the folder": {add(elsewhere("../../etc/passwd")), `"../../etc/passwd", outside the folder of the model`},
		"absolute":           {add(elsewhere("/etc/passwd")), "outside the folder of the model"},
		"no location":        {add(elsewhere("")), "in another file, which it does not name"},
		"bad constant": {func(p *pb.ModelProto) {
			p.Graph.Node[0].Attribute = append(p.Graph.Node[0].Attribute,
				&pb.AttributeProto{Name: proto.String("value"), T: raw(pb.TensorProto_FLOAT, 3, 1)})
		}, `attribute "value": 3 bytes of data`},
	} {
		t.Run(name, func(t *testing.T) {
			p := network()
			c.spoil(p)
			_, err := onnx.Parse(encoded(t, p), "bad.onnx")
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bad.onnx") {
				t.Errorf("error %v, want one that names bad.onnx and says %q", err, c.want)
			}
		})
	}
}

func TestSubgraphsSeeTheGraphAroundThem(t *testing.T) {
	parsed(t, branching())

	p := branching()
	p.Graph.Node[2].Attribute[1].G.Node[0].Input[0] = "then_branch.y" // of the other branch
	_, err := onnx.Parse(encoded(t, p), "bad.onnx")
	if err == nil || !strings.Contains(err.Error(), `attribute "else_branch": node 0 "Abs_else_branch.y" (Abs): nothing before it`) {
		t.Errorf("error %v, want one that names the inner node", err)
	}
}

func TestDeeplyNestedSubgraphsAreRefused(t *testing.T) {
	inner := &pb.GraphProto{}
	for range 1000 {
		inner = &pb.GraphProto{Node: []*pb.NodeProto{{OpType: proto.String("If"), Attribute: []*pb.AttributeProto{{G: inner}}}}}
	}
	p := network()
	p.Graph.Node = append(p.Graph.Node, inner.Node[0])
	if _, err := onnx.Parse(encoded(t, p), "deep.onnx"); err == nil {
		t.Error("a thousand nested subgraphs are taken for a model")
	}
}
