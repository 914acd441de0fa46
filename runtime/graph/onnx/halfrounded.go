package onnx

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
)

// RoundFloat16 rewrites a model lowered for float16 so that operators compute in float32, on inputs and to outputs that are
// rounded to float16. ONNX Runtime's CPU provider has no float16 kernels for most of them; it would take float32 ones, and leave
// out the rounding between them. A cast to float16 and back that is in the model it keeps.
func (m *Model) RoundFloat16() {
	isHalf := func(v string) bool { return strings.HasSuffix(v, halfSuffix) }
	var nodes []*pb.NodeProto
	cast := func(from, to string, t pb.TensorProto_DataType) {
		nodes = append(nodes, &pb.NodeProto{Name: proto.String("round_" + to), OpType: proto.String("Cast"), Input: []string{from}, Output: []string{to},
			Attribute: []*pb.AttributeProto{whole("to", int(t))}})
	}
	wide := map[string]string{} // float32 value of a float16 one
	for _, n := range m.proto.Graph.Node {
		if is(n, "Cast") || !slices.ContainsFunc(n.Input, isHalf) {
			nodes = append(nodes, n)
			continue
		}
		for i, in := range n.Input {
			if !isHalf(in) {
				continue
			}
			if wide[in] == "" {
				wide[in] = in + ":float32"
				cast(in, wide[in], pb.TensorProto_FLOAT)
			}
			n.Input[i] = wide[in]
		}
		nodes = append(nodes, n)
		for i, out := range n.Output {
			if isHalf(out) {
				n.Output[i] = out + ":exact"
				cast(n.Output[i], out, pb.TensorProto_FLOAT16)
			}
		}
	}
	m.proto.Graph.Node = nodes
}
