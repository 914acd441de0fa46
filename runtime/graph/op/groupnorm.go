package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// GroupNorm normalises each sample of x [N,C,…] over each of several groups of its channels and all that follows, then
// multiplies by scale and adds bias, each [C] (Wu and He 2018, arXiv:1803.08494). One group a channel is an instance norm.
// PyTorch's eps is 1e-5.
func GroupNorm(x, scale, bias *G.Node, groups int, eps float64) *G.Node {
	s := graph.ShapeOf(x)
	if len(s) < 3 || groups < 1 || s[1]%groups != 0 {
		graph.Fail("GroupNormalization", one(s), "x must be [N,C,…] and C a multiple of the %d groups", groups)
	}
	whole := append([]int{0}, s[1:]...) // for any batch size
	y := Reshape(LayerNorm(Reshape(x, 0, groups, -1), nil, nil, -1, eps), whole...)
	each := make([]int, len(s)-1)
	for i := range each {
		each[i] = 1
	}
	each[0] = s[1]
	return Add(Mul(y, Reshape(scale, each...)), Reshape(bias, each...))
}

// InstanceNorm is GroupNorm with one group a channel (Ulyanov et al. 2016, arXiv:1607.08022).
func InstanceNorm(x, scale, bias *G.Node, eps float64) *G.Node {
	s := graph.ShapeOf(x)
	if len(s) < 3 {
		graph.Fail("InstanceNormalization", one(s), "x must be [N,C,…]")
	}
	return GroupNorm(x, scale, bias, s[1], eps)
}

func liftInstanceNorm(n *Node) []*G.Node {
	return []*G.Node{InstanceNorm(n.X(0), n.X(1), n.X(2), n.Float("epsilon", 1e-5))}
}

// liftGroupNorm reads a GroupNormalization; before opset 21 its scale and bias are a number for each group.
func liftGroupNorm(n *Node) []*G.Node {
	x, scale, bias := n.X(0), n.X(1), n.X(2)
	groups := n.Int("num_groups", 0)
	s := graph.ShapeOf(x)
	if len(s) < 3 || groups < 1 || s[1]%groups != 0 {
		n.fail("x must be [N,C,…] and C a multiple of the %d groups", groups)
	}
	if n.Opset < 21 {
		each := graph.Shape{groups, s[1] / groups}
		spread := func(v *G.Node) *G.Node { return Reshape(Expand(Reshape(v, groups, 1), each), s[1]) }
		scale, bias = spread(scale), spread(bias)
	}
	return []*G.Node{GroupNorm(x, scale, bias, groups, n.Float("epsilon", 1e-5))}
}
