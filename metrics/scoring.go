package metrics

import "math"

// NLL is the mean of −log softmax(logits)[label] over the samples, in nats: the cross-entropy with the labels.
func NLL(logits []float32, k int, labels []int64) float64 {
	match(rows(len(logits), k), len(labels))
	sum, l := 0.0, make([]float64, k)
	for i, y := range labels {
		sum -= LogSoftmax(l, logits[i*k:][:k])[y]
	}
	return sum / float64(len(labels))
}

// Brier is the score of Brier 1950 (Monthly Weather Review 78), in its first form, 0..2: the mean over samples of
// Σ_k (p_k − [k = label])², with p the softmax of the logits. It is the lower the better, and lowest in the mean for the true
// probabilities.
func Brier(logits []float32, k int, labels []int64) float64 {
	match(rows(len(logits), k), len(labels))
	sum, p := 0.0, make([]float64, k)
	for i, y := range labels {
		Softmax(p, logits[i*k:][:k])
		p[y]--
		for _, d := range p {
			sum += d * d
		}
	}
	return sum / float64(len(labels))
}

// MeanEntropy is the mean over samples of the entropy of the softmax of k logits each, in nats, 0..log k.
func MeanEntropy(logits []float32, k int) float64 {
	n := rows(len(logits), k)
	sum, l := 0.0, make([]float64, k)
	for i := range n {
		for _, v := range LogSoftmax(l, logits[i*k:][:k]) {
			if p := math.Exp(v); p > 0 { // 0·log 0 is 0
				sum -= p * v
			}
		}
	}
	return sum / float64(n)
}

// The temperatures among which Temperature looks.
const (
	MinTemperature = 1.0 / 32
	MaxTemperature = 32.0
)

// Temperature is the T, MinTemperature..MaxTemperature, for which softmax(logits/T) has the least NLL: the calibration of Guo et
// al. 2017 (arXiv:1706.04599), §4.2. It is 1 for logits that are calibrated, more for a model that is too sure.
func Temperature(logits []float32, k int, labels []int64) float64 {
	match(rows(len(logits), k), len(labels))
	// The NLL is convex in β = 1/T: its slope, Σ E_p[z] − z_label, rises with β, and is bisected in log β.
	scaled, p := make([]float32, k), make([]float64, k)
	slope := func(beta float64) (sum float64) {
		for i, y := range labels {
			z := logits[i*k:][:k]
			for j, v := range z {
				scaled[j] = float32(beta * float64(v))
			}
			for j, q := range Softmax(p, scaled) {
				sum += q * float64(z[j])
			}
			sum -= float64(z[y])
		}
		return sum
	}
	low, high := math.Log(1/MaxTemperature), math.Log(1/MinTemperature)
	for range 30 { // halves 6.9 to less than 1e-8
		if middle := (low + high) / 2; slope(math.Exp(middle)) < 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return math.Exp(-(low + high) / 2)
}
