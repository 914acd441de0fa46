package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"distill/internal/strictyaml"
	"distill/runtime"
	"distill/teacher"
	"distill/train"
	"distill/train/policy"
)

// teaching is what becomes of several teachers, and by what.
func teaching(r *train.Recipe) (how, by string) {
	how = "combined"
	if _, ok := r.Combine.Rule.(policy.Policy); ok {
		how = "chosen"
	}
	return how, r.Combine.By + settings(r.Combine.Rule)
}

// survey is what a run is made of, as a table to be shown before it begins.
func survey(run *train.Run) [][]string {
	r, plan := run.Recipe, run.Threads
	var rows [][]string
	threads := fmt.Sprintf("%d", plan.Student)
	for i, t := range run.Teachers {
		rows = append(rows, []string{"teacher", fmt.Sprintf("%s: %s parameters, gives %s; pixels %s", t.Path(), grouped(int64(t.Params())), t.Output(), origin(r.AllTeachers()[i], t))})
		threads = fmt.Sprintf("%d for the student's step, %d for the teacher", plan.Student, plan.Teacher)
	}
	if len(r.Teachers) > 0 {
		how, by := teaching(r)
		rows = append(rows, []string{how, "by " + by})
	}
	rows = append(rows, []string{"student", r.Student.Name + settings(r.Student.Arch)})
	if w := run.Weights; w != nil {
		text := w.File
		if w.Anew != "" {
			text += fmt.Sprintf(" without %s, which is of %d classes there and starts anew", w.Anew, w.Classes)
		}
		rows = append(rows, []string{"weights", text})
	}
	c, h, w := run.Splits.Train.Shape()
	return append(rows, [][]string{
		{"data", fmt.Sprintf("%s: %s to train, %s val, %s test images of %d×%d×%d in %d classes", r.Data.Source,
			grouped(int64(run.Splits.Train.Len())), grouped(int64(run.Splits.Val.Len())), grouped(int64(run.Splits.Test.Len())), c, h, w, len(run.Splits.Train.Classes()))},
		{"loss", lossText(r.Losses)},
		{"engine", r.Engine + on(r.Provider) + in(r.Precision) + "; threads: " + threads},
		{"run", fmt.Sprintf("%d epochs in batches of %d%s, seed %d, into %s", r.Epochs, r.Batch, together(r.Accumulate), r.Seed, filepath.Clean(r.Output))},
	}...)
}

// warn writes what is known against a run's choices.
func warn(w io.Writer, run *train.Run) {
	for _, text := range run.Warnings() {
		fmt.Fprintf(w, "distill: warning: %s\n", text)
	}
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

// lossText writes a sum of losses, as 0.1·ce(…) + 0.9·kd(temperature 4) + 100·fitnets(layer2 ← …/Relu_output_0, convreg).
func lossText(terms []train.Term) string {
	parts := make([]string, len(terms))
	for i, t := range terms {
		var inside []string
		if s := settings(t.Loss); s != "" {
			inside = append(inside, s[1:len(s)-1])
		}
		if t.Standardize {
			inside = append(inside, "standardize")
		}
		for _, tap := range t.Taps {
			text := tap.Student + " ← " + shortened(tap.Teacher)
			if tap.Adapter != "" {
				text += " " + tap.Adapter
			}
			inside = append(inside, text)
		}
		parts[i] = fmt.Sprintf("%g·%s", t.Weight, t.Name)
		if len(inside) > 0 {
			parts[i] += "(" + strings.Join(inside, ", ") + ")"
		}
	}
	return strings.Join(parts, " + ")
}

// shortened is the last part of a tensor's path.
func shortened(tensor string) string {
	if i := strings.LastIndex(tensor, "/"); i > 0 {
		return "…" + tensor[i:]
	}
	return tensor
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

// on names a provider other than the CPU.
func on(provider string) string {
	if p := (runtime.Provider{Name: provider}); p.String() != (runtime.Provider{}).String() {
		return " on " + p.String()
	}
	return ""
}

// in names a precision other than float32.
func in(precision string) string {
	if precision == "float32" {
		return ""
	}
	return " in " + precision
}

// together says how many batches a step takes, where it takes more than one.
func together(batches int) string {
	if batches == 1 {
		return ""
	}
	return fmt.Sprintf(", %d a step", batches)
}
