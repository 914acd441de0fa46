package onnx

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
)

// WithOutputs returns a copy of the model whose outputs are those it has and then these tensors of Taps; names that are
// outputs already are not added again. The model itself stays as it is; the copy shares its weights.
func (m *Model) WithOutputs(names ...string) (*Model, error) {
	infos, err := m.typed(names)
	if err != nil {
		return nil, err
	}
	c := m.copy()
	g := c.proto.Graph
	present := map[string]bool{}
	for _, out := range g.Output {
		present[out.GetName()] = true
	}
	for _, info := range infos {
		if !present[info.GetName()] {
			g.Output = append(g.Output, info)
		}
	}
	return c, nil
}

// Only returns a copy of the model that computes these tensors of Taps, in this order, and nothing else: what they do not
// need of nodes, initializers and inputs is dropped. The model itself stays as it is; the copy shares its weights.
func (m *Model) Only(outputs ...string) (*Model, error) {
	infos, err := m.typed(outputs)
	if err != nil {
		return nil, err
	}
	c := m.copy()
	g := c.proto.Graph
	g.Output = infos
	needed := map[string]bool{}
	for _, info := range infos {
		needed[info.GetName()] = true
	}
	var kept []*pb.NodeProto
	for _, n := range slices.Backward(g.Node) { // the order is topological: backwards, readers come first
		if slices.ContainsFunc(n.Output, func(out string) bool { return needed[out] }) {
			kept = append(kept, n)
			reads(n, func(name string) { needed[name] = true })
		}
	}
	slices.Reverse(kept)
	g.Node = kept
	c.prune(func(name string) bool { return needed[name] })
	return c, nil
}

// prune drops initializers, inputs and notes of types whose names are not to be kept.
func (m *Model) prune(keep func(name string) bool) {
	g := m.proto.Graph
	drop := func(v *pb.ValueInfoProto) bool { return !keep(v.GetName()) }
	g.Input = slices.DeleteFunc(g.Input, drop)
	g.ValueInfo = slices.DeleteFunc(g.ValueInfo, drop)
	g.Initializer = slices.DeleteFunc(g.Initializer, func(t *pb.TensorProto) bool { return !keep(t.GetName()) })
	g.SparseInitializer = slices.DeleteFunc(g.SparseInitializer,
		func(t *pb.SparseTensorProto) bool { return !keep(t.GetValues().GetName()) })
	g.QuantizationAnnotation = slices.DeleteFunc(g.QuantizationAnnotation,
		func(a *pb.TensorAnnotation) bool { return !keep(a.GetTensorName()) })
}

// typed describes tensors that nodes compute, each once, for use as outputs: with its type where the model notes one, else
// by name alone, which ONNX Runtime accepts and infers.
func (m *Model) typed(names []string) ([]*pb.ValueInfoProto, error) {
	g, producers := m.proto.Graph, m.producers()
	known := map[string]*pb.ValueInfoProto{}
	for _, info := range slices.Concat(g.ValueInfo, g.Output) {
		known[info.GetName()] = info
	}
	var infos []*pb.ValueInfoProto
	seen := map[string]bool{}
	for _, name := range names {
		if producers[name] == nil {
			return nil, m.noTensor(name, slices.Sorted(maps.Keys(producers)))
		}
		if !seen[name] {
			infos = append(infos, cmp.Or(known[name], &pb.ValueInfoProto{Name: proto.String(name)}))
		}
		seen[name] = true
	}
	return infos, nil
}

// copy returns a model with lists of its own, whose elements it shares.
func (m *Model) copy() *Model {
	p, g := m.proto, m.proto.Graph
	graph := &pb.GraphProto{
		Node:                   slices.Clone(g.Node),
		Name:                   g.Name,
		Initializer:            slices.Clone(g.Initializer),
		SparseInitializer:      slices.Clone(g.SparseInitializer),
		DocString:              g.DocString,
		Input:                  slices.Clone(g.Input),
		Output:                 slices.Clone(g.Output),
		ValueInfo:              slices.Clone(g.ValueInfo),
		QuantizationAnnotation: slices.Clone(g.QuantizationAnnotation),
	}
	graph.ProtoReflect().SetUnknown(g.ProtoReflect().GetUnknown())
	model := &pb.ModelProto{
		IrVersion:       p.IrVersion,
		OpsetImport:     slices.Clone(p.OpsetImport),
		ProducerName:    p.ProducerName,
		ProducerVersion: p.ProducerVersion,
		Domain:          p.Domain,
		ModelVersion:    p.ModelVersion,
		DocString:       p.DocString,
		Graph:           graph,
		MetadataProps:   slices.Clone(p.MetadataProps),
		TrainingInfo:    slices.Clone(p.TrainingInfo),
		Functions:       slices.Clone(p.Functions),
	}
	model.ProtoReflect().SetUnknown(p.ProtoReflect().GetUnknown())
	return &Model{proto: model, name: m.name}
}
