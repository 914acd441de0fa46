package op

import (
	G "gorgonia.org/gorgonia"
	"math"

	"distill/runtime/graph"
)

// clip limits x to lo..hi.
type clip struct {
	smooth
	lo, hi float64
}

// Clip limits x to lo..hi; its gradient is 0 where it limits and at the limits. ReLU6 is Clip(x, 0, 6).
func Clip(x *G.Node, lo, hi float64) *G.Node { return graph.Apply(clip{lo: lo, hi: hi}, x) }

func (clip) Name() string { return "Clip" }

func (c clip) Infer(in []graph.Shape) []graph.Shape {
	arity("Clip", in, 1)
	if !(c.lo < c.hi) {
		graph.Fail("Clip", in, "the limits %v and %v are not in order", c.lo, c.hi)
	}
	return in
}

func (c clip) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 { return min(max(x, c.lo), c.hi) })}
}

// Grad asks the output, so that nothing needs x any more.
func (c clip) Grad(_ []*G.Node, out, dout *G.Node) []*G.Node {
	return []*G.Node{Mul(dout, between(out, c.lo, c.hi))}
}

func (c clip) Lower(e graph.Emitter, in []graph.Operand) []string {
	lo, hi := e.Const(graph.Scalar(float32(c.lo))), e.Const(graph.Scalar(float32(c.hi)))
	return []string{e.Emit("Clip", in[0].Shape, []string{in[0].Name, lo, hi})}
}

func liftClip(n *Node) []*G.Node {
	lo, hi := n.Float("min", math.Inf(-1)), n.Float("max", math.Inf(1))
	if n.Opset >= 11 {
		lo, hi = n.ScalarIn(1, lo), n.ScalarIn(2, hi)
	}
	lo, hi = max(lo, -math.MaxFloat32), min(hi, math.MaxFloat32) // a limit that is absent, as the exporter may write it
	return []*G.Node{Clip(n.X(0), lo, hi)}
}
