package train

import (
	"context"
	"math"
	"reflect"
	"testing"

	"distill/runtime"
	"distill/runtime/graph"
	"distill/train/optim"
)

// TestLossScaleMovesAsGradScalerDoes follows torch.cuda.amp.GradScaler: _amp_update_scale_ of PyTorch.
func TestLossScaleMovesAsGradScalerDoes(t *testing.T) {
	l := LossScale{Init: 8, Growth: 2, Backoff: 0.5, Interval: 3}
	for name, c := range map[string]struct {
		from  Scale
		taken []bool
		want  Scale
	}{
		"grows after an interval":         {Scale{Value: 8}, []bool{true, true, true}, Scale{Value: 16}},
		"and counts anew":                 {Scale{Value: 8}, []bool{true, true, true, true}, Scale{Value: 16, Taken: 1}},
		"backs off at once":               {Scale{Value: 8, Taken: 2}, []bool{false}, Scale{Value: 4, Skipped: 1, Epoch: 1}},
		"a skip begins the interval anew": {Scale{Value: 8}, []bool{true, true, false, true, true}, Scale{Value: 4, Taken: 2, Skipped: 1, Epoch: 1}},
		"stays a float32":                 {Scale{Value: mostScale, Taken: 2}, []bool{true}, Scale{Value: mostScale}},
	} {
		s := c.from
		for _, taken := range c.taken {
			s.next(l, taken)
		}
		if s != c.want {
			t.Errorf("it %s: %+v, want %+v", name, s, c.want)
		}
	}
}

// randomInputs are those of a training program on random images.
func randomInputs(p *graph.Program) map[string]graph.Tensor {
	in := map[string]graph.Tensor{}
	for _, l := range p.Inputs {
		switch {
		case l.Knob:
		case l.DType == graph.Int64:
			v := graph.NewTensor(graph.Int64, l.Shape...)
			for i := range v.I {
				v.I[i] = int64(i % 10)
			}
			in[l.Name] = v
		default:
			v := graph.NewTensor(graph.Float32, l.Shape...)
			for i := range v.F {
				v.F[i] = float32(math.Sin(float64(i) * 12.9898))
			}
			in[l.Name] = v
		}
	}
	return in
}

// stepped runs a program once over the weights of seed 1.
func stepped(t *testing.T, p *graph.Program, target graph.Target, in map[string]graph.Tensor) *graph.Store {
	t.Helper()
	store := &graph.Store{}
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	step, err := runtime.Compile(p, store, runtime.ONNXRuntime, runtime.Options{Threads: 1}, &target)
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	if _, err := step.Run(in); err != nil {
		t.Fatal(err)
	}
	return store
}

