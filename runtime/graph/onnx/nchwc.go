package onnx

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// nchwcDomain holds the convolution that ONNX Runtime's CPU provider runs on blocks of channels, and its reorderings.
// Its own optimizer uses it only where the weights are constant, which in training they never are.
const nchwcDomain = "com.microsoft.nchwc"

// blockConvolutions replaces every Conv whose channels fill blocks by the blocked one, with its weights reordered in the
// graph. shapes holds the shape of every value.
func (m *Model) blockConvolutions(shapes map[string]graph.Shape, block int) {
	b := blocker{shapes: shapes, block: block}
	for _, n := range m.proto.Graph.Node {
		if !is(n, "Conv") || !b.convolution(n) {
			b.nodes = append(b.nodes, n)
		}
	}
	m.proto.Graph.Node = b.nodes
	if b.count > 0 {
		m.proto.Graph.Initializer = append(m.proto.Graph.Initializer, b.consts...)
		m.proto.OpsetImport = append(m.proto.OpsetImport, opset(nchwcDomain))
	}
}

type blocker struct {
	shapes map[string]graph.Shape
	block  int
	nodes  []*pb.NodeProto
	consts []*pb.TensorProto
	count  int
}

// convolution writes the blocked form of a Conv, or reports that it has none.
func (b *blocker) convolution(n *pb.NodeProto) bool {
	x, w := b.shapes[n.Input[0]], b.shapes[n.Input[1]]
	group := int(intAttribute(n, "group", 1))
	co, ci, blk := w[0], w[1], b.block
	depthwise := group > 1 && group == x[1] && co == x[1]
	switch {
	case co%blk != 0, group > 1 && !depthwise, group == 1 && ci >= blk && ci%blk != 0:
		return false
	}
	in := append([]string(nil), n.Input...)
	if group > 1 || ci >= blk {
		in[0] = b.add("ReorderInput", nchwcDomain, []string{in[0]})
	}
	// Output channels are the innermost of every filter layout; input channels are blocked too where they fill blocks.
	split, perm := []int{co / blk, blk, ci, w[2], w[3]}, []int{0, 2, 3, 4, 1}
	if group == 1 && ci >= blk {
		split, perm = []int{co / blk, blk, ci / blk, blk, w[2], w[3]}, []int{0, 2, 4, 5, 3, 1}
	}
	t := b.add("Reshape", "", []string{in[1], b.ints(split)})
	t = b.add("Transpose", "", []string{t}, attributeOf(graph.Attr{Name: "perm", Value: perm}))
	in[1] = b.add("Reshape", "", []string{t, b.ints(w)})
	y := b.add("Conv", nchwcDomain, in, n.Attribute...)
	b.add("ReorderOutput", nchwcDomain, []string{y}, attributeOf(graph.Attr{Name: "channels", Value: co}))
	b.nodes[len(b.nodes)-1].Output = n.Output
	return true
}

func (b *blocker) add(op, domain string, in []string, attrs ...*pb.AttributeProto) string {
	name := fmt.Sprintf("blocked_%s_%d", op, b.count)
	b.count++
	n := &pb.NodeProto{Name: proto.String(name), OpType: proto.String(op), Input: in, Output: []string{name + "_output_0"}, Attribute: attrs}
	if domain != "" {
		n.Domain = proto.String(domain)
	}
	b.nodes = append(b.nodes, n)
	return n.Output[0]
}

func (b *blocker) ints(values []int) string {
	t := graph.NewTensor(graph.Int64, len(values))
	for i, v := range values {
		t.I[i] = int64(v)
	}
	name := fmt.Sprintf("blocked_constant_%d", len(b.consts))
	b.consts = append(b.consts, encode(name, t))
	return name
}
