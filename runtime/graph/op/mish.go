package op

import (
	"math"

	G "gorgonia.org/gorgonia"
)

// Mish is x·tanh(log(1+eˣ)) (Misra 2019, arXiv:1908.08681), as PyTorch exports it before opset 18: three nodes.
func Mish(x *G.Node) *G.Node { return Mul(x, Tanh(Softplus(x))) }

// GeluTanh is ½x(1+tanh(√(2/π)(x + 0.044715x³))), the approximation of Gelu by Hendrycks and Gimpel 2016 (arXiv:1606.08415).
func GeluTanh(x *G.Node) *G.Node {
	inner := Scale(Add(x, Scale(Pow(x, 3), 0.044715)), math.Sqrt(2/math.Pi))
	return Scale(Mul(x, Shift(Tanh(inner), 1)), 0.5)
}

func liftGelu(n *Node) []*G.Node {
	switch form := n.String("approximate", "none"); form {
	case "none":
		return []*G.Node{Gelu(n.X(0))}
	case "tanh":
		return []*G.Node{GeluTanh(n.X(0))}
	default:
		n.fail("the approximation %q is unknown", form)
		return nil
	}
}
