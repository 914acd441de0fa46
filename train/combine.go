package train

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"distill/data"
	"distill/internal/hint"
	"distill/losses"
	"distill/runtime"
	"distill/teacher"
	"distill/train/policy"
)

// Combine says how several teachers teach: by what rule they make one, or by what policy one of them is picked for each round.
type Combine struct {
	By   string `yaml:"by,choice"`
	Rule any    `yaml:",inline"` // a teacher.Rule or a policy.Policy
}

// rules are the ways to combine teachers, with their defaults.
var rules = []struct {
	name string
	new  func() any
}{
	{defaultCombine, func() any { return &teacher.Average{} }},
	{"weights", func() any { return &teacher.Weights{} }},
	{"confidence", func() any { return &teacher.Confidence{Of: "label"} }},
	{"agreement", func() any { return &teacher.Agreement{} }},
	{"linucb", func() any { return &policy.LinUCB{Explore: 0.5, Rounds: policy.DefaultRounds()} }},
	{"best", func() any { return &policy.Best{Rounds: policy.DefaultRounds()} }},
	{"random", func() any { return &policy.Random{Rounds: policy.DefaultRounds()} }},
}

// defaultCombine is the rule where teachers are given without one.
const defaultCombine = "average"

// combineBy is a rule with its defaults.
func combineBy(name string) Combine { return Combine{name, Combine{}.Choose(name)} }

// Choose is the default of a rule.
func (Combine) Choose(name string) any {
	for _, row := range rules {
		if row.name == name {
			return row.new()
		}
	}
	return nil
}

// Choices lists the rules.
func (Combine) Choices() []string {
	var names []string
	for _, row := range rules {
		names = append(names, row.name)
	}
	return names
}

// Taught reports whether the recipe has a teacher.
func (r *Recipe) Taught() bool { return len(r.AllTeachers()) > 0 }

// AllTeachers are the recipe's, be it one or several.
func (r *Recipe) AllTeachers() []teacher.Options {
	if len(r.Teachers) == 0 && r.Teacher.Model != "" {
		return []teacher.Options{r.Teacher}
	}
	return r.Teachers
}

// Singly are the recipes of each of the teachers alone, all with the same views of the images.
func (r *Recipe) Singly() ([]*Recipe, error) {
	s, err := r.settled()
	if err != nil {
		return nil, err
	}
	var list []*Recipe
	for i := range max(1, len(r.Teachers)) {
		list = append(list, s.alone(i))
	}
	return list, nil
}

// alone is the recipe with one of its teachers only. But for the first, losses compare nothing of it but logits.
func (r *Recipe) alone(i int) *Recipe {
	if len(r.Teachers) == 0 {
		return r
	}
	a := *r
	a.Teacher, a.Teachers, a.Combine = r.Teachers[i], nil, Combine{}
	if i > 0 {
		a.Losses = NewRecipe().Losses
	}
	return &a
}

// checkTeachers finds what is wrong with the teachers together.
func (r *Recipe) checkTeachers() error {
	switch {
	case r.Teacher.Cache.Folder != "" && r.Teacher.Model == "":
		return errors.New("teacher.cache has a folder, and teacher.model is missing")
	case r.Teacher.Model != "" && len(r.Teachers) > 0:
		return hint.Wrap(errors.New("there is a teacher, and there are teachers"), "give one of the two; to add the teacher, make it one of teachers")
	case r.Combine.By != "" && len(r.Teachers) == 0:
		return hint.Wrap(errors.New("combine has no teachers to combine"), "list them: teachers: [{model: A.onnx}, {model: B.onnx}]")
	}
	if _, ok := r.Combine.Rule.(policy.Policy); ok {
		for i, t := range r.Losses {
			if row, _ := losses.Lookup(t.Name); row.Taps != losses.None {
				return hint.Wrap(fmt.Errorf("losses.%d (%s) compares inner tensors of one teacher, and combine picks another for each round", i, t.Name),
					"leave out the loss, or combine all teachers, by %s for example", defaultCombine)
			}
		}
	}
	folders := map[string]int{}
	for i, t := range r.Teachers {
		if t.Model == "" {
			return fmt.Errorf("teachers.%d.model is missing", i)
		}
		if j, ok := folders[t.Cache.Folder]; ok && t.Cache.Folder != "" {
			return hint.Wrap(fmt.Errorf("teachers.%d and teachers.%d have one cache folder, %s", j, i, t.Cache.Folder), "give each teacher a folder of its own")
		}
		folders[t.Cache.Folder] = i
	}
	if w, ok := r.Combine.Rule.(*teacher.Weights); ok && len(w.Weights) != len(r.Teachers) {
		return hint.Wrap(fmt.Errorf("combine.weights has %d numbers for %d teachers", len(w.Weights), len(r.Teachers)), "give one for each teacher, in their order")
	}
	return nil
}

// openTeachers opens the recipe's.
func (run *Run) openTeachers() error {
	r := run.Recipe
	c, _, _ := run.Splits.Train.Shape()
	if err := r.Preprocess.Validate(c); err != nil {
		return err
	}
	all := r.AllTeachers()
	run.Threads = runtime.Threads(r.Threads, len(all) > 0)
	run.budget = runtime.NewBudget(run.Threads.Student)
	run.Teachers = make([]*teacher.Teacher, len(all))
	for i := range all {
		if err := run.openTeacher(i); err != nil {
			return err
		}
	}
	return nil
}

// openTeacher opens one of the recipe's, the first with the inner tensors that losses compare.
func (run *Run) openTeacher(i int) error {
	r := run.Recipe.alone(i)
	c, h, w := run.Splits.Train.Shape()
	o := r.Teacher
	o.Channels, o.Taps, o.Images = c, r.tapped(), r.Batch
	if run.together(i) {
		o.Budget = run.budget
	}
	t, err := teacher.Open(o, r.Preprocess, run.Threads.Teacher)
	if err != nil {
		return err
	}
	if run.Teachers[i] = t; i == 0 {
		run.Teacher = t
	}
	return t.Check(run.Splits.Train.Classes(), c, h, w)
}

// together reports whether student and teacher both compute on the CPU.
func (run *Run) together(i int) bool {
	theirs := runtime.Provider{Name: run.Recipe.AllTeachers()[i].Provider}
	return theirs.IsCPU() && run.Recipe.provider().IsCPU()
}

// beside is how many threads a step of the current phase has while a teacher works, and all where none does: none that is on the
// CPU, too, has runs of few threads, and outputs that are not all kept.
func (run *Run) beside() int {
	p := run.Threads
	for i, t := range run.Teachers {
		asked := run.phase.NeedsTeacher && (run.caches[i] == nil || run.caches[i].Writable())
		if asked && run.together(i) && t.Threads() <= p.Student-p.Beside {
			return p.Beside
		}
	}
	return p.Student
}

// teachersSHA256 names the bytes of all teachers, in their order; empty without one.
func (run *Run) teachersSHA256() string {
	var sums []string
	for _, t := range run.Teachers {
		sums = append(sums, t.SHA256())
	}
	return strings.Join(sums, " ")
}

// combined are the answers of several teachers, asked in turn, as those of one; inner tensors are the first's. k is the number of
// classes.
func combined(rule teacher.Rule, k int, asks []answers) answers {
	return func(b *data.Batch) (out teacher.Outputs, err error) {
		logits := make([][]float32, len(asks))
		for i, ask := range slices.Backward(asks) {
			if out, err = ask(b); err != nil {
				return out, err
			}
			logits[i] = out.Logits
		}
		out.Logits = rule.Combine(logits, k, b.Y)
		return out, nil
	}
}
