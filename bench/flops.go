package main

import (
	"slices"

	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// counted is the batch at which multiply-adds are counted; the count grows with the batch in proportion.
const counted = 2

// multiplyAdds are what one step at the network's batch needs: the forward pass and, to train, twice as many for the
// gradients, less those of the images, which nobody asks for.
func (n network) multiplyAdds(folder string) (int64, error) {
	m, err := n.forward(folder)
	if err != nil {
		return 0, err
	}
	tensors := []string{}
	for _, t := range m.Taps() {
		tensors = append(tensors, t.Tensor)
	}
	whole, err := m.WithOutputs(tensors...)
	if err != nil {
		return 0, err
	}
	model, err := whole.Marshal()
	if err != nil {
		return 0, err
	}
	s, err := runtime.NewSession(model, runtime.Options{DisableOptimization: true})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	in := map[string]graph.Tensor{}
	for _, io := range s.Inputs() {
		shape := io.Shape
		if io.Name == s.Inputs()[0].Name {
			shape = slices.Concat(graph.Shape{counted}, n.image[:])
		}
		in[io.Name] = graph.NewTensor(graph.Float32, shape...)
	}
	out, err := s.Run(in)
	if err != nil {
		return 0, err
	}
	shapes := map[string][]int{}
	for _, tensors := range []map[string]graph.Tensor{in, out} {
		for name, t := range tensors {
			shapes[name] = t.Shape
		}
	}
	total, each, err := m.MACs(shapes)
	if err != nil {
		return 0, err
	}
	if n.arch != nil {
		total *= 3
		for _, tensor := range tensors { // in the order of the graph
			if each[tensor] > 0 { // the first layer
				total -= each[tensor]
				break
			}
		}
	}
	return total / counted * int64(n.batch), nil
}

// forward is the network for inference.
func (n network) forward(folder string) (*onnx.Model, error) {
	if n.arch == nil {
		return onnx.Read(n.modelFile(folder))
	}
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input("images", graph.Float32, counted, n.image[0], n.image[1], n.image[2])
		g.Output("logits", n.arch.Build(g, x, n.classes).Logits)
	})
	if err != nil {
		return nil, err
	}
	return onnx.Lower(p, onnx.Lowering{})
}
