package train

import (
	"os"
	"path/filepath"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/train/checkpoint"
)

// refused fails unless going on with the recipe's folder is an error with all the words.
func refused(t *testing.T, r *Recipe, words ...string) {
	t.Helper()
	run, err := Open(r, Options{Resume: true})
	if err == nil {
		run.Close()
	}
	wants(t, err, words...)
}

func TestCheckpointOfAnotherRecipeIsRefusedByTheLineThatDiffers(t *testing.T) {
	r := recipe(t)
	interrupted(t, r, Options{}, 3)
	for _, c := range []struct {
		override string
		was, is  string
	}{
		{"optimizer.lr=0.05", "lr: 0.1", "lr: 0.05"},
		{"seed=7", "seed: 1", "seed: 7"},
		{"student.width=8", "width: 4", "width: 8"},
		{"data.augment.flip=false", "flip: true", "flip: false"},
		{"engine=gorgonia", "engine: onnxruntime", "engine: gorgonia"},
	} {
		other := recipe(t, c.override)
		other.Output = r.Output
		refused(t, other, filepath.Join(r.Output, lastFile), c.was, c.is, "recipe.yaml")
	}
	// What does not bear on the weights may change.
	moved := recipe(t, "checkpoint.every=3")
	if err := os.Rename(r.Output, moved.Output); err != nil {
		t.Fatal(err)
	}
	open(t, moved, Options{Resume: true})
}

func TestDamagedCheckpointIsRefusedByName(t *testing.T) {
	r := recipe(t)
	interrupted(t, r, Options{}, 3)
	path := filepath.Join(r.Output, lastFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)*2/3] ^= 4
	for _, damaged := range [][]byte{nil, whole[:100], whole[:len(whole)-1], flipped} {
		if err := os.WriteFile(path, damaged, 0o666); err != nil {
			t.Fatal(err)
		}
		refused(t, r, path)
		if run, err := Reopen(r.Output, "last", nil); err == nil {
			run.Close()
			t.Error("it reopens")
		} else {
			wants(t, err, path)
		}
	}
}

func TestCheckpointOfAnotherTeacherIsRefused(t *testing.T) {
	m, err := onnx.Read(resnet)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "teacher.onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	r := recipe(t, "teacher.model="+path)
	interrupted(t, r, Options{}, 2)
	m.SetMetadata("author", "another") // the same network in other bytes
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	refused(t, r, lastFile, "another teacher", path)
}

func TestDataOfOtherClassesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	r := recipe(t, "data.source=cifar10:"+dir)
	interrupted(t, r, Options{}, 2)
	if err := os.WriteFile(filepath.Join(dir, "batches.meta.txt"), []byte("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	refused(t, r, dir, "other classes")
	_, err := Reopen(r.Output, "last", nil)
	wants(t, err, dir, "other classes")
}

func TestStateThatDoesNotFitIsRefused(t *testing.T) {
	r := recipe(t)
	interrupted(t, r, Options{}, 3)
	f := Folder(r.Output)
	for name, change := range map[string]func(s *graph.Store, state *State) *graph.Store{
		"step below 0":      func(s *graph.Store, state *State) *graph.Store { state.Step = -1; return s },
		"step past the end": func(s *graph.Store, state *State) *graph.Store { state.Step = 21; return s },
		"sums":              func(s *graph.Store, state *State) *graph.Store { state.Sums = nil; return s },
		"count":             func(s *graph.Store, state *State) *graph.Store { state.Count = -1; return s },
		"phase":             func(s *graph.Store, state *State) *graph.Store { state.Phase = 9; return s },
		"no image":          func(s *graph.Store, state *State) *graph.Store { state.Image = image{}; return s },
		"no classes":        func(s *graph.Store, state *State) *graph.Store { state.Classes = nil; return s },
		"no tensors":        func(*graph.Store, *State) *graph.Store { return &graph.Store{} },
		"a shape": func(s *graph.Store, _ *State) *graph.Store {
			s.Set("conv1.weight", graph.Param, graph.NewTensor(graph.Float32, 3))
			return s
		},
		"integers": func(s *graph.Store, _ *State) *graph.Store {
			s.Set("bn1.weight", graph.Param, graph.NewTensor(graph.Int64, 4))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, state, err := f.Load("last")
			if err != nil {
				t.Fatal(err)
			}
			other := recipe(t)
			if err := Folder(other.Output).make(); err != nil {
				t.Fatal(err)
			}
			text, err := other.Text()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(Folder(other.Output).path(recipeFile), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			if err := checkpoint.Save(Folder(other.Output).path(lastFile), change(store, state), state); err != nil {
				t.Fatal(err)
			}
			refused(t, other, other.Output)
			if run, err := Reopen(other.Output, "last", nil); err == nil {
				run.Close()
				t.Error("it reopens")
			}
		})
	}
}

func TestReopenedRunEvaluatesAsTheRunItself(t *testing.T) {
	run := trained(t, recipe(t))
	_, want, err := run.Evaluate(run.Splits.Test)
	if err != nil {
		t.Fatal(err)
	}
	// The data have moved.
	dir := filepath.Join(t.TempDir(), "moved")
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	again, err := Reopen(run.Recipe.Output, "last", []string{"data.source=cifar10:" + dir})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	_, got, err := again.Evaluate(again.Splits.Test)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 10*testImages {
		t.Fatalf("%d logits for %d images", len(got), testImages)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("logit %d is %v, was %v", i, got[i], want[i])
		}
	}
	a, b := filepath.Join(t.TempDir(), "a.onnx"), filepath.Join(t.TempDir(), "b.onnx")
	if _, err := run.Export(a); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Export(b); err != nil {
		t.Fatal(err)
	}
	x, _ := os.ReadFile(a)
	y, _ := os.ReadFile(b)
	if string(x) != string(y) {
		t.Error("it exports another file")
	}
}

