package onnx

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	pb "distill/internal/onnxpb"
)

// MACs counts the multiply-adds of Conv, ConvTranspose, Gemm and MatMul nodes: one multiplication and one addition are one
// multiply-add, biases are not counted. Shapes are those of the tensors of one run, by name, so the counts are for the batch
// size of that run; initializers and Constant nodes need none. The map holds each node's count under its output tensor. It is
// an error if a shape is missing or does not fit the operator. Subgraphs and other operators count nothing.
func (m *Model) MACs(shapes map[string][]int) (total int64, byTensor map[string]int64, err error) {
	known := make(map[string][]int, len(shapes))
	note := func(name string, t *pb.TensorProto) {
		dims := make([]int, len(t.GetDims()))
		for i, d := range t.GetDims() {
			dims[i] = int(d)
		}
		known[name] = dims
	}
	for _, t := range m.proto.Graph.Initializer {
		note(t.GetName(), t)
	}
	for _, n := range m.proto.Graph.Node {
		if value := attribute(n, "value"); is(n, "Constant") && value.GetT() != nil {
			note(output(n, 0), value.GetT())
		}
	}
	maps.Copy(known, shapes)

	byTensor = map[string]int64{}
	for _, n := range m.proto.Graph.Node {
		macs, err := multiplyAdds(n, known)
		if err == nil && macs > math.MaxInt64-total {
			err = errors.New("more multiply-adds than an int64 counts")
		}
		if err != nil {
			return 0, nil, fmt.Errorf("onnx: count %s: node %s: %w", m.name, describe(n), err)
		}
		if macs > 0 {
			total += macs
			byTensor[output(n, 0)] = macs
		}
	}
	return total, byTensor, nil
}

// multiplyAdds is how many elements one tensor of the node has, times the number of products that each takes part in.
func multiplyAdds(n *pb.NodeProto, shapes map[string][]int) (int64, error) {
	var of, with string
	var products func(with []int) []int // dimensions whose product is that number
	rank := 1                           // the least that products can take
	switch {
	case is(n, "Conv"): // each output element reads one kernel of weight [M,C/groups,k…]
		of, with, products = output(n, 0), input(n, 1), func(w []int) []int { return w[1:] }
	case is(n, "ConvTranspose"): // each input element writes one kernel of weight [C,M/groups,k…]
		of, with, products = input(n, 0), input(n, 1), func(w []int) []int { return w[1:] }
	case is(n, "MatMul"): // […,M,K]·[…,K,N]; vectors [K] too
		of, with, products = output(n, 0), input(n, 0), func(a []int) []int { return a[len(a)-1:] }
	case is(n, "Gemm"): // [M,K]·[K,N], the first perhaps stored as [K,M]
		of, with, rank = output(n, 0), input(n, 0), 2
		products = func(a []int) []int {
			if intAttribute(n, "transA", 0) != 0 {
				return a[:1]
			}
			return a[1:2]
		}
	default:
		return 0, nil
	}
	for _, name := range []string{of, with} {
		if _, ok := shapes[name]; !ok {
			return 0, fmt.Errorf("the shape of %q is not known", name)
		}
	}
	if len(shapes[with]) < rank {
		return 0, fmt.Errorf("%q has shape %v, of too low a rank", with, shapes[with])
	}
	total := int64(1)
	for _, d := range slices.Concat(shapes[of], products(shapes[with])) {
		if d < 0 || d > 0 && total > math.MaxInt64/int64(d) {
			return 0, fmt.Errorf("shapes %v and %v give no count", shapes[of], shapes[with])
		}
		total *= int64(d)
	}
	return total, nil
}
