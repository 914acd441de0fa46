package train

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/runtime/runtimetest"
)

const (
	cifar  = "../testdata/cifar10"
	resnet = "../models/cifar10_resnet56.onnx"

	trainImages, valImages, testImages = 160, 48, 48
)

// tiny is a folder of the first images of each split of testdata/cifar10, not compressed: it opens at once.
var tiny string

func TestMain(m *testing.M) {
	runtimetest.Init()
	if again() {
		return
	}
	os.Exit(func() int {
		var err error
		if tiny, err = makeTiny(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(tiny)
		return m.Run()
	}())
}

func makeTiny() (string, error) {
	dir, err := os.MkdirTemp("", "cifar10-")
	if err != nil {
		return "", err
	}
	for name, n := range map[string]int64{"data_batch_1.bin": trainImages, "val.bin": valImages, "test_batch.bin": testImages} {
		f, err := os.Open(filepath.Join(cifar, name+".gz"))
		if err != nil {
			return "", err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(io.LimitReader(z, n*3073))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// recipe trains a small ResNet on the labels of tiny for two epochs of ten steps, where the overrides do not say otherwise.
func recipe(t testing.TB, overrides ...string) *Recipe {
	t.Helper()
	r, err := LoadRecipe("", append([]string{"data.source=cifar10:" + tiny, "output=" + filepath.Join(t.TempDir(), "run"),
		"epochs=2", "batch=16", "student={arch: resnet8, width: 4}"}, overrides...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t testing.TB, r *Recipe, o Options) *Run {
	t.Helper()
	run, err := Open(r, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, hint.Of(err))
	}
	t.Cleanup(func() { run.Close() })
	return run
}

// trained opens a run and trains it to its end.
func trained(t testing.TB, r *Recipe) *Run {
	t.Helper()
	run := open(t, r, Options{})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return run
}

// interrupted trains a run for n ≥ 2 steps: its context ends before the last of them does.
func interrupted(t testing.TB, r *Recipe, o Options, n int) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	seen := 0
	o.Observe = func(Event) {
		if seen++; seen == n-1 {
			stop()
		}
	}
	run := open(t, r, o)
	if err := run.Train(ctx); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("an interrupted run ends with %v", err)
	}
	if err := run.Close(); err != nil { // as a process that ends
		t.Fatal(err)
	}
}

// timeless are the rows without what differs from run to run.
func timeless(rows []Row) []Row {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Speed, rows[i].Wait, rows[i].Seconds = 0, 0, 0
	}
	return rows
}

// same fails unless both stores hold the same bits, and says which tensor does not.
func same(t testing.TB, got, want *graph.Store) {
	t.Helper()
	if a, b := got.Names(), want.Names(); !slices.Equal(a, b) {
		t.Fatalf("tensors %v, want %v", a, b)
	}
	for _, name := range want.Names() {
		a, _ := got.Tensor(name)
		b, _ := want.Tensor(name)
		if got.Kind(name) != want.Kind(name) || !a.Shape.Equal(b.Shape) {
			t.Errorf("%s is a %v %v, want a %v %v", name, got.Kind(name), a.Shape, want.Kind(name), b.Shape)
			continue
		}
		for i := range b.F {
			if math.Float32bits(a.F[i]) != math.Float32bits(b.F[i]) {
				t.Errorf("%s[%d] is %v, want %v", name, i, a.F[i], b.F[i])
				break
			}
		}
	}
}

// wants fails unless the error or its hint has all the words.
func wants(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) && !strings.Contains(hint.Of(err), w) {
			t.Errorf("error %q, hint %q: no %q", err, hint.Of(err), w)
		}
	}
}

func TestRunMadeTwiceIsBitIdentical(t *testing.T) {
	for _, overrides := range [][]string{
		nil,
		{"optimizer.name=adamw", "optimizer.lr=0.002", "clip_norm=1", "student.shortcut=B"},
		{"teacher.model=" + resnet, "epochs=1"},
	} {
		a, b := trained(t, recipe(t, overrides...)), trained(t, recipe(t, overrides...))
		same(t, a.Store, b.Store)
		if !reflect.DeepEqual(timeless(a.State.History), timeless(b.State.History)) {
			t.Errorf("%q: metrics differ:\n%+v\n%+v", overrides, a.State.History, b.State.History)
		}
	}
}

