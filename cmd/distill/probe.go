package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distill/data"
	"distill/internal/strictyaml"
	"distill/student"
	"distill/teacher"
	"distill/train"
)

type probeOptions struct {
	global
	teacher string
	student string
	classes int   // 0: the teacher's
	size    []int // height and width of the student's images; nil: the teacher's
	all     bool  // list all tensors
}

func newProbe(g *global) *cobra.Command {
	var o probeOptions
	c := &cobra.Command{
		Use:   "probe TEACHER.onnx --student NAME",
		Short: "Show which inner tensors of teacher and student go together",
		Long: `Show which inner tensors of teacher and student go together, for the losses that compare them: both networks' tensors,
what each kind of loss would compare where a recipe does not say, with the adapter that makes the shapes agree, and the
"losses" of a recipe, with a loss on features that suits the two, ready to be pasted and changed.

Levels are the last map of each resolution, or of a transformer its tokens at each quarter of the depth.

JSON keys: teacher, student (each with file or name, kind, tensors: name, shape for one image, kind, level that it ends or 0),
matches (taps: levels, last, pooled, tokens or heads; losses that can compare them; student, teacher, adapter, reason), no_match
(why there is none, by taps), loss (the one advised, or ""), recipe (YAML).`,
		Example: "  distill probe models/cifar10_resnet56.onnx --student resnet8\n  distill probe models/cifar10_resnet56.onnx --student vit_tiny4 --json",
		Args:    wantArgs(1, 1, "one teacher"),
		PreRunE: func(c *cobra.Command, _ []string) error {
			if o.classes != 0 && o.classes < 2 {
				return fmt.Errorf("--classes is %d, want 2 or more", o.classes)
			}
			if n := len(o.size); n != 0 && n != 2 {
				return fmt.Errorf("--size has %d numbers, want a height and a width", n)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.teacher = *g, args[0]
			return runProbe(o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.student, "student", "", "the student's architecture, `NAME`: "+strings.Join(student.Names(), ", ")+", or a size as in resnet8")
	f.IntVar(&o.classes, "classes", 0, "the student tells `N` classes apart; default: as many as the teacher")
	f.IntSliceVar(&o.size, "size", nil, "the student's images are `H,W`; default: the teacher's; also the teacher's where its file leaves them free")
	f.BoolVar(&o.all, "all", false, "list all tensors of the teacher, not just those that are compared")
	if err := c.MarkFlagRequired("student"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

// probed is what probe finds, as JSON has it.
type probed struct {
	Teacher network           `json:"teacher"`
	Student network           `json:"student"`
	Matches []train.Match     `json:"matches"`
	NoMatch map[string]string `json:"no_match"`
	Loss    string            `json:"loss"`
	Recipe  string            `json:"recipe"`
}

type network struct {
	Name    string        `json:"name"` // of the architecture, or the file
	Kind    string        `json:"kind"`
	Tensors []train.Inner `json:"tensors"`
}

func runProbe(o probeOptions, stdout io.Writer) error {
	p, err := probe(o)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if o.json {
		return writeJSON(stdout, p)
	}
	return writeProbe(stdout, p, o.all)
}

func probe(o probeOptions) (*probed, error) {
	arch, err := student.New(o.student)
	if err != nil {
		return nil, err
	}
	if err := arch.Validate(); err != nil {
		return nil, fmt.Errorf("student %s: %w", o.student, err)
	}
	if err := o.init(); err != nil {
		return nil, err
	}
	opts, pre := teacher.Options{Model: o.teacher}, data.DefaultPreprocess() // shapes do not hang on mean and std
	pre.Size = o.size                                                        // where the file leaves it free
	t, err := teacher.Open(opts, pre, o.budget())
	if err != nil {
		return nil, err
	}
	defer t.Close()
	var in [3]int
	in[0], in[1], in[2] = t.InputShape()
	if len(o.size) > 0 {
		in[1], in[2] = o.size[0], o.size[1]
	}
	classes := t.Classes()
	if o.classes > 0 {
		classes = o.classes
	}
	found, err := train.NewProbe(train.Student{Name: o.student, Arch: arch}, in, classes, t, opts, o.budget())
	if err != nil {
		return nil, err
	}
	p := &probed{
		Teacher: network{o.teacher, found.TeacherKind, found.Teacher}, Student: network{o.student, found.StudentKind, found.Student},
		Matches: found.Matches, NoMatch: found.NoMatch,
	}
	var section struct {
		Losses []train.Term `yaml:"losses"`
	}
	p.Loss, section.Losses = found.Suited()
	text, err := strictyaml.Encode(section)
	for line := range strings.Lines(string(text)) {
		if key := strings.TrimSpace(line); key != "standardize: false" && key != "taps: []" { // as they are without a word
			p.Recipe += line
		}
	}
	return p, err
}

// writeProbe writes what probe finds, for people.
func writeProbe(w io.Writer, p *probed, all bool) error {
	var b strings.Builder
	b.WriteString(table([][]string{{"teacher", p.Teacher.describe()}, {"student", p.Student.describe()}}))
	b.WriteString("\n" + table(p.Teacher.rows("teacher's tensors", func(t train.Inner) bool {
		return all || t.Level > 0 || slices.ContainsFunc(p.Matches, func(m train.Match) bool { return m.Teacher == t.Name })
	})))
	b.WriteString("\n" + table(p.Student.rows("student's taps", func(train.Inner) bool { return true })))
	rows := [][]string{{"compares", "student", "teacher", "adapter", ""}}
	byTaps := [][]string{}
	for i, m := range p.Matches {
		rows = append(rows, []string{m.Taps, m.Student, m.Teacher, m.Adapter, m.Reason})
		if len(m.Losses) > 0 && (i == 0 || p.Matches[i-1].Taps != m.Taps) {
			byTaps = append(byTaps, []string{m.Taps, strings.Join(m.Losses, ", ")})
		}
	}
	for _, taps := range slices.Sorted(maps.Keys(p.NoMatch)) {
		rows = append(rows, []string{taps, "", "", "", p.NoMatch[taps]})
	}
	b.WriteString("\n" + table(rows))
	if len(byTaps) > 0 {
		b.WriteString("\n" + table(append([][]string{{"compares", "losses"}}, byTaps...)))
	}
	fmt.Fprintf(&b, "\nFor a recipe:\n\n%s", p.Recipe)
	_, err := io.WriteString(w, b.String())
	return err
}

// describe says what a network is.
func (n network) describe() string {
	levels := 0
	for _, t := range n.Tensors {
		levels = max(levels, t.Level)
	}
	what := map[string]string{train.Map: "convolutional", train.Tokens: "a transformer", train.Vector: "neither convolutional nor a transformer"}[n.Kind]
	return fmt.Sprintf("%s: %s, %d tensors, %d levels", n.Name, what, len(n.Tensors), levels)
}

// rows are the rows of the table of some tensors.
func (n network) rows(head string, shown func(train.Inner) bool) [][]string {
	rows := [][]string{{head, "kind", "level", "shape for one image"}}
	for _, t := range n.Tensors {
		if !shown(t) {
			continue
		}
		level := ""
		if t.Level > 0 {
			level = fmt.Sprint(t.Level)
		}
		rows = append(rows, []string{t.Name, t.Kind, level, t.Shape.String()})
	}
	return rows
}
