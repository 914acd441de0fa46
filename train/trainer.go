// Package train is the loop: it composes data, teacher, student and losses into programs, runs them step by step, keeps
// checkpoints and exports the student.
//
//	recipe, err := train.LoadRecipe("recipe.yaml", nil)
//	run, err := train.Open(recipe, train.Options{})
//	defer run.Close()
//	err = run.Train(ctx)
//	parity, err := run.Export("student.onnx")
package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"distill/data"
	"distill/internal/hint"
	"distill/metrics"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/teacher"
	"distill/teacher/cache"
	"distill/train/optim"
)

// Options say how a run is opened; what it computes is the recipe's.
type Options struct {
	Name      string // of the run, for events
	Resume    bool   // go on from the folder's last checkpoint; a run that has none yet starts anew
	Overwrite bool   // start anew in a folder that holds a run; Resume goes before it
	Observe   Observer
	Opened    func(*Run) error // by Execute: called before the first step
}

// Run is a recipe being carried out.
type Run struct {
	Recipe  *Recipe
	Folder  Folder
	Splits  data.Splits
	Store   *graph.Store
	State   *State
	Weights *Weights // of a file that a new run started from; nil without one
	Threads runtime.Plan

	Teachers []*teacher.Teacher // in the recipe's order
	Teacher  *teacher.Teacher   // the first, which lends losses inner tensors and its classifier; nil without one

	opts   Options
	phases []*Phase
	phase  *Phase // the current one, whose programs these are
	step   runtime.Step
	last   runtime.Step // runs Update; nil without one
	eval   runtime.Step
	hosts  []host          // parts of losses outside the graph
	caches []*cache.Cache  // of each teacher's outputs; nil: none
	val    *validation     // the last; nil: none
	budget *runtime.Budget // of threads on the CPU, for the programs and the teachers
	held   int             // of which the steps have
}

// ErrInterrupted is what Train returns when its context ends; a checkpoint is on disk then.
var ErrInterrupted = errors.New("interrupted")

// NotFiniteError stops a run: a loss or a weight became NaN or infinite. The last checkpoint before is kept.
type NotFiniteError struct {
	What string // the loss term or parameter
	Step int    // counted from 1
}

func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("train: %s is not finite at step %d", e.What, e.Step)
}

// enter compiles the current phase's programs over the store, which first gets what they read and it lacks.
func (run *Run) enter() (err error) {
	if err := run.closeSteps(); err != nil {
		return err
	}
	for _, p := range []*graph.Program{run.phase.Step, run.phase.last()} {
		if err := p.Fill(run.Store, run.Recipe.Seed); err != nil {
			return err
		}
	}
	if err := run.openHosts(); err != nil {
		return err
	}
	run.val = nil
	opts := runtime.Options{Threads: run.Threads.Student, Spin: true, Provider: run.Recipe.provider()}
	engine := runtime.Engine(run.Recipe.Engine)
	target, err := run.Recipe.target(opts)
	if err != nil {
		return err
	}
	step := opts
	step.Beside = run.beside()
	if run.step, err = runtime.Compile(run.phase.Step, run.Store, engine, step, target); err != nil {
		return err
	}
	if run.phase.Update != nil {
		if run.last, err = runtime.Compile(run.phase.Update, run.Store, engine, opts, target); err != nil {
			return err
		}
	}
	run.eval, err = runtime.Compile(run.phase.Eval, run.Store, engine, opts, nil)
	return err
}

// target is what training is lowered for; nil leaves it to runtime.
func (r *Recipe) target(opts runtime.Options) (*graph.Target, error) {
	if r.Precision != float16Precision {
		return nil, nil
	}
	t, err := runtime.Probe(opts)
	t.Half = true
	return &t, err
}

// Train runs every phase to its end, or until the context ends (ErrInterrupted) or a loss is not finite (*NotFiniteError).
func (run *Run) Train(ctx context.Context) error {
	for {
		if err := run.train(ctx); err != nil || run.State.Phase == len(run.phases)-1 {
			return err
		}
		run.State.Phase++
		run.phase = run.phases[run.State.Phase]
		run.State.begin(run.Recipe, run.phase)
		if err := run.enter(); err != nil {
			return err
		}
	}
}

// train runs the current phase.
func (run *Run) train(ctx context.Context) error {
	c, err := newChooser(ctx, run)
	if err != nil {
		return err
	}
	f, err := run.feed(c)
	if err != nil {
		return err
	}
	defer func() {
		if f != nil {
			f.close()
		}
	}()
	clock := newClock(run, f)
	defer run.hold(0) // before the feed is closed, which waits for the teacher
	for run.State.Step < run.phase.steps() {
		if c.between() { // the next round may have another teacher
			run.hold(0)
			f.close()
			waited := f.wait
			if f, err = run.feed(c); err != nil {
				return err
			}
			f.wait, clock.feed = waited, f
		}
		s := run.stride()
		for range run.phase.Batches {
			it := run.next(f)
			if it.err != nil {
				// Of the data or the teacher: what is trained so far is kept. Of this step that is nothing but what its batches did to
				// batch norm's statistics.
				return errors.Join(it.err, run.checkpoint(clock))
			}
			err := s.pass(it, f.beside())
			f.giveBack(it)
			if err != nil {
				return err
			}
		}
		if err := s.end(); err != nil {
			return err
		}
		if err := c.judge(); err != nil {
			return err
		}
		e := clock.event(s.lr)
		stopped := ctx.Err() != nil // asked once: what ends the run must have made the checkpoint
		if run.State.Step%run.phase.epoch() == 0 {
			row, err := run.endEpoch(e, clock)
			if err != nil {
				return err
			}
			e.Row = row
		} else if n := run.Recipe.Checkpoint.Every; n > 0 && run.State.Step%n == 0 || stopped {
			if err := run.checkpoint(clock); err != nil {
				return err
			}
		}
		if run.opts.Observe != nil {
			run.opts.Observe(e)
		}
		if stopped {
			return ErrInterrupted
		}
	}
	return nil
}

