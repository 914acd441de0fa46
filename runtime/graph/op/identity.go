package op

import (
	"slices"

	G "gorgonia.org/gorgonia"
)

func identity(x *G.Node) *G.Node { return x }

// liftCast passes floats on, of whatever width, for programs compute in float32, and makes floats of a constant.
func liftCast(n *Node) []*G.Node {
	const float, half, double, bfloat = 1, 10, 11, 16 // TensorProto.DataType
	if to := n.Int("to", float); !slices.Contains([]int{float, half, double, bfloat}, to) {
		n.fail("only a cast to floats can be trained, not to type %d", to)
	}
	return []*G.Node{n.floats(0)}
}
