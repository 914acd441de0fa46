package teacher

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"

	"distill/metrics"
)

// Rule makes one teacher of several.
type Rule interface {
	// Combine gives logits [N,K] from those of M teachers, [N,K] each, in the same classes; labels [N] are the images'. Where one
	// teacher has all the weight, and where all say the same, it is what they say: bit for bit, if the mean is of logits.
	Combine(logits [][]float32, k int, labels []int64) []float32
}

// Mean says of what the weighted mean of teachers is, for weights w_m ≥ 0 of sum 1, which may be an image's own. Which one is
// the teacher is open in the literature: Hinton et al. 2015 (arXiv:1503.02531), §1, name the geometric and the arithmetic mean of
// distributions.
//
//	z = Σ_m w_m·z_m                            Temperature 0
//	softmax(z/T) = Σ_m w_m·softmax(z_m/T)      Temperature T > 0
//
// The first is the normalised geometric mean, softmax(z/T) ∝ Π_m softmax(z_m/T)^w_m, at whatever temperature a loss takes; a teacher
// of larger logits counts more. The second is the mean of softened outputs of You et al. 2017 (KDD, "Learning from Multiple Teacher
// Networks") and Fukuda et al. 2017 (Interspeech) for a loss of the same temperature, at which each teacher counts alike; of
// probabilities for T = 1. It tends to the first, of logits less their mean, as T grows.
type Mean struct {
	Temperature float64 `yaml:"temperature"` // of the probabilities of which it is the mean; 0, the default: of logits
}

// Validate wants a temperature.
func (m Mean) Validate() error {
	if m.Temperature != 0 && !(m.Temperature >= 1e-3 && m.Temperature <= 1e6) {
		return fmt.Errorf("temperature must be 0 or in 0.001..1e6, not %v", m.Temperature)
	}
	return nil
}

// Average counts every teacher alike.
type Average struct {
	Mean `yaml:",inline"`
}

// Combine implements [Rule].
func (a Average) Combine(logits [][]float32, k int, _ []int64) []float32 {
	return a.mix(logits, k, func(int) []float64 { return equal(len(logits)) })
}

// Weights has a fixed weight for each teacher.
type Weights struct {
	Weights []float64 `yaml:"weights"` // [M], 0 or more; their sum counts as 1
	Mean    `yaml:",inline"`
}

// Validate wants weights of a positive sum.
func (w Weights) Validate() error {
	for i, v := range w.Weights {
		if !(v >= 0) {
			return fmt.Errorf("weights.%d must be 0 or more, not %v", i, v)
		}
	}
	if sum := floats.Sum(w.Weights); !(sum > 0) || math.IsInf(sum, 0) {
		return errors.New("weights need a number for each teacher, of a positive, finite sum")
	}
	return w.Mean.Validate()
}

// Combine implements [Rule].
func (w Weights) Combine(logits [][]float32, k int, _ []int64) []float32 {
	shares := make([]float64, len(logits))
	floats.ScaleTo(shares, 1/floats.Sum(w.Weights), w.Weights)
	return w.mix(logits, k, func(int) []float64 { return shares })
}

// Confidence weighs the teachers of an image by how sure they are of it, after CA-MKD (Zhang et al. 2022, arXiv:2201.00007),
// equation 4:
//
//	w_m = (1 − exp(c_m) / Σ_j exp(c_j)) / (M − 1)
//
// c_m is the cross-entropy of teacher m with the label, as there, or the entropy of what it says, which needs no label, but
// trusts a teacher that is sure and wrong. No weight is above 1/(M−1): of three teachers the worst can lose its say, not the
// second best.
type Confidence struct {
	Of   string `yaml:"of"` // label, the default, or entropy
	Mean `yaml:",inline"`
}

// Validate wants one of the two.
func (c Confidence) Validate() error {
	if c.Of != "label" && c.Of != "entropy" {
		return fmt.Errorf("of must be label or entropy, not %q", c.Of)
	}
	return c.Mean.Validate()
}

