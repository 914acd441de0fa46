package losses_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"distill/losses"
	"distill/losses/verify"
	"distill/runtime/graph"
)

// relationRefused are settings that the losses on relations must refuse.
var relationRefused = map[string][]setting{
	"rkd": {{"distance", "-1"}, {"distance", ".nan"}, {"angle", "-1"}, {"angle", ".inf"}},
	"sp":  {{"variant", "l3"}},
	"cc":  {{"variant", "none"}, {"gamma", "0"}, {"gamma", ".nan"}, {"order", "0"}, {"order", "9"}},
	"crd": {{"nce_k", "0"}, {"nce_k", "1048577"}, {"temperature", "0.01"}, {"temperature", ".nan"}, {"temperature", ".inf"},
		{"momentum", "-0.1"}, {"momentum", "1"}, {"momentum", ".nan"}},
}

// related is a case of a loss on vectors of student and teacher.
func related(loss, settings string, student, teacher verify.Tensor) *verify.Case {
	return &verify.Case{Loss: loss, Settings: settings, Case: "related", Pairs: []verify.Pair{{Student: student, Teacher: teacher}}}
}

// outputs are what both engines make of a case, the tape's first.
func outputs(t *testing.T, c *verify.Case) (engines [2]map[string]graph.Array) {
	t.Helper()
	p, err := c.Program()
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Inputs(p)
	if err != nil {
		t.Fatal(err)
	}
	if engines[0], err = verify.Tape(p, in); err != nil {
		t.Fatal(err)
	}
	if engines[1], err = verify.ONNXRuntime(p, in); err != nil {
		t.Fatal(err)
	}
	return engines
}

func TestSamplesThatRelateAlikeCostNothing(t *testing.T) {
	teacher := waves(1, 0, 5, 3)
	// The teacher's vectors, turned by 90° in a wider space.
	student := verify.Tensor{Shape: []int{5, 4}}
	for i := range 5 {
		row := teacher.Data[3*i : 3*i+3]
		student.Data = append(student.Data, 0, -row[1], row[0], row[2])
	}
	for _, c := range []struct {
		loss, settings string
		factor, offset float64 // of the student's
		alike          bool
	}{
		{"rkd", "", 1, 0, true},
		{"rkd", "", 7, 0.5, true}, // a ratio of distances, and angles between differences
		{"pkt", "", 7, 0, true},
		{"pkt", "", 7, 0.5, false}, // a cosine sees where the origin is
		{"sp", "", 7, 0, true},
		{"sp", "variant: l1", 7, 0, true},
		{"sp", "", 7, 0.5, false},
		{"cc", "variant: rbf", 1, 0, true},
		{"cc", "variant: rbf", 2, 0, false},
	} {
		moved := verify.Tensor{Shape: student.Shape}
		for _, v := range student.Data {
			moved.Data = append(moved.Data, c.factor*v+c.offset)
		}
		for i, tolerance := range []float64{1e-12, 1e-6} {
			v := outputs(t, related(c.loss, c.settings, moved, teacher))[i]["value"].F[0]
			if alike := math.Abs(v) <= tolerance; alike != c.alike {
				t.Errorf("%s %s of %v times the teacher and %v is %v", c.loss, c.settings, c.factor, c.offset, v)
			}
		}
	}
}

func TestSamplesWithoutLengthOrDistanceHaveNoGradient(t *testing.T) {
	for _, c := range []struct {
		loss, settings string
		dead           func(student []float64) // [4,3]
		still          []int                   // rows without a gradient
	}{
		{"pkt", "", func(s []float64) { clear(s[3:6]) }, []int{1}},
		{"sp", "", func(s []float64) { clear(s[3:6]) }, nil}, // others' similarity to it remains
		{"sp", "variant: l1", func(s []float64) { clear(s) }, []int{0, 1, 2, 3}},
		{"sp", "", func(s []float64) { clear(s) }, []int{0, 1, 2, 3}},
		{"rkd", "", func(s []float64) { clear(s) }, []int{0, 1, 2, 3}},
		{"rkd", "", func(s []float64) { copy(s[3:6], s) }, nil},
		{"cc", "variant: rbf", func(s []float64) { clear(s) }, []int{0, 1, 2, 3}},
	} {
		student := waves(1, 0, 4, 3)
		c.dead(student.Data)
		for i, out := range outputs(t, related(c.loss, c.settings, student, waves(1, 1, 4, 5))) {
			g := out["gradient.pairs.0.student"].F
			if v := out["value"].F[0]; !(v > 0) {
				t.Errorf("%s on engine %d: the loss is %v", c.loss, i, v)
			}
			for _, row := range c.still {
				if !slices.Equal(g[3*row:3*row+3], []float64{0, 0, 0}) {
					t.Errorf("%s on engine %d: the gradient of sample %d is %v", c.loss, i, row, g[3*row:3*row+3])
				}
			}
			for _, v := range g {
				if !(math.Abs(v) < 1e3) {
					t.Errorf("%s on engine %d: the gradient is %v", c.loss, i, g)
					break
				}
			}
		}
	}
}

func TestOppositesAreNoNeighbours(t *testing.T) {
	student := waves(3, 0, 4, 64)
	for i := range 64 {
		student.Data[64+i] = -student.Data[i] * 1.7
	}
	for i, out := range outputs(t, related("pkt", "", student, waves(1, 1, 4, 5))) {
		for name, a := range out {
			if j := slices.IndexFunc(a.F, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }); j >= 0 {
				t.Errorf("%s[%d] on engine %d is %v", name, j, i, a.F[j])
			}
		}
	}
}

func TestRelationsOfOneSampleAreRefused(t *testing.T) {
	for _, loss := range []string{"rkd", "pkt", "sp", "cc"} {
		_, err := related(loss, "", waves(1, 0, 1, 3), waves(1, 1, 1, 5)).Program()
		if err == nil || !strings.Contains(err.Error(), "loss "+loss+" of [[1,3] [1,5]]: it compares how samples relate") {
			t.Errorf("%s: %v", loss, err)
		}
		if row, _ := losses.Lookup(loss); !row.Relational {
			t.Errorf("%s is not marked as relational", loss)
		}
	}
}

func TestRKDOfNothingIsRefused(t *testing.T) {
	if err := (&losses.RKD{}).Validate(); err == nil || !strings.Contains(err.Error(), "distance or angle") {
		t.Error(err)
	}
}
