package onnx

import "distill/runtime/graph"

// Weight is a tensor of a Network, by the name under which Lifting.Freeze and the Store know it.
type Weight struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	Op    string `json:"op"`   // type of the first node that reads it
	Node  string `json:"node"` // name of that node; may be empty
	// Trained says that gradients change it; they do not change running statistics and what is frozen.
	Trained bool `json:"trained"`
}

// Weights lists what is trained or kept from run to run, in the order of the file.
func (n *Network) Weights() []Weight {
	at := map[string]int{}
	list := make([]Weight, len(n.order))
	for i, name := range n.order {
		w := n.weights[name]
		at[name], list[i] = i, Weight{Name: name, Shape: w.tensor.Shape, Trained: w.kind == graph.Param}
	}
	for _, node := range n.model.proto.Graph.Node {
		reads(node, func(name string) {
			if i, ok := at[name]; ok && list[i].Op == "" && !is(node, "Identity") {
				list[i].Op, list[i].Node = node.GetOpType(), node.GetName()
			}
		})
	}
	return list
}
