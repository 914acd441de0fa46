package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestQualityByHand(t *testing.T) {
	for i, want := range []float64{0.6 + 0.2, 0.06 + 0.4, 0.1} {
		near(t, "quality", Quality([]float64{100, 10, 0}, []float64{20, 40, 10})[i], want)
	}
	near(t, "one alone", Quality([]float64{7}, []float64{3})[0], 1)
	near(t, "nothing varies", Quality([]float64{7, 0}, []float64{0, 0})[0], 0.6)
	near(t, "all are sure", Quality([]float64{0, 0}, []float64{1, 2})[0], 0.2)
	if got := Quality(nil, nil); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestComponentsOfKnownRank(t *testing.T) {
	const n, d = 400, 12
	rng := rand.New(rand.NewPCG(1, 1))
	mixed := func(deviations ...float64) []float32 {
		mix := make([]float64, len(deviations)*d)
		for i := range mix { // orthogonal rows: a cosine each
			mix[i] = math.Cos(math.Pi * float64(i/d+1) * (float64(i%d) + 0.5) / d)
		}
		x := make([]float32, n*d)
		for i := range n {
			for r, s := range deviations {
				z := s * rng.NormFloat64()
				for j := range d {
					x[i*d+j] += float32(z * mix[r*d+j])
				}
			}
			for j := range d {
				x[i*d+j] += float32(10 * j) // a mean
			}
		}
		return x
	}
	constant := make([]float32, n*d)
	for i := range constant {
		constant[i] = 0.1
	}
	for _, c := range []struct {
		name     string
		features []float32
		want     int
	}{
		{"rank 3", mixed(1, 1, 1), 3},
		{"rank 3 and little else", mixed(1, 1, 1, 0.1, 0.1), 3},
		{"96 % in one", mixed(math.Sqrt(24), 1), 1},
		{"rank 1", mixed(1e-3), 1},
		{"constant", constant, 0},
		{"zero", make([]float32, n*d), 0},
	} {
		if got, ok := Components(c.features, d, 0.95); got != c.want || !ok {
			t.Errorf("%s: %d components, %v, want %d", c.name, got, ok, c.want)
		}
	}
	wide := make([]float32, 5*100)
	for i := range wide {
		wide[i] = float32(rng.NormFloat64())
	}
	if got, ok := Components(wide, 100, 1-1e-9); got != 4 || !ok {
		t.Errorf("5 samples have %d components, %v, want 4", got, ok)
	}
	for _, bad := range [][]float32{{1, 2}, nil, {1, 2, nan, 4}, {1, 2, float32(math.Inf(1)), 4}} {
		if _, ok := Components(bad, 2, 0.95); ok {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestClassifierFisherIsTheExpectationOverClasses(t *testing.T) {
	logits := []float32{1, -0.5, 2, 0, 0, 0}
	features := []float32{1, 2, 0, -3}
	p := make([]float64, 3)
	for i, got := range ClassifierFisher(logits, 3, features, 2) {
		Softmax(p, logits[3*i:][:3])
		want, h := 0.0, features[2*i:][:2]
		for y, share := range p { // ∇_W log p(y) = (e_y − p)·hᵀ, ∇_b log p(y) = e_y − p
			for j, q := range p {
				delta := -q
				if j == y {
					delta++
				}
				want += share * delta * delta * float64(h[0]*h[0]+h[1]*h[1]+1)
			}
		}
		near(t, "trace", got, want)
	}
	near(t, "of the undecided", ClassifierFisher(make([]float32, 4), 4, nil, 0)[0], 0.75)
	// 1 − ‖p‖² is 2e⁻⁴⁰ there, far below what 1 − (nearly 1) can tell.
	if got := ClassifierFisher([]float32{40, 0}, 2, nil, 0)[0]; math.Abs(got/(2*math.Exp(-40))-1) > 1e-9 {
		t.Errorf("of the sure: %v", got)
	}
}
