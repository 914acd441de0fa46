package train

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"distill/data"
	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/train/optim"
)

// Open prepares a run: it opens data and teacher and checks that they fit, builds and compiles the programs, and makes the
// weights or loads them. The run's recipe is a copy of r in which nothing is left open. The run must be closed.
func Open(r *Recipe, opts Options) (_ *Run, err error) {
	resolved := *r // what is settled here does not show in the caller's
	resolved.Losses = slices.Clone(r.Losses)
	for i, t := range r.Losses {
		resolved.Losses[i].Taps = slices.Clone(t.Taps)
	}
	run := &Run{Recipe: &resolved, Folder: Folder(r.Output), opts: opts}
	defer func() {
		if err != nil {
			run.Close()
		}
	}()
	if err := run.Folder.claim(opts.Resume, opts.Overwrite); err != nil {
		return nil, err
	}
	if err := run.prepare(); err != nil {
		return nil, err
	}
	if err := run.build(); err != nil {
		return nil, err
	}
	if err := run.openCaches(); err != nil {
		return nil, err
	}
	resumed := opts.Resume && run.Folder.has(lastFile)
	if resumed {
		err = run.resume()
	} else {
		err = run.start()
	}
	if err != nil {
		return nil, err
	}
	if err := run.enter(); err != nil {
		return nil, err
	}
	if err := run.rehearse(); err != nil {
		return nil, err
	}
	if err := run.Folder.make(); err != nil {
		return nil, err
	}
	// Only now is anything of an earlier run written over: nothing is left to be wrong with the new one.
	if resumed {
		return run, run.goOn()
	}
	return run, run.begin()
}

// prepare opens data and teacher and settles what the losses compare.
func (run *Run) prepare() (err error) {
	r := run.Recipe
	if err := r.settleViews(); err != nil {
		return err
	}
	if run.Splits, err = data.Open(r.Data); err != nil {
		return err
	}
	if err := run.openTeachers(); err != nil {
		return err
	}
	if err := r.Student.Arch.Validate(); err != nil {
		return fmt.Errorf("train: student %s: %w", r.Student.Name, err)
	}
	return run.pair()
}

// Reopen readies what a folder's run came to, its "last" or "best" checkpoint, for Evaluate and Export. The teacher is opened
// only where a loss deploys a part of it. Overrides are as in LoadRecipe; they may move the data, for example.
func Reopen(folder, which string, overrides []string) (_ *Run, err error) {
	f := Folder(folder)
	r, err := LoadRecipe(f.path(recipeFile), overrides)
	if err != nil {
		return nil, err
	}
	run := &Run{Recipe: r, Folder: f, Threads: runtime.Threads(r.Threads, false)}
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
	c, _, _ := run.Splits.Train.Shape()
	if err := r.Preprocess.Validate(c); err != nil {
		return nil, err
	}
	if err := run.sameData(); err != nil {
		return nil, err
	}
	if r.deploys() {
		if err := run.openTeachers(); err != nil {
			return nil, err
		}
		if err := run.sameTeacher(f.path(lastFile)); err != nil {
			return nil, err
		}
	}
	if run.phases, err = r.phases(run.State.Image, len(run.State.Classes), run.Splits.Train, lend(run.Teacher)); err != nil {
		return nil, err
	}
	if err := run.complete(); err != nil {
		return nil, err
	}
	run.eval, err = runtime.Compile(run.phase.Eval, run.Store, runtime.Engine(r.Engine), runtime.Options{Threads: run.Threads.Student, Provider: r.provider()}, nil)
	return run, err
}

// sameData checks that the data are of the kind that the checkpoint was made with.
func (run *Run) sameData() error {
	if !slices.Equal(run.Splits.Train.Classes(), run.State.Classes) || run.image() != run.State.Image {
		return fmt.Errorf("train: %s has other classes or another image size than the checkpoint in %s", run.Recipe.Data.Source, run.Folder)
	}
	return nil
}