func TestAnotherSeedGivesOtherWeights(t *testing.T) {
	weights := func(seed string) []float32 {
		v, _ := open(t, recipe(t, seed), Options{}).Store.Tensor("conv1.weight")
		return v.F
	}
	if slices.Equal(weights("seed=1"), weights("seed=2")) {
		t.Error("seeds 1 and 2 start alike")
	}
}

func TestTrainingLearns(t *testing.T) {
	r := recipe(t, "epochs=6", "data.augment.crop=0", "data.augment.flip=false", "optimizer.lr=0.05")
	h := trained(t, r).State.History
	if first, last := h[0].Loss, h[len(h)-1].Loss; !(last < first-0.2) {
		t.Errorf("the loss goes from %.3f to %.3f", first, last)
	}
}

func TestInterruptedRunCheckpointsAtThatStepAndResumesBitIdentically(t *testing.T) {
	for _, c := range []struct {
		overrides []string
		stops     []int // steps done in each part
	}{
		{nil, []int{4}},
		{nil, []int{3, 9, 2}}, // across an epoch's end
		{nil, []int{10}},      // at an epoch's end
		{[]string{"optimizer.name=adamw", "optimizer.lr=0.002", "student={arch: cnn, widths: [4, 6]}"}, []int{13}},
	} {
		want := trained(t, recipe(t, c.overrides...))
		r, done := recipe(t, c.overrides...), 0
		for i, n := range c.stops {
			interrupted(t, r, Options{Resume: i > 0}, n)
			done += n
			if _, s, err := Folder(r.Output).Load("last"); err != nil || s.Step != done {
				t.Fatalf("%v: the checkpoint is at step %d, %v; want %d", c.stops, s.Step, err, done)
			}
		}
		run := open(t, r, Options{Resume: true})
		if err := run.Train(context.Background()); err != nil {
			t.Fatal(err)
		}
		same(t, run.Store, want.Store)
		if a, b := timeless(run.State.History), timeless(want.State.History); !reflect.DeepEqual(a, b) {
			t.Errorf("%v: metrics\n%+v, want\n%+v", c.stops, a, b)
		}
		saved, _, err := Folder(r.Output).Load("last")
		if err != nil {
			t.Fatal(err)
		}
		same(t, saved, want.Store)
	}
}

func TestContextThatHasEndedStillLeavesACheckpoint(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	r := recipe(t)
	if err := open(t, r, Options{}).Train(ctx); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if _, s, err := Folder(r.Output).Load("last"); err != nil || s.Step != 1 {
		t.Errorf("step %d, %v", s.Step, err)
	}
}

func TestMetricsThatAKillCutOffAreWrittenOnResume(t *testing.T) {
	r := recipe(t)
	want := trained(t, r)
	f := Folder(r.Output)
	whole, err := os.ReadFile(f.path(csvFile))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(whole), "\n"); lines != 3 {
		t.Errorf("metrics.csv has %d lines, want a head and 2 epochs:\n%s", lines, whole)
	}
	// As if killed between the last checkpoint and its metrics, inside the write.
	for _, name := range []string{csvFile, jsonlFile} {
		if err := os.Rename(f.path(name), f.path("."+name+".0123456789abcdef.tmp")); err != nil {
			t.Fatal(err)
		}
	}
	run := open(t, r, Options{Resume: true})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	same(t, run.Store, want.Store)
	if again, err := os.ReadFile(f.path(csvFile)); err != nil || string(again) != string(whole) {
		t.Errorf("metrics.csv is\n%s%v, want\n%s", again, err, whole)
	}
	if stale, _ := filepath.Glob(f.path(".*")); len(stale) > 0 {
		t.Errorf("left behind: %v", stale)
	}
}

