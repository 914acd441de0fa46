package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/strictyaml"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/student"
)

type studentsOptions struct {
	global
	names     []string // of architectures; none: the well-known ones
	overrides []string // KEY=VALUE of their settings
	size      []int    // [S] for 3×S×S, or [C,H,W]
	classes   int
	runs      int
	noLatency bool
}

func newStudents(g *global) *cobra.Command {
	var o studentsOptions
	c := &cobra.Command{
		Use:   "students [NAME...] [KEY=VALUE...]",
		Short: "List the architectures of students: size, work and latency",
		Long: `List the architectures of students, or those named, for images of a size: parameters, as PyTorch counts them; multiply-adds
of one image and size of the ONNX file as exported, with batch norm folded; and the latency of one image in ONNX Runtime, the
median of --runs after some to warm up, on one thread unless --threads says otherwise. Weights are drawn anew: they bear on
none of it. KEY=VALUE changes a setting of each architecture, as under "student" in a recipe. What cannot be built with the
size and the settings is listed with the reason.

JSON keys: size, classes, threads, runs (0: latency was not measured), students (name, params, macs, bytes, latency_ms,
reason). What is not known is null.`,
		Example: `  distill students
  distill students resnet8 mobilenetv2 width=0.5
  distill students --size 224 --classes 1000 mobilenetv2 efficientnet_b0
  distill students --no-latency --json`,
		PreRunE: func(c *cobra.Command, args []string) error {
			for _, arg := range args {
				if strings.Contains(arg, "=") {
					o.overrides = append(o.overrides, arg)
				} else if _, err := student.New(arg); err != nil {
					return err
				} else {
					o.names = append(o.names, arg)
				}
			}
			return o.validate()
		},
		RunE: func(c *cobra.Command, _ []string) error {
			o.global = *g
			return runStudents(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.IntSliceVar(&o.size, "size", []int{3, 32, 32}, "images are `C,H,W`, or S for 3,S,S")
	f.IntVar(&o.classes, "classes", 10, "tell `N` classes apart")
	f.IntVar(&o.runs, "runs", 100, "a latency is the median of `N` runs")
	f.BoolVar(&o.noLatency, "no-latency", false, "do not measure latency")
	return c
}

func (o *studentsOptions) validate() error {
	if len(o.size) == 1 {
		o.size = []int{3, o.size[0], o.size[0]}
	}
	switch {
	case len(o.size) != 3:
		return fmt.Errorf("--size has %d numbers, want C,H,W, or S for 3,S,S", len(o.size))
	case slices.Min(o.size) < 1 || slices.Max(o.size) > 4096:
		return fmt.Errorf("--size is %v, want numbers in 1..4096", o.size)
	case o.classes < 2 || o.classes > 65536:
		return fmt.Errorf("--classes is %d, want 2..65536", o.classes)
	case o.runs < 1:
		return fmt.Errorf("--runs is %d, want 1 or more; --no-latency measures none", o.runs)
	}
	if o.noLatency {
		o.runs = 0
	}
	return nil
}

// architectures is what students finds.
type architectures struct {
	Size     []int          `json:"size"` // C, H, W
	Classes  int            `json:"classes"`
	Threads  int            `json:"threads"` // of a latency
	Runs     int            `json:"runs"`    // that it is the median of
	Students []architecture `json:"students"`
}

// architecture is a student that was not trained.
type architecture struct {
	Name      string   `json:"name"`
	Params    *int     `json:"params"`
	MACs      *int64   `json:"macs"` // of one image
	Bytes     *int     `json:"bytes"`
	LatencyMS *float64 `json:"latency_ms"`
	Reason    *string  `json:"reason"` // why nothing is known of it
}

func runStudents(ctx context.Context, o studentsOptions, stdout, stderr io.Writer) error {
	all, err := students(ctx, o, stderr)
	if err != nil {
		return fmt.Errorf("students: %w", err)
	}
	if o.json {
		return writeJSON(stdout, all)
	}
	return writeStudents(stdout, all)
}

// students looks at each architecture. It is an error if none can be built.
func students(ctx context.Context, o studentsOptions, stderr io.Writer) (*architectures, error) {
	if err := o.init(); err != nil {
		return nil, err
	}
	all := &architectures{Size: o.size, Classes: o.classes, Threads: cmp.Or(o.threads, 1), Runs: o.runs}
	names := o.names
	if len(names) == 0 { // all but a file of one's own, which only a name and a setting choose
		names = slices.DeleteFunc(student.Members(), func(name string) bool { return name == "onnx" })
	}
	var errs []error
	for i, name := range names {
		if isTerminal(stderr) {
			fmt.Fprintf(stderr, "\r\033[K%d of %d: %s", i+1, len(names), name)
		}
		a, err := profile(ctx, name, o, all.Threads)
		if stop := interrupted(ctx); stop != nil {
			return nil, stop
		}
		if err != nil {
			reason := err.Error()
			a.Reason = &reason
			errs = append(errs, err)
		}
		all.Students = append(all.Students, a)
	}
	if isTerminal(stderr) {
		fmt.Fprint(stderr, "\r\033[K")
	}
	if len(errs) == len(names) {
		return nil, fmt.Errorf("%s: %w", names[0], errs[0])
	}
	return all, nil
}

// profile builds an architecture, exports it and runs the file.
func profile(ctx context.Context, name string, o studentsOptions, threads int) (architecture, error) {
	a := architecture{Name: name}
	p, err := untrained(name, o)
	if err != nil {
		return a, err
	}
	params := 0
	for _, l := range p.Stored {
		if l.Kind == graph.Param {
			params += l.Shape.Size()
		}
	}
	m, err := asExported(p)
	if err != nil {
		return a, err
	}
	shapes, err := trace(m, nil, threads)
	if err != nil {
		return a, err
	}
	macs, _, err := m.MACs(shapes)
	if err != nil {
		return a, err
	}
	file, err := m.Marshal()
	if err != nil {
		return a, err
	}
	bytes := len(file)
	a.Params, a.MACs, a.Bytes = &params, &macs, &bytes
	if o.runs == 0 {
		return a, nil
	}
	ms, err := latency(ctx, file, o.runs, threads)
	a.LatencyMS = &ms
	return a, err
}

// untrained is an architecture's network for inference on one image.
func untrained(name string, o studentsOptions) (*graph.Program, error) {
	arch, err := student.New(name)
	if err != nil {
		return nil, err
	}
	if len(o.overrides) > 0 {
		err = strictyaml.Decode(nil, "", arch, o.overrides) // which validates
	} else {
		err = arch.Validate()
	}
	if err != nil {
		return nil, err
	}
	return graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input("images", graph.Float32, 1, o.size[0], o.size[1], o.size[2])
		g.Output("logits", arch.Build(g, x, o.classes).Logits)
	})
}

// asExported is a network as a run would export it, but for the training.
func asExported(p *graph.Program) (*onnx.Model, error) {
	store := &graph.Store{}
	if err := p.Fill(store, 1); err != nil {
		return nil, err
	}
	m, err := onnx.Lower(p, onnx.Lowering{Store: store, Batch: "batch"})
	if err != nil {
		return nil, err
	}
	_, err = m.FoldBatchNorm()
	return m, err
}

// latency is the median time of runs on one image of zeros, in milliseconds.
func latency(ctx context.Context, file []byte, runs, threads int) (float64, error) {
	s, err := runtime.NewSession(file, runtime.Options{Threads: threads})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	in := map[string]graph.Tensor{}
	for _, io := range s.Inputs() {
		if in[io.Name], err = zeros(io, nil); err != nil {
			return 0, err
		}
	}
	return s.Latency(ctx, in, runs)
}

// writeStudents writes the table, and below it what could not be built.
func writeStudents(w io.Writer, all *architectures) error {
	head := []string{"student", "parameters", "multiply-adds", "file"}
	about := fmt.Sprintf("For images of %d×%d×%d in %d classes", all.Size[0], all.Size[1], all.Size[2], all.Classes)
	if all.Runs > 0 {
		head = append(head, "latency")
		about += fmt.Sprintf("; latency of one image in ONNX Runtime, median of %d runs, %d thread", all.Runs, all.Threads)
		if all.Threads > 1 {
			about += "s"
		}
	}
	rows, without := [][]string{head}, [][]string{}
	for _, a := range all.Students {
		if a.Reason != nil {
			without = append(without, []string{a.Name, *a.Reason})
			continue
		}
		row := []string{a.Name, grouped(int64(*a.Params)), grouped(*a.MACs), grouped(int64(*a.Bytes+500)/1000) + " KB"}
		if a.LatencyMS != nil {
			row = append(row, strconv.FormatFloat(*a.LatencyMS, 'f', 2, 64)+" ms")
		}
		rows = append(rows, row)
	}
	text := about + ".\n\n" + table(rows)
	if len(without) > 0 {
		text += "\nNot with this size and these settings:\n\n" + table(without)
	}
	_, err := io.WriteString(w, text)
	return err
}
