package onnx

import (
	"strings"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
)

// Opset is the version of the default operator set that the model imports; 0 where it imports none.
func (m *Model) Opset() int { return m.Domains()["ai.onnx"] }

// Domains are the operator sets that the model imports, by domain, with their versions. The default domain is "ai.onnx".
func (m *Model) Domains() map[string]int {
	domains := make(map[string]int, len(m.proto.OpsetImport))
	for _, o := range m.proto.OpsetImport {
		domains[domain(o.GetDomain())] = int(o.GetVersion())
	}
	return domains
}

// Producer is the program that wrote the model and its version, as "pytorch 1.13.0"; "" where the model does not say.
func (m *Model) Producer() string {
	return strings.TrimSpace(m.proto.GetProducerName() + " " + m.proto.GetProducerVersion())
}

// Params counts the elements of the floating-point initializers that nodes read, running statistics of batch
// normalization included. It does not count what Constant nodes hold, nor quantized weights.
func (m *Model) Params() int {
	read := map[string]bool{}
	for _, n := range m.proto.Graph.Node {
		reads(n, func(name string) { read[name] = true })
	}
	total := 0
	for _, t := range m.proto.Graph.Initializer {
		switch pb.TensorProto_DataType(t.GetDataType()) {
		case pb.TensorProto_FLOAT, pb.TensorProto_DOUBLE, pb.TensorProto_FLOAT16, pb.TensorProto_BFLOAT16:
			if n, err := size(t.Dims); err == nil && read[t.GetName()] {
				total += n
			}
		}
	}
	return total
}

// Metadata is a copy of the model's free-form properties (metadata_props).
func (m *Model) Metadata() map[string]string {
	props := make(map[string]string, len(m.proto.MetadataProps))
	for _, e := range m.proto.MetadataProps {
		props[e.GetKey()] = e.GetValue()
	}
	return props
}

// SetMetadata sets a free-form property, replacing a value that is there. New keys are written in the order of the calls.
func (m *Model) SetMetadata(key, value string) {
	entry := &pb.StringStringEntryProto{Key: proto.String(key), Value: proto.String(value)}
	for i, e := range m.proto.MetadataProps {
		if e.GetKey() == key {
			m.proto.MetadataProps[i] = entry
			return
		}
	}
	m.proto.MetadataProps = append(m.proto.MetadataProps, entry)
}