// next waits for the next batch.
func (run *Run) next(f *feed) *item {
	if f.behind() {
		run.hold(0)
	}
	it, _ := f.next()
	return it
}

// hold makes n threads of the budget the steps' own, until the next call: between two steps the teacher must not come to threads
// that the second would wait for.
func (run *Run) hold(n int) {
	if n > run.held {
		run.budget.TakeFirst(n - run.held)
	} else {
		run.budget.Give(run.held - n)
	}
	run.held = n
}

// endEpoch measures the student on val and saves.
func (run *Run) endEpoch(e Event, c *clock) (*Row, error) {
	v, err := run.validate()
	if err != nil {
		return nil, err
	}
	s := run.State
	row := Row{Epoch: e.Epoch + 1, Step: s.Step, LR: e.LR, Loss: e.Loss, Terms: e.Terms, ValTop1: share(v.correct), Speed: e.Speed, Wait: e.Wait,
		LossScale: e.LossScale, Skipped: e.Skipped}
	row.Best = len(s.History) == 0 || row.ValTop1 > s.Best
	if row.Best {
		s.Best = row.ValTop1
	}
	row.Seconds = c.seconds()
	s.History = append(s.History, row)
	clear(s.Sums)
	s.Count, s.Seconds = 0, 0
	if s.Scale != nil {
		s.Scale.Epoch = 0
	}
	if err := run.finite(); err != nil {
		return nil, err
	}
	// Best before last: a run killed between the two goes on from the last and makes the same best again.
	if row.Best {
		if err := run.Folder.save(bestFile, run.kept(), s); err != nil {
			return nil, err
		}
	}
	if err := run.Folder.save(lastFile, run.kept(), s); err != nil {
		return nil, err
	}
	c.turn()
	return &row, run.Folder.record(s)
}

func (run *Run) checkpoint(c *clock) error {
	if err := run.finite(); err != nil {
		return err
	}
	run.State.Seconds = c.seconds()
	return run.Folder.save(lastFile, run.kept(), run.State)
}

// kept is the store without the sums of gradients, which are of a step under way alone.
func (run *Run) kept() *graph.Store {
	kept := &graph.Store{}
	for _, name := range run.Store.Names() {
		if kind := run.Store.Kind(name); kind != graph.Moment || !strings.HasSuffix(name, optim.SumSuffix) {
			t, _ := run.Store.Tensor(name)
			kept.Set(name, kind, t)
		}
	}
	return kept
}

// finite refuses to save weights that are not finite: the loss shows them only at the next step.
func (run *Run) finite() error {
	kept := run.kept()
	for _, name := range kept.Names() {
		t, _ := kept.Tensor(name)
		for _, v := range t.F {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return run.notFinite(name, run.State.Step)
			}
		}
	}
	return nil
}

// notFinite is the error for a loss or weight that is not finite at a step, counted from 1.
func (run *Run) notFinite(what string, step int) error {
	way := "start anew with a lower optimizer.lr, or with clip_norm"
	if run.Folder.has(lastFile) {
		way += "; the last checkpoint before is kept"
	}
	return hint.Wrap(&NotFiniteError{What: what, Step: step}, "%s", way)
}

// validation is the student on val after a step.
type validation struct {
	step    int
	correct []bool
	logits  []float32 // [len,K]
}

// validate evaluates the student on val, once a step.
func (run *Run) validate() (*validation, error) {
	if run.val == nil || run.val.step != run.State.Step {
		correct, logits, err := run.Evaluate(run.Splits.Val)
		if err != nil {
			return nil, err
		}
		run.val = &validation{run.State.Step, correct, logits}
	}
	return run.val, nil
}

// Evaluate runs the student on a split, without augmentation, and says of each sample whether the largest logit is the
// label's; logits are [len,K].
func (run *Run) Evaluate(s data.Source) (correct []bool, logits []float32, err error) {
	defer run.hold(run.held)
	run.hold(run.Threads.Student)
	k, shape := len(run.State.Classes), run.phase.Eval.Inputs[0].Shape
	l := &data.Loader{Source: s, Batch: shape[0]}
	var b data.Batch
	x := graph.NewTensor(graph.Float32, shape...)
	var labels []int64
	for i := range l.Steps() {
		if err := l.Fill(&b, 0, i); err != nil {
			return nil, nil, err
		}
		run.Recipe.Preprocess.Apply(x.F, b.X, b.Shape)
		out, err := run.eval.Run(map[string]graph.Tensor{imagesInput: x}) // a short last batch keeps old images at its end
		if err != nil {
			return nil, nil, err
		}
		logits = append(logits, out[logitsOutput].F[:b.Shape[0]*k]...)
		labels = append(labels, b.Y...)
	}
	return metrics.Correct(logits, k, labels), logits, nil
}

// Close frees the programs and the teacher.
func (run *Run) Close() error {
	err := run.closeSteps()
	for _, t := range run.Teachers {
		if t != nil {
			err = errors.Join(err, t.Close())
		}
	}
	for _, c := range run.caches {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

func (run *Run) closeSteps() error {
	var errs []error
	for _, s := range []runtime.Step{run.step, run.last, run.eval} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	run.step, run.last, run.eval = nil, nil, nil
	return errors.Join(errs...)
}

func share(correct []bool) float64 {
	n := 0
	for _, c := range correct {
		if c {
			n++
		}
	}
	return float64(n) / float64(len(correct))
}
