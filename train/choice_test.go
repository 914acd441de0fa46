package train

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"distill/train/checkpoint"
	"distill/train/policy"
)

// chosen are the choices that a run's folder lists.
func chosen(t *testing.T, f Folder) (all []Choice) {
	t.Helper()
	b, err := os.ReadFile(f.path(choicesFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var c Choice
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestBestTeacherInEveryRoundIsThatTeacherAlone(t *testing.T) {
	bad := linearTeacher(t, 1, nil)
	run := trained(t, learning(t, []string{bad, resnet}, "combine={by: best, round: 2}", "batch=48"))
	same(t, run.Store, trained(t, recipe(t, "teacher.model="+resnet, "batch=48")).Store)
	choices := chosen(t, run.Folder)
	if !reflect.DeepEqual(choices, run.State.Choices) || len(choices) != 3 { // of 6 steps
		t.Errorf("the run's folder lists %+v, its state %+v", choices, run.State.Choices)
	}
	for i, c := range choices {
		if c.Teacher != 1 || c.Model != "cifar10_resnet56.onnx" || c.Round != i+1 || c.Step != 2*i || c.Before.Cost != 1 {
			t.Errorf("choice %d is %+v", i, c)
		}
	}
}

func TestRoundsAreRewardedByWhatTheyBring(t *testing.T) {
	a, b := linearTeacher(t, 1, nil), linearTeacher(t, 2, nil)
	run := trained(t, learning(t, []string{a, b}, "combine={by: linucb, round: 3, alpha: 5, beta: 2, gamma: 0.5}"))
	choices := run.State.Choices
	if len(choices) != 7 { // of 20 steps, the last of two
		t.Fatalf("%d choices", len(choices))
	}
	r := policy.Rounds{Alpha: 5, Beta: 2, Gamma: 0.5, KL: "decrease"}
	taught := map[int]bool{}
	for i, c := range choices {
		if c.After == nil || c.Reward == nil || *c.Reward != r.Reward(c.Before, *c.After) {
			t.Fatalf("choice %d is %+v", i, c)
		}
		if i > 0 && c.Before.Top1 != choices[i-1].After.Top1 {
			t.Errorf("round %d begins with accuracy %v, the one before ended with %v", c.Round, c.Before.Top1, choices[i-1].After.Top1)
		}
		taught[c.Teacher] = true
	}
	if last := choices[6].After.Top1; last != run.State.History[1].ValTop1 {
		t.Errorf("the last round ends with accuracy %v, the epoch with %v", last, run.State.History[1].ValTop1)
	}
	if len(taught) != 2 {
		t.Errorf("only %v taught", taught)
	}
	// An epoch a round is the default.
	if run := trained(t, learning(t, []string{a, b}, "combine=random")); len(run.State.Choices) != 2 {
		t.Errorf("%d rounds in two epochs", len(run.State.Choices))
	}
}

func TestRunThatChoosesTeachersResumesBitIdentically(t *testing.T) {
	a, b := linearTeacher(t, 1, nil), linearTeacher(t, 2, nil)
	for _, tt := range []struct {
		combine string
		at      []int // steps that it stops after
	}{
		{"{by: linucb, round: 3}", []int{2, 6, 10, 17}}, // in a round, after one, after an epoch, in a round
		{"{by: random, round: 4}", []int{8, 13}},
	} {
		set := func() *Recipe { return learning(t, []string{a, b}, "combine="+tt.combine) }
		want := trained(t, set())
		r, from := set(), 0
		for _, at := range tt.at {
			interrupted(t, r, Options{Resume: true}, at-from)
			from = at
		}
		run := open(t, r, Options{Resume: true})
		if run.State.Step != from {
			t.Fatalf("it goes on from step %d, not %d", run.State.Step, from)
		}
		if err := run.Train(context.Background()); err != nil {
			t.Fatal(err)
		}
		same(t, run.Store, want.Store)
		if a, b := run.State.Choices, want.State.Choices; !reflect.DeepEqual(a, b) {
			t.Errorf("%s: choices %+v, want %+v", tt.combine, a, b)
		}
		if a, b := chosen(t, run.Folder), chosen(t, want.Folder); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: the folder lists %+v, want %+v", tt.combine, a, b)
		}
		// There is nothing left to do, and nothing is chosen for it.
		run.Close()
		run = open(t, r, Options{Resume: true})
		if err := run.Train(context.Background()); err != nil || len(run.State.Choices) != len(want.State.Choices) {
			t.Errorf("%s: trained again: %v, %d choices", tt.combine, err, len(run.State.Choices))
		}
	}
}

func TestChoicesThatDoNotFitAreRefused(t *testing.T) {
	r := learning(t, []string{linearTeacher(t, 1, nil), linearTeacher(t, 2, nil)}, "combine={by: linucb, round: 2}")
	interrupted(t, r, Options{}, 5)
	f := Folder(r.Output)
	for name, change := range map[string]func(*State){
		"none":              func(s *State) { s.Choices = nil },
		"one less":          func(s *State) { s.Choices = s.Choices[:2] },
		"one more":          func(s *State) { s.Choices = append(s.Choices, s.Choices[2]) },
		"another step":      func(s *State) { s.Choices[1].Step = 3 },
		"no such teacher":   func(s *State) { s.Choices[0].Teacher = 2 },
		"below 0":           func(s *State) { s.Choices[0].Teacher = -1 },
		"no reward":         func(s *State) { s.Choices[0].Reward = nil },
		"a reward too soon": func(s *State) { s.Choices[2].Reward = new(float64) },
	} {
		store, state, err := f.Load("last")
		if err != nil {
			t.Fatal(err)
		}
		change(state)
		other := *r
		other.Output = filepath.Join(t.TempDir(), "run")
		if err := os.CopyFS(other.Output, os.DirFS(r.Output)); err != nil {
			t.Fatal(err)
		}
		if err := checkpoint.Save(Folder(other.Output).path(lastFile), store, state); err != nil {
			t.Fatal(err)
		}
		run, err := Open(&other, Options{Resume: true})
		if err == nil {
			run.Close()
			t.Errorf("%s: it goes on", name)
		} else if !strings.Contains(err.Error(), "does not fit its recipe") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPolicyTakesNoLossOnInnerTensors(t *testing.T) {
	_, err := LoadRecipe("", []string{"data.source=cifar10:" + tiny, "teachers=[{model: a}, {model: b}]", "combine=linucb", "losses=[{loss: ce}, {loss: fitnets}]"})
	wants(t, err, "losses.1 (fitnets)", "another for each round", "average")
	_, err = LoadRecipe("", []string{"data.source=cifar10:" + tiny, "teachers=[{model: a}, {model: b}]", "combine={by: linucb, explore: -1}"})
	wants(t, err, "combine", "explore")
}

func TestDivergenceIsAHalfWhereNothingIsKnown(t *testing.T) {
	log := func(p float64) float32 { return float32(math.Log(p)) }
	kl := 0.8*math.Log(1.6) + 0.2*math.Log(0.4)
	for _, tt := range []struct {
		name string
		t, s []float32
		want float64
	}{
		{"the same", []float32{3, 1, 0, 2}, []float32{3, 1, 5, 7}, 0},
		{"sure, of one who knows nothing", []float32{1e4, 0}, []float32{0, 0}, 0.5},
		{"by hand", []float32{log(0.8), log(0.2)}, []float32{log(0.5), log(0.5)}, kl / (kl + math.Ln2)},
		{"the contrary", []float32{1e4, -1e4}, []float32{-1e4, 1e4}, 2e4 / (2e4 + math.Ln2)},
		{"not finite", []float32{0, 1}, []float32{float32(math.NaN()), 0}, 1},
	} {
		if got := divergence(tt.t, tt.s, 2); math.Abs(got-tt.want) > 1e-6 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
