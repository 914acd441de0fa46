package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// band is 1 where lo < x < hi, else 0: the gradient of what has kinks. It has none itself.
type band struct{ lo, hi float64 }

func between(x *G.Node, lo, hi float64) *G.Node { return graph.Apply(band{lo, hi}, x) }
func above(x *G.Node, lo float64) *G.Node       { return between(x, lo, math.Inf(1)) }

func (band) Name() string                         { return "Band" }
func (band) Infer(in []graph.Shape) []graph.Shape { return in }

func (b band) Eval(in []graph.Array) []graph.Array {
	return []graph.Array{mapped(in[0], func(x float64) float64 {
		if b.lo < x && x < b.hi {
			return 1
		}
		return 0
	})}
}

func (b band) Lower(e graph.Emitter, in []graph.Operand) []string {
	x := in[0]
	var masks []string
	if !math.IsInf(b.lo, 0) {
		masks = append(masks, b.emitSide(e, x, "Greater", b.lo, 1))
	}
	if !math.IsInf(b.hi, 0) {
		masks = append(masks, b.emitSide(e, x, "Less", b.hi, -1))
	}
	if len(masks) == 1 {
		return masks
	}
	return []string{e.Emit("Mul", x.Shape, masks)}
}

// Steep makes HardSigmoid, which is max(0, min(1, αx + β)), a step: as a power of two it leaves x and the limit exact. Numbers
// above a limit of 0 and below 2⁻¹²⁰ get a part of the step.
const Steep = 0x1p120

// emitSide is 1 on one side of a limit. As one HardSigmoid it takes half the time of a comparison and a Cast, and a third of
// that of a Where.
func (b band) emitSide(e graph.Emitter, x graph.Operand, comparison string, limit, sign float64) string {
	if e.Target().Fused && math.Abs(limit)*Steep < math.MaxFloat32 {
		return e.Emit("HardSigmoid", x.Shape, []string{x.Name}, graph.Attr{Name: "alpha", Value: float32(sign * Steep)},
			graph.Attr{Name: "beta", Value: float32(-sign * limit * Steep)})
	}
	mask := e.Emit(comparison, x.Shape, []string{x.Name, e.Const(graph.Scalar(float32(limit)))})
	return e.Emit("Cast", x.Shape, []string{mask}, graph.Attr{Name: "to", Value: onnxFloat})
}
