package main

import (
	"errors"
	"fmt"

	"distill/internal/hint"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// trace runs a model on one image of zeros and returns the shape of every tensor in it, by name. Size is the height and
// width of the image where the model leaves them free; it may be empty.
func trace(m *onnx.Model, size []int, threads int) (map[string][]int, error) {
	if m.Audit().ExternalData {
		return nil, errors.New("its weights lie in files beside it, which are not read")
	}
	var names []string
	for _, t := range m.Taps() {
		names = append(names, t.Tensor)
	}
	whole, err := m.WithOutputs(names...)
	if err != nil {
		return nil, err
	}
	b, err := whole.Marshal()
	if err != nil {
		return nil, err
	}
	s, err := runtime.NewSession(b, runtime.Options{Threads: threads, DisableOptimization: true})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	in, shapes := map[string]graph.Tensor{}, map[string][]int{}
	for _, io := range s.Inputs() {
		if in[io.Name], err = zeros(io, size); err != nil {
			return nil, err
		}
		shapes[io.Name] = in[io.Name].Shape
	}
	out, err := s.Run(in)
	if err != nil {
		return nil, err
	}
	for name, t := range out {
		shapes[name] = t.Shape
	}
	return shapes, nil
}

// maxElements bounds an input: a file may ask for any size.
const maxElements = 1 << 28

// zeros is an input for one image.
func zeros(io runtime.IO, size []int) (graph.Tensor, error) {
	var dtype graph.DType
	switch io.DType {
	case graph.Float32.String():
		dtype = graph.Float32
	case graph.Int64.String():
		dtype = graph.Int64
	default:
		return graph.Tensor{}, fmt.Errorf("input %q is %v, of a type that cannot be fed", io.Name, io)
	}
	shape, elements := io.Shape.Clone(), 1
	for i, d := range shape {
		switch {
		case d >= 0:
		case i == 0:
			shape[i] = 1
		case len(shape) == 4 && i >= 2 && len(size) == 2:
			shape[i] = size[i-2]
		default:
			err := fmt.Errorf("input %q is %v: dimension %d is free, and nothing says what it is", io.Name, io, i)
			return graph.Tensor{}, hint.Wrap(err, "export the model with only its batch dimension free")
		}
		if shape[i] > maxElements/max(elements, 1) {
			return graph.Tensor{}, fmt.Errorf("input %q is %v, over the limit of %d elements", io.Name, io, maxElements)
		}
		elements *= shape[i]
	}
	return graph.NewTensor(dtype, shape...), nil
}
