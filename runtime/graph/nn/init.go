package nn

import (
	"math"
	"math/rand/v2"

	"distill/runtime/graph"
)

// Uniform is PyTorch's default for convolutions and dense layers, weights and bias alike: U(−1/√fanIn, 1/√fanIn)
// (kaiming_uniform with a = √5).
func Uniform(fanIn int) graph.Init { return within(1 / math.Sqrt(float64(max(fanIn, 1)))) }

// within is U(−bound, bound).
func within(bound float64) graph.Init {
	return func(values []float32, _ graph.Shape, rng *rand.Rand) {
		for i := range values {
			values[i] = float32((2*rng.Float64() - 1) * bound)
		}
	}
}

// XavierUniform is U(−b, b) with b = √(6/(fanIn + fanOut)), for a weight [out,in,…] (Glorot and Bengio 2010).
func XavierUniform(values []float32, s graph.Shape, rng *rand.Rand) {
	fan := (s[0] + s[1]) * s[2:].Size()
	within(math.Sqrt(6/float64(max(fan, 1))))(values, s, rng)
}

// Normal is N(0, std²).
func Normal(std float64) graph.Init {
	return func(values []float32, _ graph.Shape, rng *rand.Rand) {
		for i := range values {
			values[i] = float32(std * rng.NormFloat64())
		}
	}
}

// KaimingNormal is N(0, 2/fanOut), for a weight [out,in,…] before a ReLU (He et al. 2015, arXiv:1502.01852, section 2.2).
// As in PyTorch, fanOut is out times the kernel's pixels, whatever the groups.
func KaimingNormal(values []float32, s graph.Shape, rng *rand.Rand) {
	fan := s[0] * s[2:].Size()
	Normal(math.Sqrt(2/float64(max(fan, 1))))(values, s, rng)
}

// TruncNormal is N(0, std²), drawn again where it leaves −2..2, which PyTorch's trunc_normal_ does not scale by std.
// 0 < std ≤ 1.
func TruncNormal(std float64) graph.Init {
	return func(values []float32, _ graph.Shape, rng *rand.Rand) {
		for i := range values {
			v := std * rng.NormFloat64()
			for math.Abs(v) > 2 {
				v = std * rng.NormFloat64()
			}
			values[i] = float32(v)
		}
	}
}

// initials are how a weight and its bias start: from own and zero, where own is given, else by PyTorch's default.
func initials(own graph.Init, fanIn int) (weight, bias graph.Init) {
	if own == nil {
		return Uniform(fanIn), Uniform(fanIn)
	}
	return own, graph.Constant(0)
}
