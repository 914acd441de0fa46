package graph

import (
	"slices"

	G "gorgonia.org/gorgonia"
)

// Made is the operator that makes a node, and what it is applied to; nil for a leaf.
func Made(n *G.Node) (Op, []*G.Node) {
	a, ok := n.Op().(*apply)
	if !ok {
		return nil, nil
	}
	return a.op, slices.Clone(a.inputs)
}
