package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestTransferEfficiencyByHand(t *testing.T) {
	// Joint table, of 12: teacher 0: 4 0, teacher 1: 2 6.
	teacher := []int{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}
	student := []int{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1}
	r := TransferEfficiency(teacher, student, 2)
	third, ln2, ln3 := 1.0/3, math.Log(2), math.Log(3)
	hT := third*ln3 + 2*third*(ln3-ln2)
	hS := ln2
	hTS := third*ln3 + math.Log(6)/6 + ln2/2
	near(t, "plug-in", r.PlugIn, (hT+hS-hTS)/hT)
	near(t, "H(T)", r.Entropy, hT+1.0/24)
	near(t, "I(T;S)", r.Information, hT+hS-hTS+(2+2-3-1)/24.0)
	near(t, "efficiency", r.Efficiency, r.Information/r.Entropy)
}

func TestTransferEfficiencyOfKnownPairs(t *testing.T) {
	const n, k = 2000, 10
	rng := rand.New(rand.NewPCG(1, 1))
	teacher, permuted, halved := make([]int, n), make([]int, n), make([]int, n)
	for i := range teacher {
		teacher[i] = i % k
		permuted[i] = (3*teacher[i] + 1) % k
		halved[i] = teacher[i] / 2
	}
	for _, c := range []struct {
		name    string
		student []int
		want    float64
	}{
		{"identical", teacher, 1},
		{"permuted", permuted, 1},
		{"classes in pairs", halved, math.Log(5) / math.Log(10)},
	} {
		r := TransferEfficiency(teacher, c.student, k)
		near(t, c.name+", plug-in", r.PlugIn, c.want)
		about(t, c.name, r.Efficiency, c.want, 2e-3) // the correction moves it, of 1 not at all
		if c.want == 1 {
			near(t, c.name, r.Efficiency, 1)
		}
	}

	// The plug-in estimate for independent classes is (k−1)²/2N too high; the correction takes that away.
	var plugIn, efficiency []float64
	student := make([]int, n)
	for range 200 {
		for i := range student {
			student[i] = rng.IntN(k)
		}
		r := TransferEfficiency(teacher, student, k)
		plugIn, efficiency = append(plugIn, r.PlugIn), append(efficiency, r.Efficiency)
	}
	bias := (k - 1.0) * (k - 1) / (2 * n) / math.Log(k)
	mean, std := MeanStd(plugIn)
	about(t, "independent, plug-in", mean, bias, 4*std/math.Sqrt(200)+0.02*bias)
	mean, std = MeanStd(efficiency)
	about(t, "independent", mean, 0, 4*std/math.Sqrt(200)+0.02*bias)

	constant := TransferEfficiency(make([]int, n), student, k)
	if !math.IsNaN(constant.Efficiency) || !math.IsNaN(constant.PlugIn) || constant.Entropy != 0 {
		t.Errorf("of a constant teacher: %+v", constant)
	}
	near(t, "a constant student", TransferEfficiency(teacher, make([]int, n), k).Efficiency, 0)
}

func TestPredictiveInformationByHand(t *testing.T) {
	z := logit(0.75)
	h := math.Log(4) - 0.75*math.Log(3)
	about(t, "two sides", PredictiveInformation([]float32{0, z, z, 0}, 2, 1), math.Log(2)-h, 1e-7)
	about(t, "one side", PredictiveInformation([]float32{0, z, 0, z}, 2, 1), 0, 1e-7)
	about(t, "sure of each of two", PredictiveInformation([]float32{0, 900, 900, 0}, 2, 1), math.Log(2), 1e-12)
	about(t, "made unsure", PredictiveInformation([]float32{0, 2 * z, 2 * z, 0}, 2, 2), math.Log(2)-h, 1e-7)
}

func TestCapacityBoundByHand(t *testing.T) {
	near(t, "2/(½²·4)", CapacityBound(2, 4, 0.5), 2)
	if got := CapacityBound(1, 0, 0.5); !math.IsInf(got, 1) {
		t.Errorf("a student that is its teacher: %v", got)
	}
	if a, b := CapacityBound(1, 1e-3, 0.5), CapacityBound(1, 1e-6, 0.5); b < 999*a {
		t.Errorf("it does not diverge: %v, then %v", a, b)
	}
}
