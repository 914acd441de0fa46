package main

import (
	"strings"
	"testing"

	"distill/train"
)

func TestRowsShowWhatTheyHave(t *testing.T) {
	runs := []train.Outcome{{Seed: 1, Seconds: 60}, {Seed: 2, Seconds: 80}}
	for _, c := range []struct {
		name string
		row  train.Compared
		want string
	}{
		{"the first", train.Compared{Name: "labels", Runs: runs, Top1: ptr(0.5), BestTop1: ptr(0.51)}, "labels|50.0 %|51.0 %|||||70 s"},
		{"a gain", train.Compared{Name: "kd", Runs: runs, Top1: ptr(0.52), BestTop1: ptr(0.52),
			Gains: []train.Gain{{Over: "labels", Mean: 0.02, Images: &[2]float64{0.011, 0.029}, Seeds: &[2]float64{-0.03, 0.07}}}},
			"kd|52.0 %|52.0 %|+2.0|labels|+1.1 to +2.9|-3.0 to +7.0|70 s"},
		{"one seed", train.Compared{Name: "kd", Runs: runs[:1], Top1: ptr(0.52), BestTop1: ptr(0.52),
			Gains: []train.Gain{{Over: "labels", Mean: -0.02, Images: &[2]float64{-0.03, -0.01}}}}, "kd|52.0 %|52.0 %|-2.0|labels|-3.0 to -1.0||60 s"},
		{"two gains", train.Compared{Name: "kd", Runs: runs, Top1: ptr(0.52), BestTop1: ptr(0.52), Gains: []train.Gain{{Over: "labels", Mean: 0.02}, {Over: "dkd"}}},
			"kd|52.0 %|52.0 %|+2.0|labels|||70 s\n|||+0.0|dkd|||"},
		{"one that is not run", train.Compared{Name: "kd"}, "kd|||||||"},
		{"one that diverged", train.Compared{Name: "kd", Runs: []train.Outcome{{Seed: 3, Diverged: "train: loss kd is not finite at step 7"}}},
			"kd|seed 3: loss kd is not finite at step 7||||||"},
	} {
		var lines []string
		for _, cells := range comparedCells(c.row) {
			lines = append(lines, strings.Join(cells, "|"))
		}
		if got := strings.Join(lines, "\n"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
