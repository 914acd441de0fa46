package onnx

import (
	"errors"
	"slices"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
)

// head is a dense layer that gives logits: its node, and the name of its bias, "" where it has none.
type head struct {
	node *pb.NodeProto
	bias string
}

// heads are the dense layers that give the first output: one, or those whose sum or mean it is, as of DeiT's two tokens.
// There are none where another operator gives it.
func (m *Model) heads() []head {
	s := headSearch{m, m.producers(), map[string]bool{}}
	return s.of(m.proto.Graph.Output[0].GetName())
}

type headSearch struct {
	model     *Model
	producers map[string]*pb.NodeProto
	seen      map[string]bool // tensors, each looked at once however many sums it is in
}

func (s headSearch) of(name string) []head {
	n := s.producers[name]
	for n != nil && (passes(n) || s.scales(n)) {
		n = s.producers[input(n, 0)]
	}
	if n == nil || s.seen[n.Output[0]] {
		return nil
	}
	s.seen[n.Output[0]] = true
	switch {
	case is(n, "Gemm"):
		return []head{{n, input(n, 2)}}
	case is(n, "MatMul"):
		return []head{{node: n}}
	case is(n, "Add") && len(n.Input) == 2:
		a, b := s.of(n.Input[0]), s.of(n.Input[1])
		switch {
		case a != nil && b != nil:
			return append(a, b...)
		case len(a) == 1 && is(a[0].node, "MatMul"):
			return []head{{a[0].node, n.Input[1]}}
		case len(b) == 1 && is(b[0].node, "MatMul"):
			return []head{{b[0].node, n.Input[0]}}
		}
	}
	return nil
}

// scales reports whether a node multiplies or divides by one number of the file.
func (s headSearch) scales(n *pb.NodeProto) bool {
	if !is(n, "Mul") && !is(n, "Div") || len(n.Input) != 2 {
		return false
	}
	number := s.model.initializer(n.Input[1])
	if p := s.producers[n.Input[1]]; p != nil && is(p, "Constant") {
		number = attribute(p, "value").GetT()
	}
	return number != nil && !slices.ContainsFunc(number.Dims, func(d int64) bool { return d != 1 })
}

// resize gives the heads another number of rows.
func (n *Network) resize(classes int) error {
	if out := n.model.Outputs()[0].Shape; len(out) > 0 && out[len(out)-1].Size == classes {
		return nil
	}
	if len(n.heads) == 0 {
		return errors.New("its number of classes cannot be changed: the output is no dense layer's")
	}
	for _, h := range n.heads {
		if w := n.weights[input(h.node, 1)]; w == nil || len(w.tensor.Shape) != 2 {
			return errors.New("its number of classes cannot be changed: the last layer's weight is not in the file")
		}
	}
	for _, h := range n.heads {
		n.resizeHead(h, classes)
	}
	return nil
}

func (n *Network) resizeHead(h head, classes int) {
	w := n.weights[input(h.node, 1)]
	rows := 1
	if intAttribute(h.node, "transB", 0) == 1 {
		rows = 0
	}
	if w.tensor.Shape[rows] == classes {
		return
	}
	shape := w.tensor.Shape.Clone()
	shape[rows] = classes
	w.tensor, w.init = graph.NewTensor(graph.Float32, shape...), nn.Uniform(shape[1-rows])
	if b := n.weights[h.bias]; b != nil {
		b.tensor, b.init = graph.NewTensor(graph.Float32, classes), nn.Uniform(shape[1-rows])
	}
}

// isHead reports whether a node is a head's.
func (n *Network) isHead(node *pb.NodeProto) bool {
	return slices.ContainsFunc(n.heads, func(h head) bool { return h.node == node })
}
