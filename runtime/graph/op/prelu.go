package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// prelu is x where x > 0, else slope·x, with a slope that is trained.
type prelu struct{ smooth }

// PRelu is x where x > 0, else slope·x (He et al. 2015, arXiv:1502.01852). slope broadcasts to x: for a slope each channel
// of [N,C,H,W] it is [C,1,1].
func PRelu(x, slope *G.Node) *G.Node { return graph.Apply(prelu{}, x, slope) }

func (prelu) Name() string { return "PRelu" }

func (prelu) Infer(in []graph.Shape) []graph.Shape {
	arity("PRelu", in, 2)
	if s, ok := broadcast(in[0], in[1]); !ok || !s.Equal(in[0]) {
		graph.Fail("PRelu", in, "the slope does not stretch to x")
	}
	return in[:1]
}

func (prelu) Eval(in []graph.Array) []graph.Array {
	return binary{f: func(x, slope float64) float64 {
		if x > 0 {
			return x
		}
		return slope * x
	}}.Eval(in)
}

func (prelu) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	x, slope := in[0], in[1]
	up := above(x, 0)
	down := Mul(dy, Not(up))
	return []*G.Node{Add(Mul(dy, up), Mul(down, slope)), sumTo(Mul(down, x), graph.ShapeOf(slope))}
}

func (prelu) Lower(e graph.Emitter, in []graph.Operand) []string {
	return []string{e.Emit("PRelu", in[0].Shape, names(in))}
}
