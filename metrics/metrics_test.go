package metrics

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-12 {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

var nan = float32(math.NaN())

func TestArgmaxTakesTheLowestOfEquals(t *testing.T) {
	for _, tt := range []struct {
		row  []float32
		want int
	}{
		{[]float32{1, 3, 3, 2}, 1},
		{[]float32{0, 0, 0}, 0},
		{[]float32{-2, -1}, 1},
		{[]float32{nan, -5, -7}, 1},
		{[]float32{1, nan}, 0},
		{[]float32{nan, nan}, 0},
		{[]float32{float32(math.Inf(-1)), -9}, 1},
	} {
		if got := Argmax(tt.row); got != tt.want {
			t.Errorf("Argmax(%v) = %d, want %d", tt.row, got, tt.want)
		}
	}
}

func TestTopKByHand(t *testing.T) {
	logits := []float32{
		5, 1, 1, 0, // label 2: second of two equals, third
		0, 2, 9, 4, // label 3: second
		7, 7, 0, 0, // label 0: first of two equals
		nan, 1, 2, 3, // label 0: not a number
	}
	labels := []int64{2, 3, 0, 0}
	for top, want := range map[int]float64{1: 0.25, 2: 0.5, 3: 0.75, 4: 0.75} {
		near(t, fmt.Sprintf("top-%d", top), TopK(logits, 4, labels, top), want)
	}
	near(t, "top-1", Top1(logits, 4, labels), 0.25)
	if got := Correct(logits, 4, labels); !slices.Equal(got, []bool{false, false, true, false}) {
		t.Errorf("correct: %v", got)
	}
	if got := Predictions(logits, 4); !slices.Equal(got, []int{0, 2, 0, 3}) {
		t.Errorf("predictions: %v", got)
	}
}

func TestAgreementByHand(t *testing.T) {
	a := []float32{1, 0, 0, 1, 3, 2}
	b := []float32{9, 8, 1, 0, 0, 0} // the last is a tie, which index 0 wins
	near(t, "agreement", Agreement(a, b, 2), 2.0/3)
}

func TestStdErrByHand(t *testing.T) {
	near(t, "√(0.9·0.1/100)", StdErr(0.9, 100), 0.03)
	near(t, "a sure thing", StdErr(1, 10), 0)
}

func TestPairedByHand(t *testing.T) {
	a := []bool{true, true, true, false, true}
	b := []bool{true, false, false, true, true}
	// Differences 0, 1, 1, −1, 0: mean 1/5, squared deviations 0.04+0.64+0.64+1.44+0.04 = 2.8, variance 0.7.
	diff, stderr := Paired(a, b)
	near(t, "difference", diff, 0.2)
	near(t, "standard error", stderr, math.Sqrt(0.7/5))

	diff, stderr = Paired(a, a)
	near(t, "difference to itself", diff, 0)
	near(t, "its standard error", stderr, 0)
}

func TestECEByHand(t *testing.T) {
	// Logits 0 and log(p/(1−p)) have the confidence p.
	logit := func(p float64) float32 { return float32(math.Log(p / (1 - p))) }
	logits := []float32{0, logit(0.9), 0, logit(0.95), 0, logit(0.93), 0, logit(0.65)}
	labels := []int64{1, 0, 1, 0} // right, wrong, right, wrong
	// (0.5,0.75] holds 0.65: |0 − 0.65|. (0.75,1] holds the others: |2 − 2.78|. Together 1.43 over 4 samples.
	if got, want := ECE(logits, 2, labels, 4), 1.43/4; math.Abs(got-want) > 1e-7 {
		t.Errorf("got %v, want %v", got, want)
	}
	// Sure and right is calibrated, sure and wrong is not at all.
	near(t, "sure and right", ECE([]float32{0, 1000}, 2, []int64{1}, 15), 0)
	near(t, "sure and wrong", ECE([]float32{0, 1000}, 2, []int64{0}, 15), 1)
	// Undecided between two: confidence 1/2 and, over both labels, accuracy 1/2.
	near(t, "undecided", ECE([]float32{0, 0, 0, 0}, 2, []int64{0, 1}, 15), 0)
	if got := ECE([]float32{nan, 0}, 2, []int64{0}, 15); !math.IsNaN(got) {
		t.Errorf("of NaN: %v", got)
	}
}

func TestSoftmaxByHand(t *testing.T) {
	p := Softmax(make([]float64, 3), []float32{0, 0, 0})
	near(t, "a third", p[2], 1.0/3)
	p = Softmax(p[:2], []float32{1000, 999}) // would overflow unshifted
	near(t, "1/(1+1/e)", p[0], 1/(1+math.Exp(-1)))
	l := LogSoftmax(make([]float64, 2), []float32{-1000, 1000})
	near(t, "log of almost 0", l[0], -2000)
	near(t, "log of almost 1", l[1], 0)
}

func TestMeanStdByHand(t *testing.T) {
	mean, std := MeanStd([]float64{2, 4, 9})
	near(t, "mean", mean, 5)
	near(t, "deviation", std, math.Sqrt(13)) // (9+1+16)/2
	mean, std = MeanStd([]float64{3})
	near(t, "mean of one", mean, 3)
	near(t, "deviation of one", std, 0)
}

func TestNoSamplesGiveNaN(t *testing.T) {
	if got := Top1(nil, 3, nil); !math.IsNaN(got) {
		t.Errorf("top-1 of nothing is %v", got)
	}
	if got, _ := MeanStd(nil); !math.IsNaN(got) {
		t.Errorf("mean of nothing is %v", got)
	}
}

func TestLengthsThatDoNotFitPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"ragged logits":   func() { Predictions(make([]float32, 5), 2) },
		"missing labels":  func() { Top1(make([]float32, 4), 2, []int64{0}) },
		"other rows":      func() { Agreement(make([]float32, 4), make([]float32, 2), 2) },
		"other samples":   func() { Paired(make([]bool, 1), nil) },
		"a short softmax": func() { Softmax(nil, []float32{1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func ExamplePaired() {
	labels := []int64{0, 1, 1, 0}
	distilled := []float32{2, 1, 0, 3, 1, 2, 5, 4}
	alone := []float32{2, 1, 3, 0, 1, 2, 5, 4}
	diff, stderr := Paired(Correct(distilled, 2, labels), Correct(alone, 2, labels))
	fmt.Printf("%.2f ± %.2f", diff, stderr)
	// Output: 0.25 ± 0.25
}
