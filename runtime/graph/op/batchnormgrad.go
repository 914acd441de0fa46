package op

import (
	"math"

	"distill/runtime/graph"
)

// batchNormGrad is the gradient of batchNormTraining with respect to x, gamma and beta, from x, gamma, mean, variance and dy.
// With m elements a channel and x̂ = (x − mean)·inv, inv = 1/√(variance + eps):
//
//	dβ = Σ dy,  dγ = Σ dy·x̂,  dx = γ·inv·(dy − dβ/m − x̂·dγ/m)
type batchNormGrad struct{ eps float64 }

func (batchNormGrad) Name() string { return "BatchNormGrad" }

func (batchNormGrad) Infer(in []graph.Shape) []graph.Shape {
	return []graph.Shape{in[0], in[1], in[1]}
}

func (b batchNormGrad) Eval(in []graph.Array) []graph.Array {
	x, gamma, mean, variance, dy := in[0], in[1], in[2], in[3], in[4]
	c, plane := x.Shape[1], x.Shape[2:].Size()
	m := float64(len(x.F) / c)
	dx, dgamma, dbeta := graph.Zeros(x.Shape), graph.Zeros(gamma.Shape), graph.Zeros(gamma.Shape)
	normal := func(i, k int) float64 { return (x.F[i] - mean.F[k]) / math.Sqrt(variance.F[k]+b.eps) }
	for i, d := range dy.F {
		k := i / plane % c
		dbeta.F[k] += d
		dgamma.F[k] += d * normal(i, k)
	}
	for i, d := range dy.F {
		k := i / plane % c
		dx.F[i] = gamma.F[k] / math.Sqrt(variance.F[k]+b.eps) * (d - dbeta.F[k]/m - normal(i, k)*dgamma.F[k]/m)
	}
	return []graph.Array{dx, dgamma, dbeta}
}

// Lower needs two sums and one affine pass: dx = a·dy + b·x + c.
func (b batchNormGrad) Lower(e graph.Emitter, in []graph.Operand) []string {
	x := in[0].Shape
	c := in[1].Shape
	if len(x) == 4 && e.Target().Fills(x[1]) {
		return e.EmitN(graph.BlockedDomain+":BatchNormGrad", []graph.Shape{x, c, c}, names(in), graph.Attr{Name: "epsilon", Value: float32(b.eps)})
	}
	gamma, mean, variance, dy := in[1].Name, in[2].Name, in[3].Name, in[4].Name
	vector := func(op string, a, b string) string { return e.Emit(op, c, []string{a, b}) }
	scalar := func(v float64) string { return e.Const(graph.Scalar(float32(v))) }
	sums := func(v string) string { return emitChannelSums(e, v, x) }
	broadcast := func(v string) string { return emitPerChannel(e, v, x) }
	image := func(op string, a, b string) string { return e.Emit(op, x, []string{a, b}) }

	inv := emitInverseDeviation(e, variance, c, b.eps)
	dbeta := sums(dy)
	dgamma := vector("Mul", inv, vector("Sub", sums(image("Mul", dy, in[0].Name)), vector("Mul", mean, dbeta)))
	ka := vector("Mul", gamma, inv)
	per := vector("Mul", ka, scalar(-float64(x[1])/float64(x.Size())))
	kb := vector("Mul", vector("Mul", per, inv), dgamma)
	kc := vector("Sub", vector("Mul", per, dbeta), vector("Mul", kb, mean))
	dx := image("Add", image("Add", image("Mul", dy, broadcast(ka)), image("Mul", in[0].Name, broadcast(kb))), broadcast(kc))
	return []string{dx, dgamma, dbeta}
}
