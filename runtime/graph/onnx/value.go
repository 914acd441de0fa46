package onnx

import (
	"encoding/json"
	"strconv"

	pb "distill/internal/onnxpb"
)

// Value is an input or output of a model.
type Value struct {
	Name  string `json:"name"`
	DType string `json:"dtype"` // of an element, as float32 or int64; "" where the model does not say or it is no tensor
	Shape []Dim  `json:"shape"` // empty for a scalar; nil where the model does not say
}

// Dim is one dimension of a Value: a number, or, with a Size of -1, one chosen when the model runs.
type Dim struct {
	Size int
	Name string // symbol of a dynamic dimension, as batch; may be empty
}

// Dynamic reports whether the dimension is chosen when the model runs.
func (d Dim) Dynamic() bool { return d.Size < 0 }

// String is the number, the symbol, or "?" for a dimension without either.
func (d Dim) String() string {
	switch {
	case !d.Dynamic():
		return strconv.Itoa(d.Size)
	case d.Name != "":
		return d.Name
	}
	return "?"
}

// MarshalJSON writes a JSON number for a fixed dimension and what String gives, as a JSON string, for a dynamic one.
func (d Dim) MarshalJSON() ([]byte, error) {
	if d.Dynamic() {
		return json.Marshal(d.String())
	}
	return json.Marshal(d.Size)
}

// Inputs are what a caller feeds, in order: initializers, which old models list among the inputs, are left out.
func (m *Model) Inputs() []Value {
	constant := m.constants()
	var fed []*pb.ValueInfoProto
	for _, in := range m.proto.Graph.Input {
		if !constant[in.GetName()] {
			fed = append(fed, in)
		}
	}
	return values(fed)
}

// Outputs are the outputs of the graph, in order.
func (m *Model) Outputs() []Value { return values(m.proto.Graph.Output) }

// constants are the names of all initializers.
func (m *Model) constants() map[string]bool {
	names := map[string]bool{}
	for _, t := range m.proto.Graph.Initializer {
		names[t.GetName()] = true
	}
	for _, t := range m.proto.Graph.SparseInitializer {
		names[t.GetValues().GetName()] = true
	}
	return names
}

func values(infos []*pb.ValueInfoProto) []Value {
	out := make([]Value, len(infos))
	for i, info := range infos {
		t := info.GetType().GetTensorType()
		out[i].Name = info.GetName()
		if t.GetElemType() != 0 {
			out[i].DType = dtype(t.GetElemType())
		}
		if shape := t.GetShape(); shape != nil {
			out[i].Shape = make([]Dim, len(shape.Dim))
			for j, d := range shape.Dim {
				out[i].Shape[j] = dim(d)
			}
		}
	}
	return out
}

func dim(d *pb.TensorShapeProto_Dimension) Dim {
	// Some exporters write a dynamic dimension as -1.
	if v, ok := d.Value.(*pb.TensorShapeProto_Dimension_DimValue); ok && v.DimValue >= 0 {
		return Dim{Size: int(v.DimValue)}
	}
	return Dim{Size: -1, Name: d.GetDimParam()}
}
