package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"distill/teacher"
)

// write writes what was found, for people.
func (j *judgement) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s images, %s\n\n%s\n%s", grouped(int64(j.N)), printable(j.images), table(j.answerRows()),
		"Accuracy ± its standard error; ECE: expected calibration error in 15 bins; NLL and entropy in nats; latency: median, one image, one thread.\n")
	fmt.Fprintf(&b, "\n%s\n%s", table(j.qualityRows()), j.qualityText())
	if len(j.Teachers) > 1 {
		fmt.Fprintf(&b, "\n%s", table(j.matrix("agreement", func(r, c int) string { return percent(j.Agreement[r][c]) })))
		fmt.Fprintf(&b, "\n%s", table(j.matrix("KL(row ‖ column), nats", func(r, c int) string { return fmt.Sprintf("%.3f", j.KL[r][c]) })))
	}
	if j.Student != nil {
		fmt.Fprintf(&b, "\n%s\n%s", table(j.studentRows()), j.studentText())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// name is a teacher's number and, short, its file.
func (j *judgement) name(i int) string {
	short := func(path string) string { return strings.TrimSuffix(filepath.Base(path), ".onnx") }
	name := short(j.Teachers[i].File)
	for k, other := range j.Teachers {
		if k != i && short(other.File) == name {
			name = j.Teachers[i].File
		}
	}
	return fmt.Sprintf("%d %s", i+1, name)
}

func (j *judgement) answerRows() [][]string {
	rows := [][]string{{"teacher", "accuracy", "ECE", "NLL", "Brier", "entropy", "parameters", "file", "multiply-adds", "latency"}}
	for i, t := range j.Teachers {
		macs := "not counted"
		if t.MACs != nil {
			macs = grouped(*t.MACs)
		}
		rows = append(rows, []string{
			j.name(i), fmt.Sprintf("%.1f ± %.1f %%", 100*t.Top1, 100*t.Stderr), percent(t.ECE),
			fmt.Sprintf("%.3f", t.NLL), fmt.Sprintf("%.3f", t.Brier), fmt.Sprintf("%.3f", t.Entropy),
			grouped(int64(t.Params)), fmt.Sprintf("%s KB", grouped((t.Bytes+500)/1000)), macs, fmt.Sprintf("%.2f ms", t.LatencyMS),
		})
	}
	return rows
}

func (j *judgement) qualityRows() [][]string {
	rows := [][]string{{"teacher", "3C", "tr(Fisher), all weights", "last layer", "logits", "components", "of the features"}}
	for i, t := range j.Teachers {
		all, last := "none", "none"
		if f := t.Fisher; f.Gradient != nil {
			all = strconv.FormatFloat(*f.Gradient, 'g', 4, 64)
			if f.GradientStderr != nil {
				all += fmt.Sprintf(" ± %.2g", *f.GradientStderr)
			}
		}
		if f := t.Fisher; f.Classifier != nil {
			last = fmt.Sprintf("%.3g", *f.Classifier)
		}
		kind := map[string]string{teacher.Classified: "classified", teacher.Pooled: "pooled", teacher.Logit: "logits"}[t.Features.Kind]
		rows = append(rows, []string{
			j.name(i), fmt.Sprintf("%.3f", t.Quality), all, last, fmt.Sprintf("%.3g", t.Fisher.Logits),
			fmt.Sprintf("%d of %d", t.Features.Components, t.Features.Dimension), fmt.Sprintf("%s, %s", shortened(t.Features.Tensor), kind),
		})
	}
	return rows
}

// qualityText says what the score compares.
func (j *judgement) qualityText() string {
	var b strings.Builder
	b.WriteString("3C is 0.6·(trace / largest) + 0.4·(components for 95 % of the variance / most). The trace is that of ")
	switch j.Fisher {
	case byGradient:
		fmt.Fprintf(&b, "all weights,\nby %s gradients, ± their standard error; the components are those of %s images, and grow with them.\n",
			grouped(int64(j.Draws)), grouped(int64(j.Features)))
		return b.String()
	case byClassifier:
		b.WriteString("the last layer,\nwithout gradients: a stand-in for that of all weights")
	default:
		b.WriteString("the logits,\nwithout gradients: a stand-in for that of all weights")
	}
	fmt.Fprintf(&b, "; the components are those of %s images, and grow with them.\n", grouped(int64(j.Features)))
	for _, t := range j.Teachers {
		if t.Fisher.Error != nil {
			fmt.Fprintf(&b, "No gradients: %s\n", printable(*t.Fisher.Error))
		}
	}
	return b.String()
}

// matrix is a table of each teacher beside each.
func (j *judgement) matrix(what string, cell func(row, column int) string) [][]string {
	head := []string{what}
	for c := range j.Teachers {
		head = append(head, strconv.Itoa(c+1))
	}
	rows := [][]string{head}
	for r := range j.Teachers {
		row := []string{j.name(r)}
		for c := range j.Teachers {
			row = append(row, cell(r, c))
		}
		rows = append(rows, row)
	}
	return rows
}

func (j *judgement) studentRows() [][]string {
	rows := [][]string{{"student and teacher", "agreement", "KL(teacher ‖ student)", "transfer efficiency", "plug-in", "I(X;Y)", "capacity bound"}}
	for i, t := range j.Student.Of {
		rows = append(rows, []string{
			j.name(i), percent(t.Agreement), fmt.Sprintf("%.4f nats", t.KL), decimal(t.Transfer.Efficiency, "undefined"),
			decimal(t.Transfer.PlugIn, "undefined"), fmt.Sprintf("%.3f nats", t.Information), decimal(t.CapacityBound, "infinite"),
		})
	}
	return rows
}

// decimal writes a number that may not be known.
func decimal(v *float64, otherwise string) string {
	if v == nil {
		return otherwise
	}
	return fmt.Sprintf("%.3f", *v)
}

// studentText says how what reached the student was estimated.
func (j *judgement) studentText() string {
	s := j.Student
	return fmt.Sprintf(`The student, %s, has %.1f ± %.1f %% accuracy.
Transfer efficiency is I(teacher; student) / H(teacher) of the predicted classes, corrected by Miller and Madow; plug-in: not.
The capacity bound is I(X;Y) / (ε²·KL), ε = %g, with I(X;Y) = H(mean p) − mean H(p) of the teacher's calibrated probabilities. It
diverges as the student comes close to its teacher: it informs, nothing should be decided by it.
`, printable(s.File), 100*s.Top1, 100*s.Stderr, s.Epsilon)
}
