package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// hardSigmoid is alpha·x + beta, limited to 0..1.
type hardSigmoid struct {
	smooth
	alpha, beta float64
}

// HardSigmoid is alpha·x + beta, limited to 0..1; alpha is positive. PyTorch's is of alpha 1/6 and beta ½. Its gradient is 0
// at the limits.
func HardSigmoid(x *G.Node, alpha, beta float64) *G.Node {
	return graph.Apply(hardSigmoid{alpha: alpha, beta: beta}, x)
}

func (hardSigmoid) Name() string { return "HardSigmoid" }

func (o hardSigmoid) Infer(in []graph.Shape) []graph.Shape {
	arity("HardSigmoid", in, 1)
	if !(o.alpha > 0) {
		graph.Fail("HardSigmoid", in, "alpha is %v, not positive", o.alpha)
	}
	return in
}

func (o hardSigmoid) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 { return min(max(o.alpha*x+o.beta, 0), 1) })}
}

func (o hardSigmoid) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	return []*G.Node{Mul(dy, Scale(between(in[0], -o.beta/o.alpha, (1-o.beta)/o.alpha), o.alpha))}
}
func (o hardSigmoid) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("HardSigmoid", in[0].Shape, names(in),
		graph.Attr{Name: "alpha", Value: float32(o.alpha)}, graph.Attr{Name: "beta", Value: float32(o.beta)})}
}

func liftHardSigmoid(n *Node) []*G.Node {
	return []*G.Node{HardSigmoid(n.X(0), n.Float("alpha", 0.2), n.Float("beta", 0.5))}
}

func hardSwish() unary {
	return unary{name: "HardSwish", f: func(x float64) float64 { return x * min(max(x/6+0.5, 0), 1) },
		grad: func(x, _, dy *G.Node) *G.Node {
			slope := Mul(x, Scale(between(x, -3, 3), 1.0/6))
			return Mul(dy, Add(HardSigmoid(x, 1.0/6, 0.5), slope))
		}}
}

// HardSwish is x·HardSigmoid(x) with PyTorch's alpha and beta (Howard et al. 2019, arXiv:1905.02244).
func HardSwish(x *G.Node) *G.Node { return graph.Apply(hardSwish(), x) }
