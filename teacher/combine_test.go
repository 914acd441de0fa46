package teacher

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/floats/scalar"

	"distill/metrics"
)

// everyRule is each rule with its fields set for m teachers.
func everyRule(m int, temperature float64) map[string]Rule {
	mean := Mean{temperature}
	shares := make([]float64, m)
	for i := range shares {
		shares[i] = float64(i + 1)
	}
	return map[string]Rule{
		"average":               Average{mean},
		"weights":               Weights{shares, mean},
		"confidence by label":   Confidence{"label", mean},
		"confidence by entropy": Confidence{"entropy", mean},
		"agreement":             Agreement{mean},
	}
}

// logitsOf are those of rows of probabilities, up to a constant of each row.
func logitsOf(p ...float64) []float32 {
	z := make([]float32, len(p))
	for i, v := range p {
		z[i] = float32(math.Log(v)) + 7
	}
	return z
}

func TestRulesGiveWhatTheirEquationsSay(t *testing.T) {
	a, b, c := []float64{0.8, 0.2}, []float64{0.4, 0.6}, []float64{0.5, 0.5}
	two, three := [][]float32{logitsOf(a...), logitsOf(b...)}, [][]float32{logitsOf(a...), logitsOf(b...), logitsOf(c...)}
	one := Mean{1}
	root := func(x, y float64) float64 { return math.Sqrt(x) / (math.Sqrt(x) + math.Sqrt(y)) }
	entropy := func(p float64) float64 { return -p*math.Log(p) - (1-p)*math.Log(1-p) }
	kl := func(p, q float64) float64 { return p*math.Log(p/q) + (1-p)*math.Log((1-p)/(1-q)) }
	// share is CA-MKD's weight of the first of some costs.
	share := func(costs ...float64) float64 {
		sum := 0.0
		for _, c := range costs {
			sum += math.Exp(c)
		}
		return (1 - math.Exp(costs[0])/sum) / float64(len(costs)-1)
	}
	e := []float64{entropy(0.8), entropy(0.4), entropy(0.5)}
	d := []float64{kl(0.45, 0.8), kl(0.65, 0.4), kl(0.6, 0.5)}
	for _, tt := range []struct {
		name   string
		rule   Rule
		logits [][]float32
		at     float64 // temperature
		want   float64 // probability of class 0
	}{
		{"geometric mean", Average{}, two, 1, root(0.8*0.4, 0.2*0.6)},
		{"geometric mean, softened", Average{}, two, 2, root(math.Sqrt(0.8*0.4), math.Sqrt(0.2*0.6))},
		{"arithmetic mean", Average{one}, two, 1, 0.6},
		{"arithmetic mean of softened outputs", Average{Mean{2}}, two, 2, (root(0.8, 0.2) + root(0.4, 0.6)) / 2},
		{"fixed weights", Weights{[]float64{3, 1}, one}, two, 1, 0.7},
		{"confidence of two", Confidence{"label", one}, two, 1, 2./3*0.8 + 1./3*0.4}, // exp(c) is 5/4 and 5/2
		{"confidence of three", Confidence{"label", one}, three, 1, (1-1.25/5.75)/2*0.8 + (1-2.5/5.75)/2*0.4 + (1-2/5.75)/2*0.5},
		{"confidence by entropy", Confidence{"entropy", one}, three, 1, share(e[0], e[1], e[2])*0.8 + share(e[1], e[0], e[2])*0.4 + share(e[2], e[0], e[1])*0.5},
		{"agreement", Agreement{one}, three, 1, share(d[0], d[1], d[2])*0.8 + share(d[1], d[0], d[2])*0.4 + share(d[2], d[0], d[1])*0.5},
	} {
		got := softened(tt.rule.Combine(tt.logits, 2, []int64{0}), 2, tt.at)[0]
		if !scalar.EqualWithinAbs(got, tt.want, 1e-6) {
			t.Errorf("%s: probability %.7f, want %.7f", tt.name, got, tt.want)
		}
	}
}

// An image's weights are its own, and the mean at any temperature is of the softened outputs.
func TestImagesAreCombinedOneByOne(t *testing.T) {
	const m, n, k = 3, 5, 4
	logits, labels := randomLogits(m, n, k, 3), []int64{0, 3, 1, 2, 2}
	for _, temperature := range []float64{0, 1, 4} {
		for name, rule := range everyRule(m, temperature) {
			all := rule.Combine(logits, k, labels)
			for i := range n {
				rows := make([][]float32, m)
				for j := range rows {
					rows[j] = logits[j][i*k:][:k]
				}
				if one := rule.Combine(rows, k, labels[i:][:1]); !slices.Equal(one, all[i*k:][:k]) {
					t.Errorf("%s at temperature %v: image %d alone gives %v, among others %v", name, temperature, i, one, all[i*k:][:k])
				}
			}
		}
	}
	want := make([]float64, n*k)
	for _, z := range logits {
		floats.AddScaled(want, 1./m, softened(z, k, 4))
	}
	if got := softened(Average{Mean{4}}.Combine(logits, k, nil), k, 4); !floats.EqualApprox(got, want, 1e-6) {
		t.Errorf("the average at temperature 4 is %v, want %v", got, want)
	}
}

