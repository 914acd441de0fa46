package metrics

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// Quality is the score "3C" of each of several teachers, 0..1:
//
//	0.6·tr(Fisher)/max tr(Fisher) + 0.4·components/max components
//
// with the maxima over the teachers, so that scores of different lots do not compare. All traces must be of one kind. A term
// whose maximum is not above 0 is 0. Of one teacher, the score says nothing: it is 1.
func Quality(fisher, components []float64) []float64 {
	match(len(fisher), len(components))
	score := make([]float64, len(fisher))
	for _, term := range []struct {
		weight float64
		values []float64
	}{{0.6, fisher}, {0.4, components}} {
		if len(score) > 0 && floats.Max(term.values) > 0 {
			floats.AddScaled(score, term.weight/floats.Max(term.values), term.values)
		}
	}
	return score
}

// Components is how many principal components hold a share, 0..1, of the variance of features [N,d]: an effective dimension. It
// grows with N, and is at most min(N−1, d): compare it for equal N alone. It is 0 where nothing varies; ok is false for
// features that are not finite, and for fewer than two samples.
func Components(features []float32, d int, share float64) (count int, ok bool) {
	n := rows(len(features), d)
	if n < 2 {
		return 0, false
	}
	x, square := mat.NewDense(n, d, nil), 0.0
	for i, v := range features {
		x.Set(i/d, i%d, float64(v))
		square += float64(v) * float64(v)
	}
	var pc stat.PC
	if math.IsNaN(square) || math.IsInf(square, 0) || !pc.PrincipalComponents(x, nil) {
		return 0, false
	}
	variances := pc.VarsTo(nil)
	total := floats.Sum(variances)
	if total <= 0x1p-48*square/float64(n) { // what rounding to float32 leaves of a constant
		return 0, true
	}
	missing := share * total
	for _, v := range variances {
		if missing <= 0 {
			break
		}
		missing -= v
		count++
	}
	return count, true
}

// ClassifierFisher is, for each sample, its part of the trace of the Fisher information of a last dense layer z = W·h + b alone:
//
//	E ‖∇_{W,b} log p(ŷ)‖² = E ‖p − e_ŷ‖²·(‖h‖²+1) = (1 − ‖p‖²)·(‖h‖²+1), ŷ ~ p = softmax(z)
//
// from logits [N,k] and features h [N,d]; the expectation over ŷ is exact. With no features it is 1 − ‖p‖², the trace with
// respect to the logits. Both need no gradient, and rank networks otherwise than the trace over all weights may.
func ClassifierFisher(logits []float32, k int, features []float32, d int) []float64 {
	n := rows(len(logits), k)
	if features != nil {
		match(n, rows(len(features), d))
	}
	trace, p := make([]float64, n), make([]float64, k)
	for i := range trace {
		Softmax(p, logits[i*k:][:k])
		// 1 − ‖p‖² by sums of small terms: Σ p_j·(1−p_j), where the surest class's 1−p is the sum of the others.
		top := floats.MaxIdx(p)
		others := 0.0
		for j, v := range p {
			if j != top {
				others += v
				trace[i] += v * (1 - v)
			}
		}
		trace[i] += p[top] * others
		if features == nil {
			continue
		}
		square := 1.0
		for _, v := range features[i*d:][:d] {
			square += float64(v) * float64(v)
		}
		trace[i] *= square
	}
	return trace
}