// TestScaledLossMakesTheSameUpdates lowers the step of a float16 recipe for float32, where a power of two only moves exponents.
func TestScaledLossMakesTheSameUpdates(t *testing.T) {
	for _, overrides := range [][]string{
		{"student={arch: resnet8, width: 4}"},
		{"student={arch: cnn, widths: [4, 6]}", "optimizer={name: adamw, lr: 0.002}", "clip_norm=0.5"},
	} {
		build := func(precision string) *graph.Program {
			p, err := recipe(t, append(overrides, precision)...).Training([3]int{3, 32, 32}, 10)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		plain, scaled := build("precision=float32"), build("precision=float16")
		in := randomInputs(plain)
		want := stepped(t, plain, graph.Target{}, in)
		for _, scale := range []float32{1, 1024, 65536} {
			in[scaleKnob] = graph.Scalar(scale)
			same(t, stepped(t, scaled, graph.Target{}, in), want)
		}
	}
}

func TestStepsThatOverflowAreSkippedAndTheScaleBacksOff(t *testing.T) {
	for _, optimizer := range []string{"{name: sgd, lr: 0.02}", "{name: adamw, lr: 0.002}"} {
		r := recipe(t, "epochs=3", "precision=float16", "loss_scale.init=268435456", "optimizer="+optimizer)
		var run *Run
		var first *graph.Store
		var events []Event
		run = open(t, r, Options{Observe: func(e Event) {
			events = append(events, e)
			if e.Skipped < e.Step+1 || e.Step > 9 { // a step was taken, or Skipped began anew
				return
			}
			for _, name := range run.Store.Names() {
				a, _ := run.Store.Tensor(name)
				b, _ := first.Tensor(name)
				if kind := run.Store.Kind(name); reflect.DeepEqual(a.F, b.F) != (kind != graph.State) {
					t.Errorf("skipped step %d: %s, a %v, is the same: %v", e.Step, name, kind, kind == graph.State)
				}
			}
		}})
		first = run.Store.Clone()
		if err := run.Train(context.Background()); err != nil {
			t.Fatal(err)
		}
		s := run.State.Scale
		if want := math.Ldexp(1, 28-s.Skipped); s.Skipped < 10 || s.Skipped > 20 || s.Value != want {
			t.Errorf("%s: the scale is %+v, want %v", optimizer, s, want)
		}
		skipped := 0
		for _, row := range run.State.History {
			skipped += row.Skipped
		}
		last := run.State.History[2]
		if skipped != s.Skipped || last.LossScale != s.Value || events[0].Skipped != 1 || events[0].LossScale != 0x1p27 {
			t.Errorf("%s: the rows count %d of %d skipped steps, and say that the scale is %v of %v", optimizer, skipped, s.Skipped, last.LossScale, s.Value)
		}
		if first, last := run.State.History[0].Loss, last.Loss; !(last < first) {
			t.Errorf("%s: the loss goes from %v to %v", optimizer, first, last)
		}
		if knobs := run.stride().knobs; r.Optimizer.Name == "adamw" {
			if want := float32(1 - math.Pow(0.9, float64(30-s.Skipped+1))); knobs["adamw.correction1"].F[0] != want {
				t.Errorf("the next step's correction is %v, want %v, of the steps taken", knobs["adamw.correction1"].F[0], want)
			}
		}
	}
}

func TestLossScaleGrowsAsTheRecipeSays(t *testing.T) {
	run := trained(t, recipe(t, "precision=float16", "loss_scale={init: 1024, growth: 4, backoff: 0.5, interval: 8}"))
	if s := *run.State.Scale; s != (Scale{Value: 16384, Taken: 4}) {
		t.Errorf("after 20 steps the scale is %+v", s)
	}
}

func TestGradientsThatAreNeverFiniteEndTheRun(t *testing.T) {
	run := open(t, recipe(t, "precision=float16", "loss_scale={init: 4}", "losses=[{loss: ce, weight: 1e30}]"), Options{})
	err := run.Train(context.Background())
	wants(t, err, "not finite in float16 at step 3", "no more than 1", "precision: float32", "clip_norm")
	if run.Folder.has(lastFile) {
		t.Error("there is a checkpoint")
	}
}

func TestRunInFloat16ResumesBitIdentically(t *testing.T) {
	for _, overrides := range [][]string{
		{"precision=float16", "loss_scale={init: 67108864, interval: 3}"}, // 2²⁶: some steps are skipped, some let it grow
		{"precision=float16", "loss_scale={init: 67108864, interval: 3}", "batch=8", "accumulate=2", "optimizer={name: adamw, lr: 0.002}"},
		{"accumulate=3", "batch=5", "clip_norm=1"},
	} {
		want := trained(t, recipe(t, overrides...))
		if s := want.State.Scale; s != nil && (s.Skipped == 0 || s.Skipped > 15) {
			t.Errorf("%v: the scale is %+v: nothing is shown", overrides, *s)
		}
		r := recipe(t, overrides...)
		for i, n := range []int{4, 8} {
			interrupted(t, r, Options{Resume: i > 0}, n)
		}
		saved, _, err := Folder(r.Output).Load("last")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range saved.Names() {
			if name == "conv1.weight"+optim.SumSuffix {
				t.Errorf("the checkpoint has %s", name)
			}
		}
		run := open(t, r, Options{Resume: true})
		if err := run.Train(context.Background()); err != nil {
			t.Fatal(err)
		}
		same(t, run.Store, want.Store)
		if !reflect.DeepEqual(run.State.Scale, want.State.Scale) {
			t.Errorf("%v: the scale is %+v, want %+v", overrides, run.State.Scale, want.State.Scale)
		}
		if a, b := timeless(run.State.History), timeless(want.State.History); !reflect.DeepEqual(a, b) {
			t.Errorf("%v: metrics\n%+v, want\n%+v", overrides, a, b)
		}
	}
}

func TestLossScaleThatDoesNotFitIsRefused(t *testing.T) {
	r := recipe(t, "precision=float16")
	interrupted(t, r, Options{}, 3)
	store, state, err := Folder(r.Output).Load("last")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []*Scale{nil, {Value: 0}, {Value: math.MaxFloat64}, {Value: 8, Taken: 2000}, {Value: 8, Taken: -1},
		{Value: 8, Skipped: 4}, {Value: 8, Epoch: 1}, {Value: 8, Skipped: -2, Epoch: -3}} {
		state.Scale = bad
		if err := Folder(r.Output).save(lastFile, store, state); err != nil {
			t.Fatal(err)
		}
		refused(t, r, r.Output, "loss scale")
	}
}

func TestPrecisionAndScaleOutOfRangeAreRefused(t *testing.T) {
	for _, c := range []struct {
		overrides []string
		words     []string
	}{
		{[]string{"precision=float64"}, []string{"precision must be float32 or float16", "float64"}},
		{[]string{"loss_scale.init=0"}, []string{"init must be in 1..2^127"}},
		{[]string{"loss_scale.init=1e39"}, []string{"init must be in 1..2^127"}},
		{[]string{"loss_scale.growth=1"}, []string{"growth must be above 1"}},
		{[]string{"loss_scale.backoff=1"}, []string{"backoff must be between 0 and 1"}},
		{[]string{"loss_scale.interval=0"}, []string{"interval must be above 0"}},
		{[]string{"precision=float16", "engine=gorgonia"}, []string{"gorgonia", "float16", "engine: onnxruntime"}},
		{[]string{"accumulate=0"}, []string{"accumulate must be in 1..65536"}},
		{[]string{"accumulate=4", "losses=[{loss: rkd}]"}, []string{"rkd", "compares the images of a batch", "batch: 256"}},
		{[]string{"accumulate=2", "losses=[{loss: ce}, {loss: dist}]"}, []string{"dist", "batch: 128"}},
	} {
		_, err := LoadRecipe("", append([]string{"data.source=cifar10:" + tiny, "teacher.model=" + resnet}, c.overrides...))
		wants(t, err, c.words...)
	}
}
