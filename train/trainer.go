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
	"sync"

	"distill/data"
	"distill/internal/hint"
	"distill/losses"
	"distill/metrics"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/teacher"
	"distill/teacher/cache"
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
	Teacher *teacher.Teacher // nil without one
	Store   *graph.Store
	State   *State
	Threads runtime.Plan

	opts   Options
	phases []*Phase
	phase  *Phase // the current one, whose programs these are
	step   runtime.Step
	eval   runtime.Step
	hosts  []host       // parts of losses outside the graph
	cache  *cache.Cache // of the teacher's outputs; nil: none
	turn   sync.Mutex   // of the step or the teacher, which both use all threads
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
	if err := run.phase.Step.Fill(run.Store, run.Recipe.Seed); err != nil {
		return err
	}
	if err := run.openHosts(); err != nil {
		return err
	}
	opts := runtime.Options{Threads: run.Threads.Student, Spin: true}
	engine := runtime.Engine(run.Recipe.Engine)
	if run.step, err = runtime.Compile(run.phase.Step, run.Store, engine, opts, nil); err != nil {
		return err
	}
	run.eval, err = runtime.Compile(run.phase.Eval, run.Store, engine, opts, nil)
	return err
}

// Train runs every phase to its end, or until the context ends (ErrInterrupted) or a loss is not finite (*NotFiniteError).
func (run *Run) Train(ctx context.Context) error {
	for {
		if err := run.train(ctx); err != nil || run.State.Phase == len(run.phases)-1 {
			return err
		}
		run.State.Phase++
		run.phase = run.phases[run.State.Phase]
		run.State.Step, run.State.Sums = 0, make([]float64, 1+len(run.phase.Terms))
		if err := run.enter(); err != nil {
			return err
		}
	}
}

// train runs the current phase.
func (run *Run) train(ctx context.Context) error {
	f := newFeed(run.phase.Loader, run.Recipe.Preprocess, run.answers(), run.State.Step, run.phase.steps(), run.Threads.Data)
	defer f.close()
	clock := newClock(run, f)
	for {
		it, ok := f.next()
		if !ok {
			return nil
		}
		if it.err != nil { // of the data or the teacher: what is trained so far is kept
			return errors.Join(it.err, run.checkpoint(clock))
		}
		lr, err := run.update(it)
		f.giveBack(it)
		if err != nil {
			return err
		}
		e := clock.event(lr)
		stopped := ctx.Err() != nil // asked once: what ends the run must have made the checkpoint
		if run.State.Step%run.phase.Loader.Steps() == 0 {
			if e.Row, err = run.endEpoch(e, clock); err != nil {
				return err
			}
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
}

// update runs one step and adds its losses to the epoch's sums.
func (run *Run) update(it *item) (lr float64, err error) {
	r := run.Recipe
	lr = r.Optimizer.LR * r.Schedule.At(run.State.Step, run.phase.Loader.Steps(), run.phase.steps())
	in, err := run.inputs(it)
	if err != nil {
		return 0, err
	}
	in[lrKnob] = graph.Scalar(float32(lr))
	run.turn.Lock()
	out, err := run.step.Run(in)
	run.turn.Unlock()
	if err != nil {
		return 0, err
	}
	for _, h := range run.hosts {
		if err := h.take(run.phase.Step, out); err != nil {
			return 0, err
		}
	}
	// The terms first: they say more than their sum. In Sums the sum comes first.
	for i, name := range append(append([]string(nil), run.phase.Terms...), lossOutput) {
		v := float64(out[name].F[0])
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, run.notFinite("loss "+name, run.State.Step+1)
		}
		run.State.Sums[(i+1)%len(run.State.Sums)] += v
	}
	run.State.Count++
	run.State.Step++
	return lr, nil
}

// inputs are a step's, but for the learning rate. Those that the program does not have are left unread.
func (run *Run) inputs(it *item) (map[string]graph.Tensor, error) {
	r, step, program := run.Recipe, run.State.Step, run.phase.Step
	shape := program.Inputs[0].Shape
	index := make([]int64, len(it.batch.Index))
	for i, n := range it.batch.Index {
		index[i] = int64(n)
	}
	in := map[string]graph.Tensor{
		imagesInput:        graph.Floats(it.input, shape...),
		losses.LabelsInput: graph.Ints(it.batch.Y, len(it.batch.Y)),
		losses.IndexInput:  graph.Ints(index, len(index)),
	}
	if run.phase.NeedsTeacher {
		in[losses.TeacherInput] = graph.Floats(it.teacher, shape[0], len(run.State.Classes))
		for name, t := range it.taps {
			in[tapInput(name)] = t
		}
	}
	for _, l := range program.Inputs {
		if l.Keep > 0 {
			in[l.Name] = l.Draw(r.Seed, step)
		}
	}
	for name, v := range r.Optimizer.Method.Knobs(step) {
		in[name] = graph.Scalar(v)
	}
	at := losses.Progress{Epoch: step/run.phase.Loader.Steps() + 1, Epochs: run.phase.Epochs}
	for _, t := range r.weighted() {
		if scheduled, ok := t.Loss.(losses.Scheduled); ok {
			for name, v := range scheduled.Knobs(at) {
				in[t.Name+"."+name] = graph.Scalar(v)
			}
		}
	}
	for _, h := range run.hosts {
		if err := h.feed(in, step, index, it.batch.Y); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// endEpoch measures the student on val and saves.
func (run *Run) endEpoch(e Event, c *clock) (*Row, error) {
	correct, _, err := run.Evaluate(run.Splits.Val)
	if err != nil {
		return nil, err
	}
	s := run.State
	row := Row{Epoch: e.Epoch + 1, Step: s.Step, LR: e.LR, Loss: e.Loss, Terms: e.Terms, ValTop1: share(correct), Speed: e.Speed, Wait: e.Wait}
	row.Best = len(s.History) == 0 || row.ValTop1 > s.Best
	if row.Best {
		s.Best = row.ValTop1
	}
	row.Seconds = c.seconds()
	s.History = append(s.History, row)
	clear(s.Sums)
	s.Count, s.Seconds = 0, 0
	if err := run.finite(); err != nil {
		return nil, err
	}
	// Best before last: a run killed between the two goes on from the last and makes the same best again.
	if row.Best {
		if err := run.Folder.save(bestFile, run.Store, s); err != nil {
			return nil, err
		}
	}
	if err := run.Folder.save(lastFile, run.Store, s); err != nil {
		return nil, err
	}
	c.turn()
	return &row, run.Folder.record(s.History)
}

func (run *Run) checkpoint(c *clock) error {
	if err := run.finite(); err != nil {
		return err
	}
	run.State.Seconds = c.seconds()
	return run.Folder.save(lastFile, run.Store, run.State)
}

// finite refuses to save weights that are not finite: the loss shows them only at the next step.
func (run *Run) finite() error {
	for _, name := range run.Store.Names() {
		t, _ := run.Store.Tensor(name)
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

// Evaluate runs the student on a split, without augmentation, and says of each sample whether the largest logit is the
// label's; logits are [len,K].
func (run *Run) Evaluate(s data.Source) (correct []bool, logits []float32, err error) {
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
	if run.Teacher != nil {
		err = errors.Join(err, run.Teacher.Close())
	}
	if run.cache != nil {
		err = errors.Join(err, run.cache.Close())
	}
	return err
}

func (run *Run) closeSteps() error {
	var errs []error
	for _, s := range []runtime.Step{run.step, run.eval} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	run.step, run.eval = nil, nil
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
