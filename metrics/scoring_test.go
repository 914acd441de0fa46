package metrics

import (
	"math"
	"testing"
)

// logit(p) beside 0 has the probability p.
func logit(p float64) float32 { return float32(math.Log(p / (1 - p))) }

func about(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestScoresByHand(t *testing.T) {
	logits := []float32{0, logit(0.75), 0, logit(0.9)}
	labels := []int64{1, 0}
	about(t, "NLL", NLL(logits, 2, labels), -(math.Log(0.75)+math.Log(0.1))/2, 1e-7)
	about(t, "Brier", Brier(logits, 2, labels), (2*0.25*0.25+2*0.9*0.9)/2, 1e-7)
	h := func(p float64) float64 { return -p*math.Log(p) - (1-p)*math.Log(1-p) }
	about(t, "entropy", MeanEntropy(logits, 2), (h(0.75)+h(0.9))/2, 1e-7)

	near(t, "entropy of the undecided", MeanEntropy(make([]float32, 8), 8), math.Log(8))
	sure := []float32{0, 2000}
	near(t, "entropy of the sure", MeanEntropy(sure, 2), 0)
	near(t, "NLL of the sure and wrong", NLL(sure, 2, []int64{0}), 2000)
	near(t, "Brier of the sure and wrong", Brier(sure, 2, []int64{0}), 2)
	near(t, "Brier of the sure and right", Brier(sure, 2, []int64{1}), 0)
	if got := NLL(nil, 2, nil); !math.IsNaN(got) {
		t.Errorf("NLL of nothing is %v", got)
	}
}

func TestTemperatureCalibrates(t *testing.T) {
	// Three of four are right.
	labels := []int64{1, 1, 1, 0}
	for _, c := range []struct {
		name string
		p    float64 // the confidence of all four
		want float64
	}{
		{"calibrated", 0.75, 1},
		{"too sure", 0.9, math.Log(9) / math.Log(3)},
		{"too unsure", 0.6, math.Log(1.5) / math.Log(3)},
	} {
		z := logit(c.p)
		about(t, c.name, Temperature([]float32{0, z, 0, z, 0, z, 0, z}, 2, labels), c.want, 1e-6)
	}
	about(t, "always right", Temperature([]float32{0, 1}, 2, []int64{1}), MinTemperature, 1e-6)
	about(t, "always wrong", Temperature([]float32{0, 1}, 2, []int64{0}), MaxTemperature, 1e-4)
}
