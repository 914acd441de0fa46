package onnx

import (
	"errors"
	"fmt"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// Classifier is the dense layer that gives a model's logits z of features f [N,D]: z = W·f + b.
type Classifier struct {
	Features string       // the tensor f
	Weight   graph.Tensor // W [K,D]
	Bias     graph.Tensor // b [K]; zeros where the layer has none
}

// Classifier finds the layer that gives the first output, which must be logits: a Gemm, or a MatMul with or without an Add,
// whose weights are initializers. Operators after it that move elements without changing them are looked through.
func (m *Model) Classifier() (Classifier, error) {
	c, err := m.classifier()
	if err != nil {
		return Classifier{}, fmt.Errorf("onnx: find the classifier of %s: %w", m.name, err)
	}
	return c, nil
}

func (m *Model) classifier() (c Classifier, err error) {
	producers := m.producers()
	source := func(name string) *pb.NodeProto {
		n := producers[name]
		for n != nil && passes(n) {
			n = producers[input(n, 0)]
		}
		return n
	}
	n, bias := source(m.proto.Graph.Output[0].GetName()), ""
	if n != nil && is(n, "Add") && len(n.Input) == 2 {
		for i, in := range n.Input {
			if product := producers[in]; product != nil && is(product, "MatMul") {
				n, bias = product, n.Input[1-i]
				break
			}
		}
	}
	switch {
	case n == nil:
		return c, errors.New("the logits are no node's output")
	case is(n, "Gemm"):
		bias = input(n, 2)
		if intAttribute(n, "transA", 0) != 0 || floatAttribute(n, "alpha", 1) != 1 || floatAttribute(n, "beta", 1) != 1 {
			return c, fmt.Errorf("node %q scales or transposes", n.GetName())
		}
	case !is(n, "MatMul"):
		return c, fmt.Errorf("the logits come from a %s, not from a dense layer", n.GetOpType())
	}
	c.Features = input(n, 0)
	if c.Weight, err = m.Initializer(input(n, 1)); err != nil {
		return c, err
	}
	if len(c.Weight.Shape) != 2 || c.Weight.F == nil || c.Weight.Shape.Size() == 0 {
		return c, fmt.Errorf("its weight %q is %v %v, not a matrix", input(n, 1), c.Weight.DType(), c.Weight.Shape)
	}
	if !is(n, "Gemm") || intAttribute(n, "transB", 0) == 0 {
		c.Weight = transposed(c.Weight)
	}
	k := c.Weight.Shape[0]
	if bias == "" {
		c.Bias = graph.NewTensor(graph.Float32, k)
		return c, nil
	}
	if c.Bias, err = m.Initializer(bias); err != nil {
		return c, err
	}
	if c.Bias.F == nil || c.Bias.Shape.Size() != k {
		return c, fmt.Errorf("its bias %q is %v %v for %d classes", bias, c.Bias.DType(), c.Bias.Shape, k)
	}
	c.Bias.Shape = graph.Shape{k}
	return c, nil
}

// transposed copies a matrix.
func transposed(t graph.Tensor) graph.Tensor {
	rows, columns := t.Shape[0], t.Shape[1]
	out := graph.NewTensor(graph.Float32, columns, rows)
	for i := range rows {
		for j := range columns {
			out.F[j*rows+i] = t.F[i*columns+j]
		}
	}
	return out
}

// Norm is the scale γ and the shift β, [C] each, of the BatchNormalization that gives a tensor; ok is false where another
// operator does, or where they are not in the file.
func (m *Model) Norm(tensor string) (gamma, beta graph.Tensor, ok bool) {
	n := m.producers()[tensor]
	if n == nil || !is(n, "BatchNormalization") {
		return gamma, beta, false
	}
	gamma, err := m.Initializer(input(n, 1))
	if err == nil {
		beta, err = m.Initializer(input(n, 2))
	}
	ok = err == nil && gamma.F != nil && len(gamma.Shape) == 1 && beta.F != nil && gamma.Shape.Equal(beta.Shape)
	return gamma, beta, ok
}
