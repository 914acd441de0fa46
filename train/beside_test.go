package train

import (
	"testing"

	"distill/runtime"
	"distill/runtime/graph"
)

// pinned is a step that always leaves threads to the teacher, or never, or as it comes.
type pinned struct {
	runtime.Step
	always, never bool
	beside        int // how often it did
}

func (p *pinned) Beside() bool { return !p.never && p.Step.Beside() }

func (p *pinned) Run(in map[string]graph.Tensor) (map[string]graph.Tensor, error) {
	if p.always && p.Beside() {
		return p.RunBeside(in)
	}
	return p.Step.Run(in)
}

func (p *pinned) RunBeside(in map[string]graph.Tensor) (map[string]graph.Tensor, error) {
	p.beside++
	return p.Step.RunBeside(in)
}

func TestStepBesideTheTeacherTrainsTheSame(t *testing.T) {
	train := func(p *pinned, overrides ...string) *Run {
		t.Helper()
		run := open(t, recipe(t, append(overrides, "threads=2", "batch=32", "teacher.model="+resnet)...), Options{})
		p.Step = run.step
		run.step = p
		if err := run.Train(t.Context()); err != nil {
			t.Fatal(err)
		}
		return run
	}
	for _, overrides := range [][]string{nil, {"accumulate=5"}} {
		never, always, usual := pinned{never: true}, pinned{always: true}, pinned{}
		want := train(&never, overrides...)
		same(t, train(&always, overrides...).Store, want.Store)
		same(t, train(&usual, overrides...).Store, want.Store)
		// This teacher is slower than the student, which seldom finds a batch ready.
		if never.beside != 0 || always.beside != 9 || usual.beside == 0 {
			t.Errorf("%d, %d and %d of 10 batches were taken beside the teacher", never.beside, always.beside, usual.beside)
		}
	}
}

func TestStepIsAloneWhereNoTeacherWorksBesideIt(t *testing.T) {
	whole := writeLinear(t, 1, nil, 16, "")
	folder := t.TempDir() + "/cache"
	trained(t, recipe(t, append(keep(folder, true), "teacher.model="+resnet)...))
	for name, overrides := range map[string][]string{
		"one thread":               {"threads=1", "teacher.model=" + resnet},
		"no teacher":               nil,
		"outputs that are kept":    append(keep(folder, false), "teacher.model="+resnet),
		"a batch in a run":         {"teacher.model=" + whole},
		"a batch in a run, rounds": {"teachers=[{model: " + whole + "}, {model: " + whole + "}]", "combine={by: random, round: 2}"},
		"the reference":            {"engine=gorgonia", "epochs=1", "teacher.model=" + whole},
	} {
		run := open(t, recipe(t, append([]string{"threads=2"}, overrides...)...), Options{})
		if err := run.Train(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if run.step.Beside() {
			t.Errorf("%s: the step leaves threads to a teacher", name)
		}
	}
}
