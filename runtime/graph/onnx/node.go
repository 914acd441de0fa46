package onnx

import pb "distill/internal/onnxpb"

// is reports whether a node is this operator of the default domain.
func is(n *pb.NodeProto, op string) bool {
	return n.GetOpType() == op && domain(n.GetDomain()) == "ai.onnx"
}

// attribute finds an attribute; nil, whose getters give zeros, where the node leaves it out.
func attribute(n *pb.NodeProto, name string) *pb.AttributeProto {
	for _, a := range n.Attribute {
		if a.GetName() == name {
			return a
		}
	}
	return nil
}

func intAttribute(n *pb.NodeProto, name string, otherwise int64) int64 {
	if a := attribute(n, name); a != nil {
		return a.GetI()
	}
	return otherwise
}

func floatAttribute(n *pb.NodeProto, name string, otherwise float32) float32 {
	if a := attribute(n, name); a != nil {
		return a.GetF()
	}
	return otherwise
}

// input is the name of a node's i-th input; "" where it is left out.
func input(n *pb.NodeProto, i int) string {
	if i < len(n.Input) {
		return n.Input[i]
	}
	return ""
}

// output is the name of a node's i-th output; "" where it is left out.
func output(n *pb.NodeProto, i int) string {
	if i < len(n.Output) {
		return n.Output[i]
	}
	return ""
}

// reads visits every name that a node reads. What its subgraphs read is visited too, their own names among it: as names of
// the outer graph these may not exist.
func reads(n *pb.NodeProto, visit func(name string)) {
	for _, in := range n.Input {
		if in != "" {
			visit(in)
		}
	}
	subgraph := func(g *pb.GraphProto) {
		for _, n := range g.Node {
			reads(n, visit)
		}
		for _, out := range g.Output { // may pass on a name of the outer graph
			visit(out.GetName())
		}
	}
	for _, a := range n.Attribute {
		if a.G != nil {
			subgraph(a.G)
		}
		for _, g := range a.Graphs {
			subgraph(g)
		}
	}
}

// producers are the nodes by the names they define.
func (m *Model) producers() map[string]*pb.NodeProto {
	by := map[string]*pb.NodeProto{}
	for _, n := range m.proto.Graph.Node {
		for _, out := range n.Output {
			if out != "" {
				by[out] = n
			}
		}
	}
	return by
}
