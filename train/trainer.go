// Package train is the loop: it composes data, teacher, student and losses into programs, runs them step by step, keeps
// checkpoints and exports the student.
//
//	recipe, err := train.LoadRecipe("recipe.yaml", nil)
//	run, err := train.Open(recipe, train.Options{})
//	defer run.Close()
//	err = run.Train(ctx)
//	report, err := run.Export()
package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"distill/data"
	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/losses"
	"distill/metrics"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/teacher"
)

// Options say how a run is opened; what it computes is the recipe's.
type Options struct {
	Name      string // of the run, for events
	Resume    bool   // go on from the folder's last checkpoint; a run that has none yet starts anew
	Overwrite bool   // start anew in a folder that holds a run; Resume goes before it
	Observe   Observer
}

// Run is a recipe being carried out.
type Run struct {
	Recipe  *Recipe
	Folder  Folder
	Splits  data.Splits
	Teacher *teacher.Teacher // nil without one
	Store   *graph.Store
	State   *State

	opts   Options
	phases []*Phase
	phase  *Phase // the current one, whose programs these are
	step   runtime.Step
	eval   runtime.Step
	plan   runtime.Plan
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

// Open prepares a run: it opens data and teacher and checks that they fit, builds and compiles the programs, and makes the
// weights or loads them. The run must be closed.
func Open(r *Recipe, opts Options) (_ *Run, err error) {
	run := &Run{Recipe: r, Folder: Folder(r.Output), opts: opts}
	defer func() {
		if err != nil {
			run.Close()
		}
	}()
	if err := run.Folder.make(); err != nil {
		return nil, err
	}
	if err := run.Folder.claim(opts.Resume, opts.Overwrite); err != nil {
		return nil, err
	}
	if run.Splits, err = data.Open(r.Data); err != nil {
		return nil, err
	}
	if err := run.openTeacher(); err != nil {
		return nil, err
	}
	if err := run.build(); err != nil {
		return nil, err
	}
	if opts.Resume && run.Folder.has(lastFile) {
		err = run.resume()
	} else {
		err = run.start()
	}
	if err != nil {
		return nil, err
	}
	return run, run.enter()
}

// Reopen readies what a folder's run came to, its "last" or "best" checkpoint, for Evaluate and Export. The teacher is not
// opened. Overrides are as in LoadRecipe; they may move the data, for example.
func Reopen(folder, which string, overrides []string) (_ *Run, err error) {
	f := Folder(folder)
	r, err := LoadRecipe(f.path(recipeFile), overrides)
	if err != nil {
		return nil, err
	}
	run := &Run{Recipe: r, Folder: f, plan: runtime.Threads(r.Threads, false)}
	defer func() {
		if err != nil {
			run.Close()
		}
	}()
	if run.Store, run.State, err = f.Load(which); err != nil {
		return nil, err
	}
	if run.Splits, err = data.Open(r.Data); err != nil {
		return nil, err
	}
	if !slices.Equal(run.Splits.Train.Classes(), run.State.Classes) || run.image() != run.State.Image {
		return nil, fmt.Errorf("train: the data have other classes or another image size than %s", f.path(lastFile))
	}
	if run.phases, err = r.phases(run.State.Image, len(run.State.Classes), run.Splits.Train); err != nil {
		return nil, err
	}
	if err := run.complete(); err != nil {
		return nil, err
	}
	run.eval, err = runtime.Compile(run.phase.Eval, run.Store, runtime.Engine(r.Engine), runtime.Options{Threads: run.plan.Student}, nil)
	return run, err
}

// complete makes the loaded state's phase the current one and checks that it fits and finds all it reads in the store.
func (run *Run) complete() error {
	s := run.State
	if s.Phase < 0 || s.Phase >= len(run.phases) {
		return fmt.Errorf("train: the checkpoint in %s does not fit its recipe: it is in phase %d of %d", run.Folder, s.Phase+1, len(run.phases))
	}
	run.phase = run.phases[s.Phase]
	if len(s.Sums) != 1+len(run.phase.Terms) || s.Step < 0 || s.Step > run.phase.steps() || s.Count < 0 || s.Count > s.Step {
		return fmt.Errorf("train: the checkpoint in %s does not fit its recipe: it is at step %d of %d", run.Folder, s.Step, run.phase.steps())
	}
	for _, l := range run.phase.Step.Stored {
		t, ok := run.Store.Tensor(l.Name)
		if !ok || !t.Shape.Equal(l.Shape) {
			return fmt.Errorf("train: the checkpoint in %s has no %s of shape %v: it is of another recipe", run.Folder, l.Name, l.Shape)
		}
	}
	return nil
}

func (run *Run) openTeacher() error {
	r := run.Recipe
	c, h, w := run.Splits.Train.Shape()
	if err := r.Preprocess.Validate(c); err != nil {
		return err
	}
	run.plan = runtime.Threads(r.Threads, r.Teacher.Model != "")
	if r.Teacher.Model == "" {
		return nil
	}
	t, err := teacher.Open(r.Teacher, r.Preprocess, run.plan.Teacher)
	if err != nil {
		return err
	}
	run.Teacher = t
	return t.Check(run.Splits.Train.Classes(), c, h, w)
}

// image is the shape of the student's input.
func (run *Run) image() image {
	c, h, w := run.Splits.Train.Shape()
	s := run.Recipe.Preprocess.OutShape([4]int{1, c, h, w})
	return image{s[1], s[2], s[3]}
}

func (run *Run) build() error {
	r := run.Recipe
	if err := r.Student.Arch.Validate(); err != nil {
		return fmt.Errorf("train: student %s: %w", r.Student.Name, err)
	}
	var err error
	if run.phases, err = r.phases(run.image(), len(run.Splits.Train.Classes()), run.Splits.Train); err != nil {
		return err
	}
	for _, ph := range run.phases {
		if ph.NeedsTeacher && run.Teacher == nil {
			return hint.Wrap(errors.New("train: a loss needs a teacher and the recipe names none"), "set teacher.model, or --teacher")
		}
	}
	return nil
}

func (run *Run) start() error {
	if err := run.Folder.clear(); err != nil {
		return err
	}
	id, _, err := run.Recipe.Identity()
	if err != nil {
		return err
	}
	run.Store, run.phase = &graph.Store{}, run.phases[0]
	if run.Recipe.Student.Init != "" {
		if err := loadWeights(run.Store, run.phase.Step, run.Recipe.Student.Init); err != nil {
			return err
		}
	}
	run.State = &State{Recipe: id, Classes: run.Splits.Train.Classes(), Image: run.image(), Sums: make([]float64, 1+len(run.phase.Terms))}
	if run.Teacher != nil {
		run.State.TeacherSHA256 = run.Teacher.SHA256()
	}
	text, err := run.Recipe.Text()
	if err != nil {
		return err
	}
	return atomicfile.Write(run.Folder.path(recipeFile), func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

func (run *Run) resume() (err error) {
	if run.Store, run.State, err = run.Folder.Load("last"); err != nil {
		return err
	}
	text, _, err := run.Recipe.Identity()
	if err != nil {
		return err
	}
	path := run.Folder.path(lastFile)
	if err := sameRecipe(path, run.State.Recipe, text); err != nil {
		return err
	}
	if run.Teacher != nil && run.Teacher.SHA256() != run.State.TeacherSHA256 {
		return hint.Wrap(fmt.Errorf("train: %s was made with another teacher than %s", path, run.Recipe.Teacher.Model),
			"put the teacher's file back, or start anew with another --output")
	}
	return run.complete()
}

// enter compiles the current phase's programs over the store, which first gets what they read and it lacks.
func (run *Run) enter() (err error) {
	if err := run.closeSteps(); err != nil {
		return err
	}
	if err := run.phase.Step.Fill(run.Store, run.Recipe.Seed); err != nil {
		return err
	}
	opts := runtime.Options{Threads: run.plan.Student}
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
	var t *teacher.Teacher
	if run.phase.NeedsTeacher {
		t = run.Teacher
	}
	f := newFeed(run.phase.Loader, run.Recipe.Preprocess, t, run.State.Step, run.phase.steps(), run.plan.Data)
	defer f.close()
	clock := newClock(run, f)
	for {
		it, ok := f.next()
		if !ok {
			return nil
		}
		if it.err != nil {
			return it.err
		}
		lr, err := run.update(it)
		f.giveBack(it)
		if err != nil {
			return err
		}
		e := clock.event(lr)
		if run.State.Step%run.phase.Loader.Steps() == 0 {
			if e.Row, err = run.endEpoch(e, clock); err != nil {
				return err
			}
		} else if n := run.Recipe.Checkpoint.Every; n > 0 && run.State.Step%n == 0 || ctx.Err() != nil {
			if err := run.checkpoint(clock); err != nil {
				return err
			}
		}
		if run.opts.Observe != nil {
			run.opts.Observe(e)
		}
		if ctx.Err() != nil {
			return ErrInterrupted
		}
	}
}

// update runs one step and adds its losses to the epoch's sums.
func (run *Run) update(it *item) (lr float64, err error) {
	r, steps := run.Recipe, run.phase.Loader.Steps()
	lr = r.Optimizer.LR * r.Schedule.At(run.State.Step, steps, run.phase.steps())
	shape := run.phase.Step.Inputs[0].Shape
	in := map[string]graph.Tensor{
		imagesInput: graph.Floats(it.input, shape...),
		lrKnob:      graph.Scalar(float32(lr)),
	}
	if run.phase.NeedsLabels {
		in[losses.LabelsInput] = graph.Ints(it.batch.Y, len(it.batch.Y))
	}
	if run.phase.NeedsTeacher {
		in[losses.TeacherInput] = graph.Floats(it.teacher, shape[0], len(run.State.Classes))
	}
	for name, v := range r.Optimizer.Method.Knobs(run.State.Step) {
		in[name] = graph.Scalar(v)
	}
	out, err := run.step.Run(in)
	if err != nil {
		return 0, err
	}
	// The terms first: they say more than their sum. In Sums the sum comes first.
	for i, name := range append(append([]string(nil), run.phase.Terms...), lossOutput) {
		v := float64(out[name].F[0])
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, hint.Wrap(&NotFiniteError{What: "loss " + name, Step: run.State.Step + 1},
				"the last checkpoint is kept; lower optimizer.lr, or set clip_norm")
		}
		run.State.Sums[(i+1)%len(run.State.Sums)] += v
	}
	run.State.Count++
	run.State.Step++
	return lr, nil
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
	row.Seconds = c.epoch()
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
	return &row, run.Folder.record(s.History)
}

func (run *Run) checkpoint(c *clock) error {
	if err := run.finite(); err != nil {
		return err
	}
	run.State.Seconds = c.epoch()
	return run.Folder.save(lastFile, run.Store, run.State)
}

// finite refuses to save weights that are not finite: the loss shows them only at the next step.
func (run *Run) finite() error {
	for _, name := range run.Store.Names() {
		t, _ := run.Store.Tensor(name)
		for _, v := range t.F {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return hint.Wrap(&NotFiniteError{What: name, Step: run.State.Step},
					"the last checkpoint is kept; lower optimizer.lr, or set clip_norm")
			}
		}
	}
	return nil
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

// clock measures speed, waiting and what is left.
type clock struct {
	run   *Run
	feed  *feed
	start time.Time // of this process's part of the run
	from  int       // its first step
	begin time.Time // of the epoch, what a checkpoint remembers of it included
}

func newClock(run *Run, f *feed) *clock {
	now := time.Now()
	return &clock{run: run, feed: f, start: now, from: run.State.Step,
		begin: now.Add(-time.Duration(run.State.Seconds * float64(time.Second)))}
}

// epoch is the time since the epoch began.
func (c *clock) epoch() float64 {
	s := time.Since(c.begin).Seconds()
	if c.run.State.Count == c.run.phase.Loader.Steps() {
		c.begin = time.Now()
	}
	return s
}

// event is that of the step just done.
func (c *clock) event(lr float64) Event {
	s, steps := c.run.State, c.run.phase.Loader.Steps()
	elapsed := time.Since(c.start)
	done := s.Step - c.from
	e := Event{
		Run: c.run.opts.Name, Epoch: (s.Step - 1) / steps, Epochs: c.run.phase.Epochs, Step: s.Step - 1, Steps: c.run.phase.steps(), LR: lr,
		Loss:  s.Sums[0] / float64(s.Count),
		Speed: float64(done*c.run.Recipe.Batch) / elapsed.Seconds(),
		Wait:  c.feed.wait.Seconds() / elapsed.Seconds(),
		ETA:   elapsed * time.Duration(c.run.phase.steps()-s.Step) / time.Duration(done),
	}
	for i, name := range c.run.phase.Terms {
		e.Terms = append(e.Terms, Named{name, s.Sums[i+1] / float64(s.Count)})
	}
	return e
}
