package train

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"distill/runtime"
	"distill/runtime/graph"
	"distill/train/optim"
)

// TestAccumulatedBatchesMakeTheStepOfOneLargeBatch trains networks without batch norm, whose statistics are each batch's own.
func TestAccumulatedBatchesMakeTheStepOfOneLargeBatch(t *testing.T) {
	for _, overrides := range [][]string{
		{"student={arch: mlp, hidden: [16]}", "optimizer={name: sgd, lr: 0.05, momentum: 0.9}"},
		{"student={arch: mlp, hidden: [16]}", "optimizer={name: adamw, lr: 0.001}", "clip_norm=0.1"},
		{"student={arch: vit_tiny4, width: 32, depth: 1, heads: 2, mlp_ratio: 2}", "optimizer={name: sgd, lr: 0.02}", "clip_norm=0.1"},
	} {
		overrides = append(overrides, "epochs=1")
		whole := trained(t, recipe(t, append(overrides, "batch=64")...))
		parts := trained(t, recipe(t, append(overrides, "batch=16", "accumulate=4")...))
		if a, b := parts.State.Step, whole.State.Step; a != 2 || b != 2 {
			t.Errorf("%d and %d steps, want 2", a, b)
		}
		for _, kind := range []graph.Kind{graph.Param, graph.Moment} {
			if d, _ := apart(tensors(parts.Store, kind), tensors(whole.Store, kind)); !(d <= 1e-6) {
				t.Errorf("%v: the %vs together are %.2g off", overrides, kind, d)
			}
		}
		if a, b := parts.State.History[0], whole.State.History[0]; math.Abs(a.Loss/b.Loss-1) > 1e-6 || a.LR != b.LR || a.Step != b.Step {
			t.Errorf("%v: the row is %+v, want %+v", overrides, a, b)
		}
	}
}

// tensors are those of a kind by name.
func tensors(s *graph.Store, kind graph.Kind) map[string][]float32 {
	found := map[string][]float32{}
	for _, name := range s.Names(kind) {
		v, _ := s.Tensor(name)
		found[name] = v.F
	}
	return found
}

// TestAccumulatedSumThatIsNotFiniteSkipsTheStep has one gradient of one batch overflow.
func TestAccumulatedSumThatIsNotFiniteSkipsTheStep(t *testing.T) {
	r := recipe(t, "precision=float16", "accumulate=4", "student={arch: mlp, hidden: [4]}")
	program, err := r.Training([3]int{3, 32, 32}, 10)
	if err != nil {
		t.Fatal(err)
	}
	update, err := r.update(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []float64{0.5, math.Inf(1), math.Inf(-1), math.NaN()} {
		store := &graph.Store{}
		if err := update.Fill(store, 1); err != nil {
			t.Fatal(err)
		}
		var sums []string
		for _, name := range store.Names(graph.Moment) {
			if filepath.Ext(name) == optim.SumSuffix {
				sums = append(sums, name)
			}
		}
		if len(sums) != 4 {
			t.Fatalf("sums %v, want those of two layers", sums)
		}
		v, _ := store.Tensor(sums[2])
		v.F[1] = float32(bad)
		before := store.Clone()
		step, err := runtime.Compile(update, store, runtime.ONNXRuntime, runtime.Options{Threads: 1}, &graph.Target{Half: true})
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		out, err := step.Run(nil)
		if err != nil {
			t.Fatal(err)
		}
		taken := bad == 0.5
		if got := out[finiteOutput].F[0] == 1; got != taken {
			t.Errorf("%v: finite is %v", bad, out[finiteOutput].F[0])
		}
		for _, name := range store.Names() {
			a, _ := store.Tensor(name)
			b, _ := before.Tensor(name)
			switch {
			case slices.Contains(sums, name):
				if slices.ContainsFunc(a.F, func(v float32) bool { return v != 0 }) {
					t.Errorf("%v: %s is not zeros after the step", bad, name)
				}
			case slices.Equal(a.F, b.F) == taken: // by its gradient or by weight decay
				t.Errorf("%v: %s: taken is %v", bad, name, taken)
			}
		}
	}
}

func TestEachBatchOfAStepHasADropoutOfItsOwn(t *testing.T) {
	run := open(t, recipe(t, "accumulate=2", "student={arch: mobilenetv2_cifar, stem: 8, settings: [[1, 8, 1, 2]], last: 16, dropout: 0.5}"), Options{})
	it := &item{input: make([]float32, 16*3*32*32)}
	it.batch.Y, it.batch.Index = make([]int64, 16), make([]int, 16)
	var masks []graph.Tensor
	for _, step := range []int{0, 1} {
		run.State.Step = step
		w := run.stride()
		for w.passes = range 2 {
			in, err := w.inputs(it)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range run.phase.Step.Inputs {
				if l.Keep > 0 {
					masks = append(masks, in[l.Name])
				}
			}
		}
	}
	if len(masks) != 4 {
		t.Fatalf("%d masks, want one a batch", len(masks))
	}
	for i, a := range masks {
		for _, b := range masks[:i] {
			if slices.Equal(a.F, b.F) {
				t.Error("two batches have one mask")
			}
		}
	}
}

func TestAccumulatedStepsCountAndTheirTeacherAnswersEveryBatch(t *testing.T) {
	var events []Event
	r := recipe(t, "batch=16", "accumulate=3", "teacher.model="+resnet, "checkpoint.every=2")
	run := open(t, r, Options{Observe: func(e Event) { events = append(events, e) }})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	// 10 batches an epoch are 3 steps; the tenth is left out.
	if len(events) != 6 || events[5].Steps != 6 || events[5].Epoch != 1 || events[2].Row == nil || events[3].Row != nil {
		t.Errorf("%d events, the last %+v", len(events), events[len(events)-1])
	}
	if alone := r.LabelsOnly("labels"); alone.Accumulate != 3 || alone.Precision != r.Precision {
		t.Errorf("on labels alone the step is %d batches", alone.Accumulate)
	}
	for _, name := range run.kept().Names() {
		if filepath.Ext(name) == optim.SumSuffix {
			t.Errorf("%s is kept", name)
		}
	}
}

func TestStepThatTheImagesDoNotFillIsRefused(t *testing.T) {
	_, err := Open(recipe(t, "accumulate=11"), Options{})
	wants(t, err, "160 training images do not fill a step of 11 batches of 16", "accumulate or batch smaller")
}