// sameTeacher checks that the open teachers are those of the checkpoint at path.
func (run *Run) sameTeacher(path string) error {
	saved := strings.Fields(run.State.TeacherSHA256)
	for i, t := range run.Teachers {
		if i >= len(saved) || t.SHA256() != saved[i] {
			return hint.Wrap(fmt.Errorf("train: %s was made with another teacher than %s", path, t.Path()),
				"put the teacher's file back, or start anew with another --output")
		}
	}
	return nil
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
	if scales := run.Recipe.scales(); scales != (s.Scale != nil) || scales && !s.Scale.fits(run.Recipe.LossScale, s.Step) {
		return fmt.Errorf("train: the checkpoint in %s does not fit its recipe: its loss scale is %+v", run.Folder, s.Scale)
	}
	if !run.fitting() {
		return fmt.Errorf("train: the checkpoint in %s does not fit its recipe: its choices of teachers are not of the rounds by step %d", run.Folder, s.Step)
	}
	for _, l := range append(slices.Clone(run.phase.Step.Stored), run.phase.last().Stored...) {
		if strings.HasSuffix(l.Name, optim.SumSuffix) {
			continue
		}
		t, ok := run.Store.Tensor(l.Name)
		if !ok || !t.Shape.Equal(l.Shape) || t.DType() != l.DType {
			return fmt.Errorf("train: the checkpoint in %s has no %s of shape %v: it is of another recipe", run.Folder, l.Name, l.Shape)
		}
	}
	return nil
}

// image is the shape of the student's input.
func (run *Run) image() image {
	c, h, w := run.Splits.Train.Shape()
	s := run.Recipe.Preprocess.OutShape([4]int{1, c, h, w})
	return image{s[1], s[2], s[3]}
}

// images are how many each split has.
func (run *Run) images() [3]int {
	return [3]int{run.Splits.Train.Len(), run.Splits.Val.Len(), run.Splits.Test.Len()}
}

// rehearse makes a batch of each split, so that what is wrong with the data or their augmentation shows before anything is
// written.
func (run *Run) rehearse() error {
	var b data.Batch
	for _, l := range []*data.Loader{
		run.phase.Loader,
		{Source: run.Splits.Val, Batch: min(run.Recipe.Batch, run.Splits.Val.Len())},
		{Source: run.Splits.Test, Batch: min(run.Recipe.Batch, run.Splits.Test.Len())},
	} {
		if err := l.Fill(&b, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func (run *Run) build() error {
	var err error
	if run.phases, err = run.Recipe.phases(run.image(), len(run.Splits.Train.Classes()), run.Splits.Train, lend(run.Teacher)); err != nil {
		return err
	}
	for _, ph := range run.phases {
		if ph.NeedsTeacher && run.Teacher == nil {
			return errNoTeacher()
		}
	}
	return nil
}

// start makes the weights and state of a new run.
func (run *Run) start() error {
	id, _, err := run.Recipe.Identity()
	if err != nil {
		return err
	}
	run.Store, run.phase = &graph.Store{}, run.phases[0]
	if run.Recipe.Student.Init != "" {
		run.Weights, err = loadWeights(run.Store, run.phase.Step, run.Recipe.Student.Init, len(run.Splits.Train.Classes()))
		if err != nil {
			return err
		}
	}
	run.State = &State{Recipe: id, Classes: run.Splits.Train.Classes(), Image: run.image(), Images: run.images()}
	run.State.TeacherSHA256 = run.teachersSHA256()
	run.State.begin(run.Recipe, run.phase)
	return nil
}

// begin readies the folder for a new run.
func (run *Run) begin() error {
	if err := run.Folder.clear(); err != nil {
		return err
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

// goOn readies the folder of a run that was killed or interrupted, perhaps between a checkpoint and its metrics.
func (run *Run) goOn() error {
	if err := run.Folder.sweep(); err != nil {
		return err
	}
	return run.Folder.record(run.State)
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
	if err := run.sameTeacher(path); err != nil {
		return err
	}
	if err := run.sameData(); err != nil {
		return err
	}
	if run.images() != run.State.Images { // the order of the samples would be another
		return fmt.Errorf("train: %s has %v images to train, val and test; the checkpoint in %s was made with %v",
			run.Recipe.Data.Source, run.images(), run.Folder, run.State.Images)
	}
	return run.complete()
}
