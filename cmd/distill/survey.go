package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"distill/data"
	"distill/internal/strictyaml"
	"distill/runtime"
	"distill/teacher"
	"distill/train"
)

// survey is what a run is made of, to be shown before it begins.
type survey struct {
	recipe  *train.Recipe
	teacher string // "" without one
	images  [3]int // in train, val and test
	shape   [3]int // C, H, W of an image
	classes int
}

// newSurvey looks at the run's data and teacher.
func newSurvey(r *train.Recipe) (survey, error) {
	s := survey{recipe: r}
	splits, err := data.Open(r.Data)
	if err != nil {
		return s, err
	}
	s.images = [3]int{splits.Train.Len(), splits.Val.Len(), splits.Test.Len()}
	s.shape[0], s.shape[1], s.shape[2] = splits.Train.Shape()
	s.classes = len(splits.Train.Classes())
	if r.Teacher.Model == "" {
		return s, nil
	}
	t, err := teacher.Open(r.Teacher, r.Preprocess, runtime.Threads(r.Threads, true).Teacher)
	if err != nil {
		return s, err
	}
	s.teacher = fmt.Sprintf("%s: %s parameters, gives %s; pixels %s", t.Path(), grouped(int64(t.Params())), t.Output(), origin(r.Teacher, t))
	return s, t.Close()
}

// origin says what a teacher's pixels go through, and who says so.
func origin(o teacher.Options, t *teacher.Teacher) string {
	source := "as the student's (preprocess)"
	if _, ok := t.Card(); ok {
		source = "as its file says"
	}
	if len(o.Mean) > 0 || len(o.Std) > 0 || o.Scale != nil || len(o.Size) > 0 {
		source = "as the recipe's teacher section says"
	}
	p := t.Preprocess()
	return fmt.Sprintf("%s: scale %.6g, mean %v, std %v", source, p.Scale, p.Mean, p.Std)
}

// name is that of the run, beside a baseline's.
func (s survey) name() string {
	if s.teacher == "" {
		return "labels"
	}
	return "teacher"
}

// rows are those of the table that is shown.
func (s survey) rows() [][]string {
	r := s.recipe
	var rows [][]string
	if s.teacher != "" {
		rows = append(rows, []string{"teacher", s.teacher})
	}
	plan := runtime.Threads(r.Threads, s.teacher != "")
	threads := fmt.Sprintf("%d", plan.Student)
	if s.teacher != "" {
		threads = fmt.Sprintf("%d for the student's step, %d for the teacher", plan.Student, plan.Teacher)
	}
	return append(rows, [][]string{
		{"student", r.Student.Name + settings(r.Student.Arch)},
		{"data", fmt.Sprintf("%s: %s to train, %s val, %s test images of %d×%d×%d in %d classes", r.Data.Source,
			grouped(int64(s.images[0])), grouped(int64(s.images[1])), grouped(int64(s.images[2])), s.shape[0], s.shape[1], s.shape[2], s.classes)},
		{"loss", lossText(r.Losses)},
		{"engine", r.Engine + "; threads: " + threads},
		{"run", fmt.Sprintf("%d epochs in batches of %d, seed %d, into %s", r.Epochs, r.Batch, r.Seed, filepath.Clean(r.Output))},
	}...)
}

// lossText writes a sum of losses, as 0.1·ce(…) + 0.9·kd(temperature 4).
func lossText(terms []train.Term) string {
	parts := make([]string, len(terms))
	for i, t := range terms {
		parts[i] = fmt.Sprintf("%g·%s%s", t.Weight, t.Name, settings(t.Loss))
	}
	return strings.Join(parts, " + ")
}

// settings writes a section's keys in brackets: "(temperature 4)". It is empty for a section without any.
func settings(section any) string {
	text, err := strictyaml.Encode(section)
	if err != nil {
		return "" // it was decoded from YAML
	}
	var keys []string
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		keys = append(keys, key+value)
	}
	if len(keys) == 0 || keys[0] == "{}" {
		return ""
	}
	return "(" + strings.Join(keys, ", ") + ")"
}
