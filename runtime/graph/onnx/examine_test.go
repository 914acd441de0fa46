package onnx_test

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"distill/internal/hint"
	pb "distill/internal/onnxpb"
	"distill/runtime/graph/onnx"
)

func TestValuesInJSON(t *testing.T) {
	p := network()
	p.Graph.Input = append(p.Graph.Input, info("scalar"), info("odd", -1, 0), &pb.ValueInfoProto{Name: proto.String("untyped")})
	got, err := json.Marshal(parsed(t, p).Inputs())
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"image","dtype":"float32","shape":["batch",2,4,4]},` +
		`{"name":"scalar","dtype":"float32","shape":[]},` +
		`{"name":"odd","dtype":"float32","shape":["?",0]},` +
		`{"name":"untyped","dtype":"","shape":null}]`
	if string(got) != want {
		t.Errorf("inputs\n%s, want\n%s", got, want)
	}
}

func TestFactsOfAModel(t *testing.T) {
	p := network()
	p.OpsetImport = append(p.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String("com.microsoft"), Version: proto.Int64(1)})
	p.Graph.Initializer = append(p.Graph.Initializer, weight("unread", ramp(9, 0, 1), 9))
	m := parsed(t, p)
	if m.Opset() != 17 || !maps.Equal(m.Domains(), map[string]int{"ai.onnx": 17, "com.microsoft": 1}) {
		t.Errorf("opset %d of %v", m.Opset(), m.Domains())
	}
	if m.Producer() != "test" {
		t.Errorf("producer %q", m.Producer())
	}
	if want := 72 + 4*4 + 12 + 3; m.Params() != want {
		t.Errorf("%d parameters, want %d: those read", m.Params(), want)
	}
}

func TestTapsNameTensorOperatorAndNode(t *testing.T) {
	p := network()
	p.Graph.Node = slices.Insert(p.Graph.Node, 0, node("Constant", "c", nil,
		&pb.AttributeProto{Name: proto.String("value"), Type: pb.AttributeProto_TENSOR.Enum(), T: weight("", ramp(1, 0, 1))}))
	taps := parsed(t, p).Taps()
	if len(taps) != 7 || taps[2] != (onnx.Tap{Tensor: "/layer1/relu", Op: "Relu", Node: "Relu_/layer1/relu"}) {
		t.Errorf("taps %v, want seven, without the constant", taps)
	}
}

func TestGlobMatchesTensorNames(t *testing.T) {
	p := network()
	p.Graph.Node[4].Output[0], p.Graph.Node[5].Input[0] = "flat[0]", "flat[0]"
	m := parsed(t, p)
	for pattern, want := range map[string][]string{
		"*relu":        {"/layer1/relu"},
		"/*/bn":        {"/layer1/bn"},
		"/layer1*":     {"/layer1/conv", "/layer1/bn", "/layer1/relu"},
		"[l-p]?[go]*":  {"pool", "logits", "probs"},
		"pool":         {"pool"},
		"flat[0]":      {"flat[0]"},
		`flat\[?\]`:    {"flat[0]"},
		"?layer1?bn":   {"/layer1/bn"},
		"*":            {"/layer1/conv", "/layer1/bn", "/layer1/relu", "pool", "flat[0]", "logits", "probs"},
		"/layer1/bn*":  {"/layer1/bn"},
		"*/[^/]*nv":    {"/layer1/conv"},
		"*ayer1/re*lu": {"/layer1/relu"},
	} {
		got, err := m.Glob(pattern)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q matches %v (%v), want %v", pattern, got, err, want)
		}
	}
}

func TestGlobWithoutMatchNamesTheNearest(t *testing.T) {
	m := parsed(t, network())
	_, err := m.Glob("/layer2/relu")
	if err == nil || !strings.Contains(err.Error(), `tap "/layer2/relu" of test.onnx: no such tensor`) {
		t.Errorf("error %v", err)
	}
	if got := hint.Of(err); !strings.HasPrefix(got, `nearest are "/layer1/relu", `) {
		t.Errorf("hint %q", got)
	}
	if _, err := m.Glob("[a"); err == nil || !strings.Contains(err.Error(), "syntax error in pattern") {
		t.Errorf("error %v, want one of the pattern", err)
	}
}

func TestSoftmaxFindsTheLogits(t *testing.T) {
	set := func(ops ...string) func(*pb.ModelProto) { // replaces the last node with a chain
		return func(p *pb.ModelProto) {
			p.Graph.Node = p.Graph.Node[:6]
			from := "logits"
			for i, op := range ops {
				to := op
				if i == len(ops)-1 {
					to = "probs"
				}
				p.Graph.Node = append(p.Graph.Node, node(op, to, []string{from}))
				from = to
			}
		}
	}
	for name, c := range map[string]struct {
		edit         func(*pb.ModelProto)
		kind, logits string
	}{
		"softmax":         {func(*pb.ModelProto) {}, "softmax", "logits"},
		"log softmax":     {set("LogSoftmax"), "log_softmax", "logits"},
		"log of softmax":  {set("Softmax", "Log"), "log_softmax", "logits"},
		"reshaped":        {set("Softmax", "Flatten", "Identity"), "softmax", "logits"},
		"sigmoid":         {set("Sigmoid"), "logits", "probs"},
		"log of sigmoid":  {set("Sigmoid", "Log"), "logits", "probs"},
		"softmax, scaled": {set("Softmax", "Neg"), "logits", "probs"},
		"logits":          {func(p *pb.ModelProto) { p.Graph.Output[0].Name = proto.String("logits") }, "logits", "logits"},
		"an input":        {func(p *pb.ModelProto) { p.Graph.Output[0].Name = proto.String("image") }, "logits", "image"},
		"another domain": {func(p *pb.ModelProto) {
			p.OpsetImport = append(p.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String("x"), Version: proto.Int64(1)})
			p.Graph.Node[6].Domain = proto.String("x")
		}, "logits", "probs"},
	} {
		t.Run(name, func(t *testing.T) {
			p := network()
			c.edit(p)
			m := parsed(t, p)
			if kind, logits := m.Softmax(); kind != c.kind || logits != c.logits {
				t.Errorf("%s of %s, want %s of %s", kind, logits, c.kind, c.logits)
			}
			if got := m.Audit().Output; got != c.kind {
				t.Errorf("the audit says %s, want %s", got, c.kind)
			}
		})
	}
}

func TestAuditInJSON(t *testing.T) {
	p := network()
	p.OpsetImport = append(p.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String("com.microsoft"), Version: proto.Int64(1)})
	p.Graph.Node[2].Domain = proto.String("com.microsoft")
	p.Graph.Input[0] = info("image", 1, 2, 4, 4)
	got, err := json.Marshal(parsed(t, p).Audit())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"batch_norm":"present","batch_norm_nodes":1,"output":"softmax","dynamic_batch":false,"batch":1,` +
		`"external_data":false,"custom_domains":["com.microsoft"]}`
	if string(got) != want {
		t.Errorf("audit\n%s, want\n%s", got, want)
	}
}

