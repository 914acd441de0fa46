package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// DepthToSpace makes x [N,C·b·b,H,W] an image [N,C,H·b,W·b]: each b×b block comes from the channels of one place. The block's
// row and column are the outer part of a channel's number or, as in PyTorch's pixel shuffle, the inner.
func DepthToSpace(x *G.Node, b int, inner bool) *G.Node {
	s := graph.ShapeOf(x)
	if len(s) != 4 || b < 1 || b > s[1] || s[1]%(b*b) != 0 {
		graph.Fail("DepthToSpace", one(s), "x must be [N,C·b·b,H,W] with a block b of %d", b)
	}
	c, h, w := s[1]/(b*b), s[2], s[3]
	if inner {
		x = Transpose(Reshape(x, 0, c, b, b, h, w), 0, 1, 4, 2, 5, 3)
	} else {
		x = Transpose(Reshape(x, 0, b, b, c, h, w), 0, 3, 4, 1, 5, 2)
	}
	return Reshape(x, 0, c, h*b, w*b)
}

// SpaceToDepth makes x [N,C,H·b,W·b] of the shape [N,C·b·b,H,W]; it undoes a DepthToSpace that is not inner.
func SpaceToDepth(x *G.Node, b int) *G.Node {
	s := graph.ShapeOf(x)
	if len(s) != 4 || b < 1 || s[2]%b != 0 || s[3]%b != 0 {
		graph.Fail("SpaceToDepth", one(s), "x must be [N,C,H·b,W·b] with a block b of %d", b)
	}
	c, h, w := s[1], s[2]/b, s[3]/b
	return Reshape(Transpose(Reshape(x, 0, c, h, b, w, b), 0, 3, 5, 1, 2, 4), 0, c*b*b, h, w)
}

func liftDepthToSpace(n *Node) []*G.Node {
	mode := n.String("mode", "DCR")
	if mode != "DCR" && mode != "CRD" {
		n.fail("the mode %q is unknown", mode)
	}
	return []*G.Node{DepthToSpace(n.X(0), n.Int("blocksize", 0), mode == "CRD")}
}

func liftSpaceToDepth(n *Node) []*G.Node {
	return []*G.Node{SpaceToDepth(n.X(0), n.Int("blocksize", 0))}
}
