// Package metrics measures classifiers: pure functions on logits, [N,K] row by row, and labels, [N] in 0..K-1.
//
//	top1 := metrics.Top1(logits, 10, labels)
//	fmt.Printf("%.1f %% ± %.1f\n", 100*top1, 100*metrics.StdErr(top1, len(labels)))
package metrics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// Argmax is the index of the largest value, the lowest of them where several are equal. NaN is below every number.
func Argmax(row []float32) int {
	best := 0
	for i, v := range row {
		if v > row[best] || isNaN(row[best]) && !isNaN(v) {
			best = i
		}
	}
	return best
}

func isNaN(v float32) bool { return v != v }

// Predictions is the Argmax of each of the N rows of k logits. Like all functions here, it panics on lengths that do
// not fit together.
func Predictions(logits []float32, k int) []int {
	n := rows(len(logits), k)
	p := make([]int, n)
	for i := range p {
		p[i] = Argmax(logits[i*k:][:k])
	}
	return p
}

// Correct reports, for each sample, whether its label has the largest of its k logits.
func Correct(logits []float32, k int, labels []int64) []bool {
	return correct(logits, k, labels, 1)
}

// Top1 is the fraction of samples, 0..1, whose label has the largest of its k logits. Like every mean here, it is NaN
// where there are no samples.
func Top1(logits []float32, k int, labels []int64) float64 {
	return TopK(logits, k, labels, 1)
}

// TopK is the fraction of samples, 0..1, whose label is among the top largest of its k logits; of equal logits the one
// with the lower index counts as larger, as for Argmax. A label whose logit is NaN is never among them.
func TopK(logits []float32, k int, labels []int64, top int) float64 {
	return fraction(correct(logits, k, labels, top))
}

func correct(logits []float32, k int, labels []int64, top int) []bool {
	match(rows(len(logits), k), len(labels))
	hit := make([]bool, len(labels))
	for i, y := range labels {
		row := logits[i*k:][:k]
		larger := 0
		for j, v := range row {
			if v > row[y] || v == row[y] && j < int(y) {
				larger++
			}
		}
		hit[i] = larger < top && !isNaN(row[y])
	}
	return hit
}

// Agreement is the fraction of samples, 0..1, for which a and b, k logits each, have the same Argmax.
func Agreement(a, b []float32, k int) float64 {
	p, q := Predictions(a, k), Predictions(b, k)
	match(len(p), len(q))
	same := make([]bool, len(p))
	for i := range p {
		same[i] = p[i] == q[i]
	}
	return fraction(same)
}

// StdErr is the standard error of a proportion p measured on n independent samples: √(p(1−p)/n).
func StdErr(p float64, n int) float64 { return math.Sqrt(p * (1 - p) / float64(n)) }

// Paired is the difference in accuracy, a − b, of two classifiers on the same samples, and its standard error: that of
// the mean of the differences sample by sample, each −1, 0 or 1. The samples on which both are right or both wrong
// cancel, which makes it as sharp as McNemar's test.
func Paired(a, b []bool) (diff, stderr float64) {
	match(len(a), len(b))
	d := make([]float64, len(a))
	for i := range a {
		d[i] = indicator(a[i]) - indicator(b[i])
	}
	mean, std := MeanStd(d)
	return mean, stat.StdErr(std, float64(len(d)))
}

// ECE is the expected calibration error, 0..1, of Guo et al. 2017 (arXiv:1706.04599), eq. 3: samples fall into bins
// of equal width by their confidence, the largest softmax probability, with bin m covering ((m−1)/bins, m/bins]; the
// error is the mean over samples of |accuracy − confidence| of their bin. The usual number of bins is 15.
func ECE(logits []float32, k int, labels []int64, bins int) float64 {
	hit := Correct(logits, k, labels)
	gap := make([]float64, bins) // sum of accuracy − confidence
	p := make([]float64, k)
	for i := range hit {
		confidence := floats.Max(Softmax(p, logits[i*k:][:k]))
		if math.IsNaN(confidence) {
			return math.NaN()
		}
		bin := int(math.Ceil(confidence*float64(bins))) - 1
		gap[min(max(bin, 0), bins-1)] += indicator(hit[i]) - confidence
	}
	return floats.Norm(gap, 1) / float64(len(hit))
}

// Softmax writes exp(z_i) / Σ exp(z_j) of a row of logits to dst, of the same length, and returns it.
func Softmax(dst []float64, logits []float32) []float64 {
	LogSoftmax(dst, logits)
	for i, v := range dst {
		dst[i] = math.Exp(v)
	}
	return dst
}

// LogSoftmax writes z_i − log Σ exp(z_j) of a row of logits to dst, of the same length, and returns it.
func LogSoftmax(dst []float64, logits []float32) []float64 {
	match(len(dst), len(logits))
	for i, v := range logits {
		dst[i] = float64(v)
	}
	floats.AddConst(-floats.LogSumExp(dst), dst)
	return dst
}

// MeanStd is the mean of values, such as one result per seed, and their sample standard deviation (n−1 in the
// denominator); the deviation of a single value is 0.
func MeanStd(values []float64) (mean, std float64) {
	if len(values) == 1 {
		return values[0], 0
	}
	return stat.MeanStdDev(values, nil)
}

// fraction is the share of true values.
func fraction(hit []bool) float64 {
	n := 0
	for _, h := range hit {
		if h {
			n++
		}
	}
	return float64(n) / float64(len(hit))
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// rows is the number of rows of k in n values.
func rows(n, k int) int {
	if k < 1 || n%k != 0 {
		panic(fmt.Sprintf("metrics: %d logits are not rows of %d", n, k))
	}
	return n / k
}

func match(n, m int) {
	if n != m {
		panic(fmt.Sprintf("metrics: %d and %d do not fit together", n, m))
	}
}
