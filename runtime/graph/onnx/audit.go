package onnx

import (
	"maps"
	"slices"

	pb "distill/internal/onnxpb"
)

// Audit is what a distillation should know about a teacher before using it.
type Audit struct {
	BatchNorm      string   `json:"batch_norm"`       // "present", "folded" or "none"; see Model.Audit
	BatchNormNodes int      `json:"batch_norm_nodes"` // how many are present
	Output         string   `json:"output"`           // of the first output: "logits", "softmax", "log_softmax"; see Softmax
	DynamicBatch   bool     `json:"dynamic_batch"`    // whether the first dimension of the first input is free
	Batch          int      `json:"batch"`            // the size of that dimension; 0 where it is free
	ExternalData   bool     `json:"external_data"`    // whether weights lie in files beside the model
	CustomDomains  []string `json:"custom_domains"`   // of nodes, other than ai.onnx, sorted; never null
}

// Audit examines the graph, without its subgraphs. Batch normalization is "present" where there are such nodes. It is called
// "folded" where there are none, nor other normalization nodes, and each of two or more convolutions has the bias that folding
// leaves behind: a conclusion, since a network trained with biases and without normalization looks the same.
func (m *Model) Audit() Audit {
	a := Audit{BatchNorm: "none", CustomDomains: []string{}}
	a.Output, _ = m.Softmax()
	domains := map[string]bool{}
	convs, biased, otherNorms := 0, 0, 0
	for _, n := range m.proto.Graph.Node {
		switch {
		case is(n, "BatchNormalization"):
			a.BatchNormNodes++
		case is(n, "LayerNormalization"), is(n, "GroupNormalization"), is(n, "InstanceNormalization"):
			otherNorms++
		case is(n, "Conv"):
			convs++
			if input(n, 2) != "" {
				biased++
			}
		}
		domains[domain(n.GetDomain())] = true
		a.ExternalData = a.ExternalData || slices.ContainsFunc(n.Attribute,
			func(a *pb.AttributeProto) bool { return a.T != nil && external(a.T) })
	}
	switch {
	case a.BatchNormNodes > 0:
		a.BatchNorm = "present"
	case convs > 1 && biased == convs && otherNorms == 0:
		a.BatchNorm = "folded"
	}
	delete(domains, "ai.onnx")
	a.CustomDomains = slices.AppendSeq(a.CustomDomains, maps.Keys(domains))
	slices.Sort(a.CustomDomains)
	a.ExternalData = a.ExternalData || slices.ContainsFunc(m.proto.Graph.Initializer, external)

	a.DynamicBatch = true
	if in := m.Inputs(); len(in) > 0 && len(in[0].Shape) > 0 && !in[0].Shape[0].Dynamic() {
		a.DynamicBatch, a.Batch = false, in[0].Shape[0].Size
	}
	return a
}

// Softmax says what the first output of the model holds: "softmax" (probabilities), "log_softmax" (their logarithms), or,
// where neither operator is the last, "logits". Logits names the tensor that goes into that operator, or else the output
// itself. Operators after it that move elements without changing them are looked through, so logits may have another
// shape than the output.
func (m *Model) Softmax() (kind, logits string) {
	first := m.proto.Graph.Output[0].GetName()
	producers := m.producers()
	source := func(name string) *pb.NodeProto {
		n := producers[name]
		for n != nil && passes(n) && n.Output[0] == name {
			name = input(n, 0)
			n = producers[name]
		}
		return n
	}
	n := source(first)
	switch {
	case n == nil:
	case is(n, "Softmax"):
		return "softmax", input(n, 0)
	case is(n, "LogSoftmax"):
		return "log_softmax", input(n, 0)
	case is(n, "Log"):
		if n := source(input(n, 0)); n != nil && is(n, "Softmax") {
			return "log_softmax", input(n, 0)
		}
	}
	return "logits", first
}

// passes reports whether a node's first output has the elements of its first input, unchanged and in order.
func passes(n *pb.NodeProto) bool {
	return slices.ContainsFunc([]string{"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout"},
		func(op string) bool { return is(n, op) })
}