func TestLossThatIsNotFiniteStopsNamingTermAndStep(t *testing.T) {
	// The second epoch's first step diverges: by then there is a checkpoint.
	r := recipe(t, "epochs=3", "schedule={name: step, milestones: [1], gamma: 1}")
	interrupted(t, r, Options{}, 12)
	want, _, err := Folder(r.Output).Load("last")
	if err != nil {
		t.Fatal(err)
	}
	run := open(t, r, Options{Resume: true})
	run.Recipe.Optimizer.LR = 1e30
	err = run.Train(context.Background())
	var bad *NotFiniteError
	if !errors.As(err, &bad) {
		t.Fatalf("error %v", err)
	}
	if bad.What != "loss ce" || bad.Step != 14 {
		t.Errorf("it names %s at step %d, want loss ce at step 14", bad.What, bad.Step)
	}
	wants(t, err, "loss ce is not finite at step 14", "optimizer.lr", "clip_norm")
	got, s, err := Folder(r.Output).Load("last")
	if err != nil || s.Step != 12 {
		t.Fatalf("the last checkpoint is at %d, %v", s.Step, err)
	}
	same(t, got, want)
}

func TestWeightsThatAreNotFiniteAreNotSaved(t *testing.T) {
	run := open(t, recipe(t, "checkpoint.every=1", "student={arch: mlp, hidden: [4]}", "optimizer.lr=1e300"), Options{})
	err := run.Train(context.Background())
	var bad *NotFiniteError
	if !errors.As(err, &bad) || bad.Step != 1 {
		t.Fatalf("error %v", err)
	}
	if _, ok := run.Store.Tensor(bad.What); !ok {
		t.Errorf("%q is no parameter", bad.What)
	}
	if run.Folder.has(lastFile) {
		t.Error("they were saved")
	}
}

func TestEventsCountStepsAndCarryEachEpochsRow(t *testing.T) {
	var events []Event
	r := recipe(t, "losses=[{loss: ce}, {loss: ce, label_smoothing: 0.1, weight: 0.5}]")
	run := open(t, r, Options{Name: "labels", Observe: func(e Event) { events = append(events, e) }})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(events) != 20 {
		t.Fatalf("%d events, want 20", len(events))
	}
	for i, e := range events {
		if e.Step != i || e.Steps != 20 || e.Epoch != i/10 || e.Epochs != 2 || e.Run != "labels" || (e.Row != nil) != (i%10 == 9) {
			t.Errorf("event %d: %+v", i, e)
		}
		if len(e.Terms) != 2 || e.Terms[0].Name != "ce" || e.Terms[1].Name != "ce2" {
			t.Fatalf("event %d has terms %v", i, e.Terms)
		}
		if want := e.Terms[0].Value + 0.5*e.Terms[1].Value; math.Abs(e.Loss-want) > 1e-5 {
			t.Errorf("event %d: loss %v, its terms make %v", i, e.Loss, want)
		}
		if !(e.Speed > 0) || !(e.Wait >= 0 && e.Wait <= 1) || e.ETA < 0 {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestRecipeThatCannotRunIsRefusedBeforeAnythingIsWrittenOver(t *testing.T) {
	r := recipe(t)
	trained(t, r)
	for _, c := range []struct {
		overrides []string
		words     []string
	}{
		{[]string{"losses=[{loss: kd}]"}, []string{"needs a teacher", "--teacher"}},
		{[]string{"student.depth=9"}, []string{"depth must be 6n+2"}},
		{[]string{"batch=1000"}, []string{"160 training images do not fill a batch of 1000", "batch smaller"}},
		{[]string{"student.init=nowhere.safetensors"}, []string{"nowhere.safetensors"}},
		{[]string{"teacher.model=nowhere.onnx"}, []string{"nowhere.onnx"}},
		{[]string{"preprocess.mean=[0.5]"}, []string{"mean"}},
	} {
		bad, err := LoadRecipe("", append([]string{"data.source=cifar10:" + tiny, "output=" + r.Output, "batch=16"}, c.overrides...))
		if err == nil {
			var run *Run
			if run, err = Open(bad, Options{Overwrite: true}); err == nil {
				run.Close()
			}
		}
		wants(t, err, c.words...)
		if _, _, err := Folder(r.Output).Load("last"); err != nil {
			t.Fatalf("%q cost the run that was there: %v", c.overrides, err)
		}
	}
}

func TestFolderWithARunIsNotWrittenOver(t *testing.T) {
	r := recipe(t)
	open(t, r, Options{})
	_, err := Open(r, Options{})
	wants(t, err, r.Output, "--resume", "--overwrite")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	r.Output = file
	_, err = Open(r, Options{})
	wants(t, err, file, "--output")
}
