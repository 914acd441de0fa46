package onnx

import (
	"math"

	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
)

// gelu finds the x of which a product is GELU, ½·x·(1 + erf(x/√2)) in any order, and √2 as the file has rounded it: before opset 20
// exporters write it so. x is nil where the product is another.
func (l *lifter) gelu(n *pb.NodeProto) (x *G.Node, root float64) {
	if !is(n, "Mul") || len(n.Input) != 2 {
		return nil, 0
	}
	for i, v := range n.Input {
		inner := l.network.producers[v]
		if inner == nil || !is(inner, "Mul") || len(inner.Input) != 2 {
			continue
		}
		factors := [3]string{n.Input[1-i], inner.Input[0], inner.Input[1]}
		for k, sum := range factors {
			a, b := factors[(k+1)%3], factors[(k+2)%3]
			x, root := l.onePlusErf(sum)
			if x != "" && (a == x && l.number(b) == 0.5 || b == x && l.number(a) == 0.5) {
				return l.values[x].Tensor, root
			}
		}
	}
	return nil, 0
}

// onePlusErf is the name of the x of which a value is 1 + erf(x/√2), and that √2; "" where it is something else.
func (l *lifter) onePlusErf(name string) (x string, root float64) {
	sum := l.network.producers[name]
	if sum == nil || !is(sum, "Add") || len(sum.Input) != 2 {
		return "", 0
	}
	for i, v := range sum.Input {
		erf := l.network.producers[v]
		if erf == nil || !is(erf, "Erf") || l.number(sum.Input[1-i]) != 1 {
			continue
		}
		scaled := l.network.producers[input(erf, 0)]
		if scaled == nil || len(scaled.Input) != 2 {
			continue
		}
		a, b := scaled.Input[0], scaled.Input[1]
		switch {
		case is(scaled, "Div"):
			x, root = a, l.number(b)
		case is(scaled, "Mul") && l.number(b) != 0:
			x, root = a, 1/l.number(b)
		case is(scaled, "Mul"):
			x, root = b, 1/l.number(a)
		}
		if math.Abs(root-math.Sqrt2) < 1e-6 { // NaN and ±Inf are not
			return x, root
		}
	}
	return "", 0
}

// number is a constant number; 0 where a value is none.
func (l *lifter) number(name string) float64 {
	c := l.values[name].Const
	if c == nil || len(c.F) != 1 {
		return 0
	}
	return c.F[0]
}