func TestReopenRefusesWhatIsNotThere(t *testing.T) {
	r := recipe(t)
	open(t, r, Options{})
	_, err := Reopen(r.Output, "last", nil)
	wants(t, err, lastFile)
	_, err = Reopen(r.Output, "first", nil)
	wants(t, err, "first", "last and best")
	_, err = Reopen(t.TempDir(), "last", nil)
	wants(t, err, recipeFile)
	trained := trained(t, recipe(t))
	_, err = Reopen(trained.Recipe.Output, "best", []string{"preprocess.mean=[0.5]"})
	wants(t, err, "mean")
	_, err = Reopen(trained.Recipe.Output, "best", []string{"student.width=8"})
	wants(t, err, "of another recipe")
}

func TestWeightsGoOutAndInAsSafetensors(t *testing.T) {
	run := trained(t, recipe(t))
	path := filepath.Join(t.TempDir(), "student.safetensors")
	if err := run.SaveWeights(path); err != nil {
		t.Fatal(err)
	}
	next := open(t, recipe(t, "student.init="+path, "seed=9"), Options{})
	weights := &graph.Store{} // without the moments, which are not in the file
	for _, name := range run.Store.Names(graph.Param, graph.State) {
		v, _ := run.Store.Tensor(name)
		weights.Set(name, run.Store.Kind(name), v)
	}
	for _, name := range next.Store.Names(graph.Moment) {
		v, _ := next.Store.Tensor(name)
		for i := range v.F {
			if v.F[i] != 0 {
				t.Fatalf("%s starts at %v", name, v.F[i])
			}
		}
		weights.Set(name, graph.Moment, v)
	}
	same(t, next.Store, weights)
}

func TestWeightsThatDoNotFitAreNamed(t *testing.T) {
	run := open(t, recipe(t), Options{})
	whole := filepath.Join(t.TempDir(), "whole.safetensors")
	if err := run.SaveWeights(whole); err != nil {
		t.Fatal(err)
	}
	_, err := Open(recipe(t, "student={arch: resnet8, width: 8, init: "+whole+"}"), Options{})
	wants(t, err, whole, "conv1.weight", "[4,3,3,3]", "[8,3,3,3]")
	_, err = Open(recipe(t, "student={arch: resnet14, width: 4, init: "+whole+"}"), Options{})
	wants(t, err, whole, "has no layer1.1.conv1.weight")

	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.safetensors")
	if err := os.WriteFile(cut, b[:len(b)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Open(recipe(t, "student.init="+cut), Options{})
	wants(t, err, cut)
	if err := run.SaveWeights(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("it saves where there is no folder")
	}
}
