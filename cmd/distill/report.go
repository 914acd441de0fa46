package main

import (
	"fmt"
	"io"
	"math"
	"path/filepath"

	"distill/train"
)

// writeReport writes what a run came to, for people.
func writeReport(w io.Writer, r *train.Report) error {
	if _, err := fmt.Fprintf(w, "On the %s test images, from the ONNX files:\n\n", grouped(int64(r.TestImages))); err != nil {
		return err
	}
	rows := [][]string{{"", "accuracy", "best on val", "parameters", "file", "latency", "agrees with teacher"}}
	teachers := r.Teachers
	if r.Teacher != nil {
		teachers = []train.Result{*r.Teacher}
	}
	for _, t := range teachers {
		name := t.Name
		if len(r.Teachers) > 0 {
			name += " " + filepath.Base(t.File)
		}
		if t.Rounds > 0 {
			name += fmt.Sprintf(", %d rounds", t.Rounds)
		}
		rows = append(rows, resultRow(printable(name), t))
	}
	if len(teachers) > 0 {
		rows = append(rows, resultRow(r.Student.Name+" with teacher", r.Student))
	} else {
		rows = append(rows, resultRow(r.Student.Name+" on labels alone", r.Student))
	}
	if r.Labels != nil {
		rows = append(rows, resultRow(r.Labels.Name+" on labels alone", *r.Labels))
	}
	if err := writeTable(w, rows); err != nil {
		return err
	}
	fmt.Fprint(w, "\nAccuracy is that of the last weights, ± its standard error; latency is one image's, on one thread.\n")
	if r.Gain != nil && r.GainStdErr != nil {
		fmt.Fprintln(w, gainText(*r.Gain, *r.GainStdErr))
	}
	_, err := fmt.Fprintf(w, "Exported and checked: %s (%s)\n", printable(r.Student.File), parityText(r.Parity))
	return err
}

// resultRow is a row of the report's table.
func resultRow(name string, r train.Result) []string {
	row := []string{name, fmt.Sprintf("%.1f ± %.1f %%", 100*r.Top1, 100*r.StdErr), "", grouped(int64(r.Params)),
		fmt.Sprintf("%s KB", grouped((r.Bytes+500)/1000)), fmt.Sprintf("%.2f ms", r.LatencyMS), ""}
	if r.BestTop1 != nil {
		row[2] = percent(*r.BestTop1)
	}
	if r.Agreement != nil {
		row[6] = percent(*r.Agreement)
	}
	return row
}

// gainText says what the teacher brought, and whether it could be chance: the bound is two standard errors, which chance
// alone passes about once in twenty.
func gainText(gain, stderr float64) string {
	text := fmt.Sprintf("The teacher's gain: %+.1f ± %.1f points over labels alone, paired on the same images", 100*gain, 100*stderr)
	if stderr == 0 {
		return text + "."
	}
	errors := math.Abs(gain) / stderr
	verdict := "outside the error: the teacher helps."
	switch {
	case errors < 2:
		verdict = "within the error: it may be chance."
	case gain < 0:
		verdict = "outside the error: the teacher hurts."
	}
	return fmt.Sprintf("%s; that is %.1f standard errors, %s", text, errors, verdict)
}

// parityText says how well an exported file agrees with the trainer.
func parityText(p train.Parity) string {
	return fmt.Sprintf("max |Δ| %.1e of a logit on %s images of val, %.1e allowed", p.MaxDiff, grouped(int64(p.Images)), p.Limit)
}
