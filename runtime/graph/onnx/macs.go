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

// products says how to count: each element of one tensor takes part in as many products as some dimensions of another multiply to.
type products struct {
	of, with string                 // the two tensors
	rank     int                    // the least that with may have
	each     func(with []int) []int // those dimensions
}

// productsOf is the rule for a node, if it is of an operator that is counted.
func productsOf(n *pb.NodeProto) (products, bool) {
	kernel := func(w []int) []int { return w[1:] }
	switch {
	case is(n, "Conv"): // each output element reads one kernel of weight [M,C/groups,k…]
		return products{output(n, 0), input(n, 1), 1, kernel}, true
	case is(n, "ConvTranspose"): // each input element writes one kernel of weight [C,M/groups,k…]
		return products{input(n, 0), input(n, 1), 1, kernel}, true
	case is(n, "MatMul"): // […,M,K]·[…,K,N]; vectors [K] too
		return products{output(n, 0), input(n, 0), 1, func(a []int) []int { return a[len(a)-1:] }}, true
	case is(n, "Gemm") && intAttribute(n, "transA", 0) != 0: // [K,M]ᵀ·[K,N]
		return products{output(n, 0), input(n, 0), 2, func(a []int) []int { return a[:1] }}, true
	case is(n, "Gemm"): // [M,K]·[K,N]
		return products{output(n, 0), input(n, 0), 2, func(a []int) []int { return a[1:2] }}, true
	}
	return products{}, false
}

// multiplyAdds counts one node; 0 for operators that are not counted.
func multiplyAdds(n *pb.NodeProto, shapes map[string][]int) (int64, error) {
	p, ok := productsOf(n)
	if !ok {
		return 0, nil
	}
	for _, name := range []string{p.of, p.with} {
		if _, ok := shapes[name]; !ok {
			return 0, fmt.Errorf("the shape of %q is not known", name)
		}
	}
	of, with := shapes[p.of], shapes[p.with]
	if len(with) < p.rank {
		return 0, fmt.Errorf("%q has shape %v, of too low a rank", p.with, with)
	}
	total := int64(1)
	for _, d := range slices.Concat(of, p.each(with)) {
		if d < 0 || d > 0 && total > math.MaxInt64/int64(d) {
			return 0, fmt.Errorf("shapes %v and %v give no count", of, with)
		}
		total *= int64(d)
	}
	return total, nil
}
