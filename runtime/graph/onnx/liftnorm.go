package onnx

import (
	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// normed makes one operator of a dense layer by stored weights and the layer norm before it; y is what the node gives by itself. That is
// left where other nodes read the norm, too, which each would then do again, or where some of it is dropped.
func (l *lifter) normed(n *pb.NodeProto, node *op.Node, y *G.Node) *G.Node {
	dense, b := l.dense(n, node)
	if dense == nil || l.network.reads[dense.Input[0]] != 1 || l.network.lifting.Dropout > 0 && l.network.isHead(dense) {
		return y
	}
	x, weight, bias := l.values[dense.Input[0]].Tensor, l.values[dense.Input[1]].Tensor, l.values[b].Tensor
	if x == nil || weight == nil || bias == nil {
		return y
	}
	apply, outputs := op.LayerNormMatMul, 1
	if dense == n && node.Int("transB", 0) == 1 {
		apply, outputs = op.LayerNormGemm, 0
	}
	of, scale, shift, eps, ok := op.LayerNormed(x)
	made, _ := graph.Made(weight)
	s := graph.ShapeOf(weight)
	if !ok || made != nil || len(s) != 2 || len(graph.ShapeOf(of)) < 2 || !graph.ShapeOf(bias).Equal(graph.Shape{s[outputs]}) {
		return y
	}
	return apply(of, scale, shift, weight, bias, eps)
}

// dense finds the dense layer that ends in a node: a Gemm as PyTorch writes it, or a MatMul to which an Add brings the bias, which is
// named. It is nil where there is none.
func (l *lifter) dense(n *pb.NodeProto, node *op.Node) (dense *pb.NodeProto, bias string) {
	switch {
	case is(n, "Gemm") && node.Float("alpha", 1) == 1 && node.Float("beta", 1) == 1 && node.Int("transA", 0) == 0:
		return n, input(n, 2)
	case is(n, "Add"):
		for i, v := range n.Input {
			if of := l.network.producers[v]; of != nil && is(of, "MatMul") && l.network.reads[v] == 1 {
				return of, n.Input[1-i]
			}
		}
	}
	return nil, ""
}
