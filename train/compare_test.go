package train

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// suite writes a suite of tiny runs and reads it.
func suite(t *testing.T, rows string, seeds string) *Suite {
	t.Helper()
	path := filepath.Join(t.TempDir(), "suite.yaml")
	text := "output: " + filepath.Join(t.TempDir(), "out") + "\nseeds: " + seeds + "\nset: [epochs=1, batch=16, 'student={arch: resnet8, width: 4}']\nrows:\n" + rows
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := LoadSuite(path, []string{"data.source=cifar10:" + tiny})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const twoRows = `
  - {name: labels, set: ["losses=[{loss: ce}]"]}
  - {name: smooth, set: ["losses=[{loss: ce, label_smoothing: 0.5}]"]}
`

func TestStoppedComparisonGoesOnWhereItWas(t *testing.T) {
	compared := func(s *Suite, ctx context.Context, observe Observer) (*Comparison, error) {
		var last *Comparison
		err := Compare(ctx, s, Options{Observe: observe}, func(c *Comparison) error {
			last = c
			return nil
		})
		return last, err
	}
	want, err := compared(suite(t, twoRows, "[1, 2]"), context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := suite(t, twoRows, "[1, 2]")
	ctx, stop := context.WithCancel(context.Background())
	part, err := compared(s, ctx, func(e Event) {
		if e.Run == "smooth/1" && e.Step == 4 {
			stop()
		}
	})
	if !errors.Is(err, ErrInterrupted) || part == nil || part.Rows[0].Top1 == nil || part.Rows[1].Top1 != nil {
		t.Fatalf("it was stopped in the second run: %v, %+v", err, part)
	}
	var first string
	got, err := compared(s, context.Background(), func(e Event) {
		if e.Run == "labels/1" || e.Run == "smooth/1" && e.Step < 5 {
			t.Errorf("step %d of %s is done twice", e.Step, e.Run)
		}
		if first == "" {
			first = e.Run
		}
	})
	if err != nil || first != "smooth/1" {
		t.Fatalf("it goes on with %q: %v", first, err)
	}
	for i, row := range got.Rows {
		for k, run := range row.Runs {
			other := want.Rows[i].Runs[k]
			if run.Correct != other.Correct || run.Seed != other.Seed || run.BestTop1 != other.BestTop1 || run.RecipeSHA256 != other.RecipeSHA256 {
				t.Errorf("%s, run %d: %+v, want %+v", row.Name, k, run, other)
			}
		}
	}
	if g, w := got.Rows[1].Gains[0], want.Rows[1].Gains[0]; g.Mean != w.Mean || *g.Images != *w.Images || *g.Seeds != *w.Seeds {
		t.Errorf("the gain is %+v, want %+v", g, w)
	}
	if got.Images != [3]int{trainImages, valImages, testImages} || len(got.Rows[0].Runs[0].Correct) != testImages {
		t.Errorf("images are %v", got.Images)
	}
	s.Rows[0].Set = append(s.Rows[0].Set, "optimizer.lr=0.01")
	_, err = compared(s, context.Background(), nil)
	wants(t, err, "row labels, seed 1", "outcome.json is of another recipe", "choose another output")
}

func TestRunThatDivergesHasNoFiguresAndEndsNothing(t *testing.T) {
	s := suite(t, `
  - {name: labels, set: ["losses=[{loss: ce}]"]}
  - {name: wild, set: ["losses=[{loss: ce}]", optimizer.lr=1e30]}
  - {name: last, set: ["losses=[{loss: ce}]"]}
`, "[1]")
	var c *Comparison
	for range 2 { // trained, then read
		if err := Compare(context.Background(), s, Options{}, func(got *Comparison) error { c = got; return nil }); err != nil {
			t.Fatal(err)
		}
		if w := c.Rows[1]; w.Top1 != nil || len(w.Gains) > 0 || !strings.Contains(w.Runs[0].Diverged, "not finite at step") {
			t.Errorf("the run that diverges is %+v", w)
		}
		if g := c.Rows[2].Gains; len(g) != 1 || g[0].Mean != 0 || g[0].Seeds != nil || *g[0].Images != [2]float64{} {
			t.Errorf("the same run again gains %+v", g)
		}
	}
}

func TestGainByHand(t *testing.T) {
	runs := []Outcome{{Correct: "1110"}, {Correct: "1100"}}
	others := []Outcome{{Correct: "1000"}, {Correct: "0100"}}
	// By image: 1/2, 1/2, 1/2, 0; by seed: 1/2, 1/4. Student's t is 3.18245 for 3 degrees of freedom, 12.7062 for 1.
	g, err := gain(runs, others)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want float64) {
		if math.Abs(got-want) > 1e-4 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("the mean", g.Mean, 0.375)
	near("the bound of images", g.Images[1], 0.375+3.18245*0.25/2)
	near("the bound of seeds", g.Seeds[0], 0.375-12.7062*0.1767767/math.Sqrt2)
	if _, err := gain(runs, []Outcome{{Correct: "1"}, {Correct: "1"}}); err == nil {
		t.Error("different images can be compared")
	}
}

func TestSuiteSaysWhatIsWrong(t *testing.T) {
	labels := "output: out\nset: ['data.source=cifar10:x', 'losses=[{loss: ce}]']\n"
	for _, c := range []struct {
		text  string
		words []string
	}{
		{labels, []string{"rows needs at least one row"}},
		{labels + "seeds: []\nrows: [{name: a}]", []string{"seeds needs at least one seed"}},
		{labels + "seeds: [1, 1]\nrows: [{name: a}]", []string{"seeds has 1 twice"}},
		{labels + "rows: [{name: a}, {name: a}]", []string{`rows.1: there is a row "a" before`}},
		{labels + "rows: [{name: ../a}]", []string{`rows.0: name "../a" must be`}},
		{labels + "rows: [{name: a, against: b}]", []string{`rows.0 (a): against names no other row: "b"`}},
		{labels + "rows: [{name: a, against: a}]", []string{"against names no other row"}},
		{labels + "rows: [{name: a}, {name: b, against: [a, a]}]", []string{`rows.1 (b): against has "a" twice`}},
		{labels + "rows: [{name: a, set: [epochs=0]}]", []string{"rows.0 (a): ", "epochs must be"}},
		{labels + "rows: [{name: a, sets: []}]", []string{"suite.yaml:3:18", `did you mean "set"?`}},
		{"output: ''\nrows: [{name: a}]", []string{"output must name a folder"}},
	} {
		path := filepath.Join(t.TempDir(), "suite.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := LoadSuite(path, nil)
		wants(t, err, c.words...)
	}
	_, err := LoadSuite("nowhere.yaml", nil)
	wants(t, err, "train: read suite: open nowhere.yaml")
}

func TestRowThatOthersNameIsComparedWithNone(t *testing.T) {
	s := &Suite{Rows: []SuiteRow{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d", Against: []string{"c"}}, {Name: "e", Against: []string{"c", "a"}}}}
	for i, want := range [][]int{nil, {0}, nil, {2}, {2, 0}} {
		if got := s.against(i); !slices.Equal(got, want) {
			t.Errorf("row %s is compared with %d, want %d", s.Rows[i].Name, got, want)
		}
	}
}
