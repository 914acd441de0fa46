package policy

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

func TestLinUCBKeepsTheModelsOfAlgorithm1(t *testing.T) {
	past := []Round{{0, []float64{1, 2}, 0.5}, {1, []float64{1, 0}, 9}, {0, []float64{0, 1}, -1}}
	a, b := model(past, 0, 2)
	// I + (1,2)ᵀ(1,2) + (0,1)ᵀ(0,1), and 0.5·(1,2) − (0,1).
	if want := mat.NewSymDense(2, []float64{2, 2, 2, 6}); !mat.Equal(a, want) {
		t.Errorf("A is %v, want %v", mat.Formatted(a), mat.Formatted(want))
	}
	if want := mat.NewVecDense(2, []float64{0.5, 0}); !mat.Equal(b, want) {
		t.Errorf("b is %v, want %v", b, want)
	}
}

func TestLinUCBPicksTheLargestBound(t *testing.T) {
	arms := func(x ...[]float64) (all []Arm) {
		for _, c := range x {
			all = append(all, Arm{Context: c})
		}
		return all
	}
	one := []float64{1}
	// With x = 1, an arm picked n times with rewards of sum s has θᵀx = s/(n+1) and √(xᵀA⁻¹x) = 1/√(n+1).
	for _, tt := range []struct {
		name    string
		explore float64
		past    []Round
		arms    []Arm
		want    int
	}{
		{"nothing is known: the first", 1, nil, arms(one, one, one), 0},
		{"what was not tried has the wider bound", 1, []Round{{0, one, 0.1}}, arms(one, one), 1}, // 0.05+0.707 against 1
		{"what was good enough stays", 1, []Round{{0, one, 0.7}}, arms(one, one), 0},             // 0.35+0.707
		{"without exploring a small reward is enough", 0, []Round{{0, one, 0.1}}, arms(one, one), 0},
		{"a bad reward turns away", 0, []Round{{0, one, -0.1}}, arms(one, one), 1},
		{"the context decides", 0, []Round{{0, []float64{1, 0}, 1}, {1, []float64{0, 1}, 1}}, arms([]float64{0, 1}, []float64{0, 1}), 1},
	} {
		if got := (LinUCB{Explore: tt.explore}).Choose(Feedback{Arms: tt.arms, Past: tt.past}); got != tt.want {
			t.Errorf("%s: arm %d, want %d", tt.name, got, tt.want)
		}
	}
}

// regret plays rounds of three arms whose rewards are linear in the context, with noise, and returns what was lost by the end
// of each to the best arm of the round.
func regret(p Policy, rounds int, theta [][]float64) []float64 {
	rng := rand.New(rand.NewPCG(5, 5))
	var past []Round
	lost := make([]float64, rounds)
	for i := range lost {
		f := Feedback{Past: past, Seed: 1}
		var means []float64
		for _, w := range theta {
			x := []float64{1, rng.Float64()}
			f.Arms, means = append(f.Arms, Arm{Context: x}), append(means, floats.Dot(w, x))
		}
		arm := p.Choose(f)
		past = append(past, Round{arm, f.Arms[arm].Context, means[arm] + 0.1*rng.NormFloat64()})
		if lost[i] = floats.Max(means) - means[arm]; i > 0 {
			lost[i] += lost[i-1]
		}
	}
	return lost
}

func TestRegretOfLinUCBGrowsSlowerThanItsRounds(t *testing.T) {
	for name, theta := range map[string][][]float64{
		"a clear best arm":                {{0.2, 0.1}, {0.8, 0.1}, {0.5, 0.1}},
		"which is best, the context says": {{0.5, 0}, {0, 1}, {0.8, -0.8}},
	} {
		const n = 1000
		bandit, random := regret(LinUCB{Explore: 1}, n, theta), regret(Random{}, n, theta)
		first, last := bandit[n/4], bandit[n-1]-bandit[n-1-n/4]
		if last > first/3 {
			t.Errorf("%s: the last quarter of the rounds loses %.2f, the first %.2f", name, last, first)
		}
		if bandit[n-1] > random[n-1]/5 {
			t.Errorf("%s: it loses %.2f, random picks %.2f", name, bandit[n-1], random[n-1])
		}
	}
}

func TestBaselinesPickAsTheirNamesSay(t *testing.T) {
	f := Feedback{Arms: []Arm{{Top1: 0.7}, {Top1: 0.9}, {Top1: 0.9}}, Seed: 3}
	if got := (Best{}).Choose(f); got != 1 {
		t.Errorf("best picks %d, want 1", got)
	}
	var picks []int
	counts := make([]int, len(f.Arms))
	for range 300 {
		arm := Random{}.Choose(f)
		counts[arm]++
		picks = append(picks, arm)
		f.Past = append(f.Past, Round{Arm: arm})
	}
	if slices.Min(counts) < 70 {
		t.Errorf("random picks %v of 300", counts)
	}
	f.Past = f.Past[:100]
	if got := (Random{}).Choose(f); got != picks[100] {
		t.Errorf("round 100 picks %d, then %d", picks[100], got)
	}
	f.Seed, f.Past = 4, f.Past[:0]
	other := make([]int, 0, 300)
	for range 300 {
		other = append(other, Random{}.Choose(f))
		f.Past = append(f.Past, Round{})
	}
	if slices.Equal(other, picks) {
		t.Error("seeds 3 and 4 pick the same")
	}
}

func TestRewardWeighsItsTerms(t *testing.T) {
	before, after := Measure{Top1: 0.5, KL: 0.4, Cost: 0.5}, Measure{Top1: 0.53, KL: 0.3, Cost: 0.5}
	r := Rounds{Alpha: 10, Beta: 2, Gamma: 0.1, KL: "decrease"}
	for kl, want := range map[string]float64{"decrease": 0.3 + 0.2 - 0.05, "printed": 0.3 + 0.6 - 0.05} {
		r.KL = kl
		if got := r.Reward(before, after); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: the reward is %v, want %v", kl, got, want)
		}
	}
	if got, want := before.Context(), []float64{1, 0.5, 0.4, 0.5}; !slices.Equal(got, want) {
		t.Errorf("the context is %v, want %v", got, want)
	}
}

func TestSettingsOutOfRangeAreRefused(t *testing.T) {
	with := func(change func(*LinUCB)) LinUCB {
		l := LinUCB{Explore: 0.5, Rounds: DefaultRounds()}
		change(&l)
		return l
	}
	if err := with(func(*LinUCB) {}).Validate(); err != nil {
		t.Error(err)
	}
	for word, l := range map[string]LinUCB{
		"explore": with(func(l *LinUCB) { l.Explore = -1 }),
		"round":   with(func(l *LinUCB) { l.Steps = -1 }),
		"alpha":   with(func(l *LinUCB) { l.Gamma = math.NaN() }),
		"kl":      with(func(l *LinUCB) { l.KL = "gain" }),
	} {
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%+v: error %v, want one of %s", l, err, word)
		}
	}
}
