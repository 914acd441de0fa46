package losses_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"distill/losses/verify"
	"distill/runtime/graph"
)

// ownRefused are settings that the losses published here must refuse.
var ownRefused = map[string][]setting{
	"hda": {{"form", "root"}, {"shrinkage", "0"}, {"shrinkage", "1.1"}, {"shrinkage", ".nan"}, {"iterations", "0"}, {"iterations", "65"}},
}

// tensors are of each kind that the losses published here compare, without pattern, of 6 channels.
var tensors = map[string][]int{"vectors": {16, 6}, "tokens": {4, 5, 6}, "maps": {4, 6, 3, 3}}

// channelsOf lists the elements of each of the 6 channels of a tensor of those.
func channelsOf(s graph.Shape) [][]int {
	channels := make([][]int, 6)
	inner := 1 // elements of a channel that lie together
	if len(s) == 4 {
		inner = s[2:].Size()
	}
	for i := range s.Size() {
		c := i / inner % 6
		channels[c] = append(channels[c], i)
	}
	return channels
}

func TestConstantStudentDoesNotReachZero(t *testing.T) {
	shrunk := (1 - math.Sqrt(0.1)) * (1 - math.Sqrt(0.1))
	for loss, least := range map[string]float64{"hda": shrunk / 6, "attention_hint": 0.999} {
		for kind, shape := range tensors {
			teacher := waves(2, 1, shape...)
			for i := range teacher.Data {
				teacher.Data[i] += 1
			}
			// What a constant can come nearest with: each channel's mean of the target.
			student := verify.Tensor{Shape: shape, Data: make([]float64, len(teacher.Data))}
			if loss == "hda" {
				for _, channel := range channelsOf(shape) {
					mean := 0.0
					for _, i := range channel {
						mean += teacher.Data[i] / float64(len(channel))
					}
					for _, i := range channel {
						student.Data[i] = mean
					}
				}
			}
			for i, out := range outputs(t, related(loss, "", student, teacher)) {
				if v := out["value"].F[0]; !(v > least) {
					t.Errorf("%s of %s: a constant comes to %v on engine %d, want above %v", loss, kind, v, i, least)
				}
				// No other constant is nearer: the gradient sums to 0 over each channel.
				g := out["gradient.pairs.0.student"].F
				for c, channel := range channelsOf(shape) {
					sum := 0.0
					for _, j := range channel {
						sum += g[j]
					}
					if math.Abs(sum) > 1e-5 {
						t.Errorf("%s of %s: channel %d of the constant should move, by %v", loss, kind, c, sum)
					}
				}
			}
		}
	}
}

func TestEqualFeaturesCostNothing(t *testing.T) {
	for kind, shape := range tensors {
		teacher := waves(2, 1, shape...)
		normalised := verify.Tensor{Shape: shape, Data: slices.Clone(teacher.Data)}
		for _, channel := range channelsOf(shape) {
			mean, variance := 0.0, 0.0
			for _, i := range channel {
				mean += teacher.Data[i] / float64(len(channel))
			}
			for _, i := range channel {
				variance += (teacher.Data[i] - mean) * (teacher.Data[i] - mean) / float64(len(channel))
			}
			for _, i := range channel {
				normalised.Data[i] = (teacher.Data[i] - mean) / math.Sqrt(variance+1e-5)
			}
		}
		for loss, student := range map[string]verify.Tensor{"hda": teacher, "attention_hint": normalised} {
			for i, tolerance := range []float64{1e-12, 1e-6} {
				out := outputs(t, related(loss, "", student, teacher))[i]
				if v := out["value"].F[0]; math.Abs(v) > tolerance {
					t.Errorf("%s of %s: equals come to %v on engine %d", loss, kind, v, i)
				}
				for _, v := range out["gradient.pairs.0.student"].F {
					if math.Abs(v) > math.Sqrt(tolerance) {
						t.Errorf("%s of %s: equals have a gradient of %v on engine %d", loss, kind, v, i)
						break
					}
				}
			}
		}
	}
}

func TestDistanceOfGaussiansIsOfTheSetNotItsOrder(t *testing.T) {
	teacher := waves(2, 1, 8, 3)
	student := waves(1, 2, 8, 3)
	turned := verify.Tensor{Shape: student.Shape}
	for i := 7; i >= 0; i-- {
		turned.Data = append(turned.Data, student.Data[3*i:3*i+3]...)
	}
	twice := verify.Tensor{Shape: []int{16, 3}, Data: slices.Concat(student.Data, student.Data)}
	want := outputs(t, related("hda", "", student, teacher))[0]["value"].F[0]
	c := related("hda", "", verify.Tensor{Shape: []int{8, 2, 3}, Data: twice.Data}, verify.Tensor{Shape: []int{8, 1, 3}, Data: teacher.Data})
	for _, c := range []*verify.Case{related("hda", "", turned, teacher), c} {
		if v := outputs(t, c)[0]["value"].F[0]; math.Abs(v-want) > 1e-12 {
			t.Errorf("%v places in another order, or twice, come to %v, want %v", c.Pairs[0].Student.Shape, v, want)
		}
	}
}

func TestPrintedDistanceIsTheRoot(t *testing.T) {
	student, teacher := waves(1, 2, 8, 4), waves(2, 1, 8, 4)
	squared := outputs(t, related("hda", "", student, teacher))[0]["value"].F[0]
	printed := outputs(t, related("hda", "form: printed", student, teacher))[0]["value"].F[0]
	if math.Abs(4*printed-math.Sqrt(4*squared)) > 1e-12 {
		t.Errorf("W₂ is %v, W₂² %v", 4*printed, 4*squared)
	}
	for i, out := range outputs(t, related("hda", "form: printed", teacher, teacher)) {
		for _, v := range out["gradient.pairs.0.student"].F {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("where both are equal the gradient is %v on engine %d", v, i)
			}
		}
	}
}

func TestShapesThatHaveNoDistributionAreRefused(t *testing.T) {
	for _, c := range []struct {
		loss             string
		student, teacher []int
		want             string
	}{
		{"hda", []int{4, 3}, []int{4, 5}, "of one width"},
		{"hda", []int{4, 3, 2, 2, 2}, []int{4, 3}, "maps [N,C,H,W]"},
		{"hda", []int{1, 3}, []int{1, 3}, "has no variance"},
		{"attention_hint", []int{4, 3}, []int{4, 5}, "of one shape"},
		{"attention_hint", []int{1, 3}, []int{1, 3}, "has no variance"},
	} {
		_, err := related(c.loss, "", waves(1, 0, c.student...), waves(1, 1, c.teacher...)).Program()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %v and %v: %v", c.loss, c.student, c.teacher, err)
		}
	}
}
