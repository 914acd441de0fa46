package onnx

import (
	"slices"

	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// normed makes one operator of a dense layer and the layer norm before it, of x [..,D]; y is what the node gives by itself. That is left
// where something else reads what lies between, or drops some of it, and where another size than the first depends on the batch.
func (l *lifter) normed(n *pb.NodeProto, node *op.Node, y *G.Node) *G.Node {
	dense, b := l.dense(n, node)
	if dense == nil || l.network.lifting.Dropout > 0 && l.network.isHead(dense) {
		return y
	}
	x, weight, bias := l.values[dense.Input[0]].Tensor, l.values[dense.Input[1]].Tensor, l.values[b].Tensor
	if l.network.reads[dense.Input[0]] != 1 || x == nil || weight == nil || bias == nil {
		return y
	}
	of, scale, shift, eps, ok := op.LayerNormed(x)
	s := graph.ShapeOf(y)
	last := len(s) - 1
	if !ok || len(graph.ShapeOf(weight)) != 2 || !graph.ShapeOf(bias).Equal(s[last:]) || node.Other != nil && !slices.Equal(s[1:], node.Other[1:]) {
		return y
	}
	apply := op.LayerNormGemm
	if node.Int("transB", 0) == 0 {
		apply = op.LayerNormMatMul
	}
	rows := apply(op.Reshape(of, -1, graph.ShapeOf(of)[last]), scale, shift, weight, bias, eps)
	return op.Reshape(rows, append([]int{-1}, s[1:]...)...)
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