func TestAuditTellsFoldedFromNone(t *testing.T) {
	stem := []*pb.NodeProto{
		node("Conv", "c1", []string{"x", "w", "b"}), node("Relu", "r", []string{"c1"}), node("Conv", "y", []string{"r", "w", "b"}),
	}
	weights := []*pb.TensorProto{weight("w", ramp(4, 1, 1), 2, 2, 1, 1), weight("b", ramp(2, 1, 1), 2)}
	for name, c := range map[string]struct {
		edit func(*pb.GraphProto)
		want string
	}{
		"two biases":        {func(*pb.GraphProto) {}, "folded"},
		"one without bias":  {func(g *pb.GraphProto) { g.Node[0].Input = g.Node[0].Input[:2] }, "none"},
		"one convolution":   {func(g *pb.GraphProto) { g.Node[0].OpType = proto.String("ConvTranspose") }, "none"},
		"layer norm":        {func(g *pb.GraphProto) { g.Node[1].OpType = proto.String("LayerNormalization") }, "none"},
		"batch norm, still": {func(g *pb.GraphProto) { g.Node[1].OpType = proto.String("BatchNormalization") }, "present"},
	} {
		p := modelProto([]*pb.ValueInfoProto{info("x", "batch", 2, 4, 4)}, []*pb.ValueInfoProto{info("y")}, weights, stem...)
		p = proto.CloneOf(p)
		c.edit(p.Graph)
		if got := parsed(t, p).Audit(); got.BatchNorm != c.want || got.CustomDomains == nil {
			t.Errorf("%s: the audit says %+v, want %s", name, got, c.want)
		}
	}
}

func TestMultiplyAddsAreCounted(t *testing.T) {
	p := modelProto(
		[]*pb.ValueInfoProto{info("x", 2, 4, 8, 8), info("a", 2, 6, 5, 7)}, []*pb.ValueInfoProto{info("up"), info("d"), info("mm")},
		[]*pb.TensorProto{
			weight("depthwise", ramp(4*9, 0, 1), 4, 1, 3, 3), weight("up.weight", ramp(4*3*4, 0, 1), 4, 3, 2, 2),
			weight("fc.weight", ramp(4*10, 0, 1), 4, 10), weight("b", ramp(7*3, 0, 1), 7, 3),
		},
		node("Conv", "c", []string{"x", "depthwise"}, intAttr("group", 4)),
		node("ConvTranspose", "up", []string{"c", "up.weight"}, intsAttr("strides", 2, 2)),
		node("GlobalAveragePool", "g", []string{"c"}),
		node("Flatten", "f", []string{"g"}),
		node("Transpose", "ft", []string{"f"}),
		node("Gemm", "d", []string{"ft", "fc.weight"}, intAttr("transA", 1)),
		node("MatMul", "mm", []string{"a", "b"}),
	)
	m := parsed(t, p)
	shapes := map[string][]int{
		"x": {2, 4, 8, 8}, "a": {2, 6, 5, 7}, "c": {2, 4, 6, 6}, "up": {2, 3, 12, 12}, "ft": {4, 2}, "d": {2, 10}, "mm": {2, 6, 5, 3},
	}
	total, by, err := m.MACs(shapes)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		"c":  2 * 4 * 6 * 6 * (1 * 9),
		"up": 2 * 4 * 6 * 6 * (3 * 4),
		"d":  2 * 10 * 4,
		"mm": 2 * 6 * 5 * 3 * 7,
	}
	if !maps.Equal(by, want) || total != want["c"]+want["up"]+want["d"]+want["mm"] {
		t.Errorf("counted %d: %v, want %v", total, by, want)
	}

	for _, c := range []struct {
		tensor string
		shape  []int
		want   string
	}{
		{"c", nil, `node "Conv_c" (Conv): the shape of "c" is not known`},
		{"ft", []int{4}, "of too low a rank"},
		{"mm", []int{math.MaxInt, 2}, "give no count"},
		{"d", []int{-1, 10}, "give no count"},
	} {
		bad := maps.Clone(shapes)
		if bad[c.tensor] = c.shape; c.shape == nil {
			delete(bad, c.tensor)
		}
		if _, _, err := m.MACs(bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}