func randomLogits(m, n, k int, scale float64) [][]float32 {
	rng := rand.New(rand.NewPCG(3, 3))
	logits := make([][]float32, m)
	for i := range logits {
		for range n * k {
			logits[i] = append(logits[i], float32(scale*rng.NormFloat64()))
		}
	}
	return logits
}

func TestTeachersThatSayTheSameAreOne(t *testing.T) {
	const n, k = 50, 10
	labels := make([]int64, n)
	for _, m := range []int{1, 2, 3, 7} {
		z := randomLogits(1, n, k, 20)[0]
		copies := slices.Repeat([][]float32{z}, m)
		for name, rule := range everyRule(m, 0) {
			if got := rule.Combine(copies, k, labels); !slices.Equal(got, z) {
				t.Errorf("%s of %d copies is another teacher", name, m)
			}
		}
		for name, rule := range everyRule(m, 4) {
			for i, v := range rule.Combine(copies, k, labels) {
				if !scalar.EqualWithinAbsOrRel(float64(v), float64(z[i]), 1e-12, 1e-7) {
					t.Errorf("%s of %d copies at a temperature: %v, want %v", name, m, v, z[i])
				}
			}
		}
	}
}

func TestTeacherWithAllTheWeightIsTheTeacher(t *testing.T) {
	logits := randomLogits(3, 50, 10, 20)
	for _, temperature := range []float64{0, 1, 4} {
		if got := (Weights{[]float64{0, 0.3, 0}, Mean{temperature}}).Combine(logits, 10, nil); !slices.Equal(got, logits[1]) {
			t.Errorf("at temperature %v it is another", temperature)
		}
	}
}

func TestExtremeLogitsAreCombined(t *testing.T) {
	big := [][]float32{{1e4, -1e4, 0}, {-1e4, 1e4, 0}, {1e4, 1e4, -1e4}}
	for _, temperature := range []float64{0, 1e-3, 1, 1e6} {
		for name, rule := range everyRule(3, temperature) {
			for label := range int64(3) {
				for _, v := range rule.Combine(big, 3, []int64{label}) {
					if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
						t.Errorf("%s at temperature %v, label %d: %v", name, temperature, label, v)
					}
				}
			}
		}
	}
}

func TestWeightsOfAnImage(t *testing.T) {
	for _, tt := range []struct {
		costs, want []float64
	}{
		{[]float64{5}, []float64{1}},
		{[]float64{2, 2, 2}, []float64{1. / 3, 1. / 3, 1. / 3}},
		{[]float64{0, 0, 2e4}, []float64{0.5, 0.5, 0}}, // an outlier has no say
		{[]float64{0, 2e4}, []float64{1, 0}},
		{[]float64{0, math.Log(3)}, []float64{0.75, 0.25}},
	} {
		if got := weigh(tt.costs); !floats.EqualApprox(got, tt.want, 1e-12) {
			t.Errorf("costs %v give the weights %v, want %v", tt.costs, got, tt.want)
		}
	}
	// Of an outlier, the others' mean is far from what it says.
	odd := [][]float32{logitsOf(0.9, 0.1), logitsOf(0.85, 0.15), logitsOf(0.001, 0.999)}
	if p := softened(Agreement{Mean{1}}.Combine(odd, 2, nil), 2, 1)[0]; p < 0.8 {
		t.Errorf("two that agree and one that does not give the class %v", p)
	}
}

func TestRulesThatCannotBeAreRefused(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		rule interface{ Validate() error }
		word string
	}{
		{Mean{-1}, "temperature"},
		{Mean{nan}, "temperature"},
		{Weights{nil, Mean{}}, "a number for each"},
		{Weights{[]float64{0, 0}, Mean{}}, "positive"},
		{Weights{[]float64{1, -1}, Mean{}}, "weights.1"},
		{Weights{[]float64{1, nan}, Mean{}}, "weights.1"},
		{Weights{[]float64{math.MaxFloat64, math.MaxFloat64}, Mean{}}, "finite"},
		{Weights{[]float64{1}, Mean{nan}}, "temperature"},
		{Confidence{"labels", Mean{}}, "label or entropy"},
	} {
		wantError(t, tt.rule.Validate(), tt.word)
	}
}

func ExampleMean() {
	// Two teachers of one image in two classes: log 9 against 0 is 90 %, 0 against 0 is 50 %.
	logits := [][]float32{{2.1972246, 0}, {0, 0}}
	for _, rule := range []Rule{Average{}, Average{Mean{1}}, Confidence{"label", Mean{1}}} {
		z := rule.Combine(logits, 2, []int64{0})
		fmt.Printf("%.2f\n", metrics.Softmax(make([]float64, 2), z))
	}
	// Output:
	// [0.75 0.25]
	// [0.70 0.30]
	// [0.76 0.24]
}