// Combine implements [Rule].
func (c Confidence) Combine(logits [][]float32, k int, labels []int64) []float32 {
	costs, p := make([]float64, len(logits)), make([]float64, k)
	return c.mix(logits, k, func(n int) []float64 {
		for m, z := range logits {
			if metrics.LogSoftmax(p, z[n*k:][:k]); c.Of == "label" {
				costs[m] = -p[labels[n]]
			} else {
				costs[m] = entropy(p)
			}
		}
		return weigh(costs)
	})
}

// Agreement weighs the teachers of an image by how well each agrees with the others: as [Confidence] does, with
//
//	c_m = KL(p̄ ‖ softmax(z_m)), p̄ the mean of the others' softmax(z_j)
//
// An outlier loses its say. Of two teachers, the one that gives the other's classes a chance has the greater weight.
type Agreement struct {
	Mean `yaml:",inline"`
}

// Combine implements [Rule].
func (a Agreement) Combine(logits [][]float32, k int, _ []int64) []float32 {
	costs, logs := make([]float64, len(logits)), make([][]float64, len(logits))
	for m := range logs {
		logs[m] = make([]float64, k)
	}
	return a.mix(logits, k, func(n int) []float64 {
		for m, z := range logits {
			metrics.LogSoftmax(logs[m], z[n*k:][:k])
		}
		for m := range logs {
			costs[m] = disagreement(logs, m)
		}
		return weigh(costs)
	})
}

// disagreement is KL(p̄ ‖ p_m), in nats, p̄ the mean of the others; logs are log p, [M][K].
func disagreement(logs [][]float64, m int) (kl float64) {
	if len(logs) == 1 {
		return 0
	}
	for class, own := range logs[m] {
		mean := 0.0
		for j, log := range logs {
			if j != m {
				mean += math.Exp(log[class]) / float64(len(logs)-1)
			}
		}
		if mean > 0 {
			kl += mean * (math.Log(mean) - own)
		}
	}
	return kl
}

// entropy is that of a distribution, in nats, by its logarithms.
func entropy(logs []float64) (h float64) {
	for _, log := range logs {
		if p := math.Exp(log); p > 0 {
			h -= p * log
		}
	}
	return h
}

// weigh is CA-MKD's equation 4.
func weigh(costs []float64) []float64 {
	if len(costs) == 1 {
		return equal(1)
	}
	w, all := make([]float64, len(costs)), floats.LogSumExp(costs)
	for m, c := range costs {
		w[m] = -math.Expm1(c-all) / float64(len(costs)-1)
	}
	return w
}

func equal(m int) []float64 {
	w := make([]float64, m)
	for i := range w {
		w[i] = 1 / float64(m)
	}
	return w
}

// mix is the mean with the weights of each image. Of z at a temperature a constant of each image is open; it is such that the
// mean of equal logits is they:
//
//	z = g + T·log Σ_m w_m·exp((z_m − g)/T − l_m + Σ_j w_j·l_j), g = Σ_m w_m·z_m, l_m = log Σ exp(z_m/T)
func (m Mean) mix(logits [][]float32, k int, weights func(image int) []float64) []float32 {
	out := make([]float32, len(logits[0]))
	scaled, parts, norms := make([]float64, k), make([]float64, len(logits)), make([]float64, len(logits))
	for n := range len(out) / k {
		w := weights(n)
		if m.Temperature > 0 {
			for i, z := range logits {
				for class, v := range z[n*k:][:k] {
					scaled[class] = float64(v) / m.Temperature
				}
				norms[i] = floats.LogSumExp(scaled)
			}
		}
		for at := n * k; at < (n+1)*k; at++ {
			g := 0.0
			for i, z := range logits {
				g += w[i] * float64(z[at])
			}
			if m.Temperature > 0 {
				mean := floats.Dot(w, norms)
				for i, z := range logits {
					parts[i] = math.Log(w[i]) + (float64(z[at])-g)/m.Temperature - norms[i] + mean
				}
				g += m.Temperature * floats.LogSumExp(parts)
			}
			out[at] = float32(g)
		}
	}
	return out
}
