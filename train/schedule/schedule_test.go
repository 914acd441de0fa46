package schedule

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"distill/internal/strictyaml"
)

func TestValuesAreThoseOfPyTorch(t *testing.T) {
	const perEpoch, total = 4, 16
	cos45 := math.Sqrt2 / 2
	for _, c := range []struct {
		name string
		s    Schedule
		want map[int]float64 // by step
	}{
		{"zero", Schedule{}, map[int]float64{0: 1, 15: 1}},
		{"constant", Schedule{Curve: Constant{}}, map[int]float64{0: 1, 15: 1}},
		// CosineAnnealingLR(T_max=16): ½(1+cos(π·t/16))
		{"cosine", Schedule{Curve: Cosine{}}, map[int]float64{0: 1, 4: 0.5 + cos45/2, 8: 0.5, 12: 0.5 - cos45/2, 15: 0.009607359798384785, 16: 0}},
		// with eta_min = 0.2·lr
		{"cosine to min", Schedule{Curve: Cosine{Min: 0.2}}, map[int]float64{0: 1, 8: 0.6, 16: 0.2, 99: 0.2}},
		// MultiStepLR(milestones=[1, 3], gamma=0.1): ·0.1 from epoch 1, ·0.01 from epoch 3
		{"step", Schedule{Curve: Step{[]float64{1, 3}, 0.1}}, map[int]float64{0: 1, 3: 1, 4: 0.1, 11: 0.1, 12: 0.01, 15: 0.01}},
		{"step within an epoch", Schedule{Curve: Step{[]float64{0.5}, 0.5}}, map[int]float64{1: 1, 2: 0.5}},
		{"step by default", Schedule{Curve: Step{Gamma: 0.1}}, map[int]float64{7: 1, 8: 0.1, 11: 0.1, 12: 0.01}},
		{"step to zero", Schedule{Curve: Step{Milestones: []float64{1}}}, map[int]float64{3: 1, 4: 0}},
		// LinearLR(start_factor=1/8, total_iters=7): (t+1)/8
		{"warm-up", Schedule{Warmup: 2}, map[int]float64{0: 1. / 8, 3: 0.5, 6: 7. / 8, 7: 1, 8: 1}},
		{"warm-up times cosine", Schedule{Curve: Cosine{}, Warmup: 4}, map[int]float64{0: 1. / 16, 8: 9. / 16 * 0.5, 15: 0.009607359798384785}},
		{"warm-up of less than a step", Schedule{Warmup: 0.1}, map[int]float64{0: 1}},
	} {
		for step, want := range c.want {
			if got := c.s.At(step, perEpoch, total); math.Abs(got-want) > 1e-15 {
				t.Errorf("%s: step %d has %v, want %v", c.name, step, got, want)
			}
		}
	}
}

func TestEveryCurveStaysBetweenZeroAndOne(t *testing.T) {
	for name, curve := range Table {
		for _, total := range []int{1, 7, 100} {
			for step := range total {
				if v := curve.At(step, 3, total); !(v >= 0 && v <= 1) {
					t.Errorf("%s: step %d of %d has %v", name, step, total, v)
				}
			}
		}
	}
}

func TestEveryCurveGoesThroughYAML(t *testing.T) {
	for _, name := range (Schedule{}).Choices() {
		var short, again Schedule
		if err := decode("{name: "+name+", warmup: 1.5}", &short); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(short, Schedule{name, Table[name], 1.5}) {
			t.Errorf("%s is decoded as %+v", name, short)
		}
		text, err := strictyaml.Encode(short)
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(string(text), &again); err != nil || !reflect.DeepEqual(again, short) {
			t.Errorf("%s is written as\n%sand read as %+v, %v", name, text, again, err)
		}
	}
}

func TestTableIsNotChangedByARecipe(t *testing.T) {
	var s Schedule
	if err := decode("{name: step, milestones: [30, 60], gamma: 0.2}", &s); err != nil {
		t.Fatal(err)
	}
	got := s.Curve.(Step)
	if !slices.Equal(got.Milestones, []float64{30, 60}) || got.Gamma != 0.2 {
		t.Errorf("decoded %+v", got)
	}
	if !reflect.DeepEqual(Table["step"], Step{Gamma: 0.1}) {
		t.Errorf("the table's default became %+v", Table["step"])
	}
}

func TestSettingsOutOfRangeAreRefused(t *testing.T) {
	for src, want := range map[string]string{
		"{name: cosine, warmup: -1}":         "warmup must be 0 or more epochs, not -1",
		"{name: cosine, warmup: .nan}":       "warmup must be",
		"{name: cosine, warmup: .inf}":       "warmup must be",
		"{name: cosine, min: 1.5}":           "min must be a fraction from 0 to 1, not 1.5",
		"{name: step, gamma: 10}":            "gamma must be from 0 to 1, not 10",
		"{name: step, milestones: [60, 30]}": "milestones must be positive and rising, 30 follows 60",
		"{name: step, milestones: [0]}":      "milestones must be",
		"{name: cosine, milestones: [1]}":    `unknown key "milestones"`,
		"{name: linear}":                     "known names: constant, cosine, step",
	} {
		var s Schedule
		if err := decode(src, &s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", src, err, want)
		}
	}
}

func decode(src string, s *Schedule) error {
	return strictyaml.Decode([]byte(src), "recipe.yaml", s, nil)
}
