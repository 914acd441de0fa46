package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// warmUp are the runs before those that are profiled.
const warmUp = 3

// profile runs each network's step under ONNX Runtime's profiler and prints where the time goes.
func profile(ctx context.Context, o options, networks []network, out io.Writer) error {
	for _, n := range networks {
		if n.arch == nil {
			if err := n.export(ctx, o); err != nil {
				return err
			}
		}
		events, err := n.profile(o)
		if err != nil {
			return err
		}
		by := event.operator
		if o.nodes {
			by = event.node
		}
		p, err := summarize(events, warmUp, by)
		if err != nil {
			return fmt.Errorf("bench: profile %s: %w", n.name, err)
		}
		fmt.Fprintf(out, "%s, batch %d, %d threads\n", n.name, n.batch, o.threads)
		p.print(out)
	}
	return nil
}

// profile are the events of the warm-up and o.steps more runs.
func (n network) profile(o options) ([]event, error) {
	prefix := filepath.Join(o.folder, n.name+".profile")
	opts := alone(o.threads)
	opts.Profile = prefix
	w, err := n.open(n.batch, 1, opts, o.folder)
	if err != nil {
		return nil, err
	}
	for range warmUp + o.steps {
		if err := w.run(); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(prefix + "*")
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("bench: profile %s: ONNX Runtime wrote %d profiles, not one: %w", n.name, len(files), err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	return parseProfile(b)
}

// event is an entry of ONNX Runtime's profile. Times are in microseconds.
type event struct {
	Cat  string  `json:"cat"` // "Session" or "Node"
	Name string  `json:"name"`
	TS   float64 `json:"ts"` // start
	Dur  float64 `json:"dur"`
	Args struct {
		Op      string                       `json:"op_name"`
		Inputs  []map[string]json.RawMessage `json:"input_type_shape"`
		Outputs []map[string]json.RawMessage `json:"output_type_shape"`
	} `json:"args"`
}

func parseProfile(b []byte) ([]event, error) {
	var events []event
	if err := json.Unmarshal(b, &events); err != nil {
		return nil, fmt.Errorf("bench: read profile: %w", err)
	}
	return events, nil
}

const (
	runName      = "model_run"
	kernelSuffix = "_kernel_time"
)

func (e event) operator() string { return e.Args.Op }

// node is the operator, its shapes and its name.
func (e event) node() string {
	return fmt.Sprintf("%s %s → %s  %s", e.Args.Op, shapes(e.Args.Inputs), shapes(e.Args.Outputs), strings.TrimSuffix(e.Name, kernelSuffix))
}

// shapes writes [{"float":[64,3,32,32]},{"float":[16]}] as [64,3,32,32] [16].
func shapes(tensors []map[string]json.RawMessage) string {
	var list []string
	for _, t := range tensors {
		for _, shape := range t {
			list = append(list, string(shape))
		}
	}
	return strings.Join(list, " ")
}

// summary is where the time of an average run went.
type summary struct {
	run   float64 // milliseconds of a run, whole
	lines []line  // the slowest first
}

// line is what some kernels took together in a run.
type line struct {
	what  string
	count float64 // kernels
	ms    float64
}

// summarize adds up the kernels of all runs but the first skip, by what they are called.
func summarize(events []event, skip int, by func(event) string) (summary, error) {
	var runs []event
	for _, e := range events {
		if e.Cat == "Session" && e.Name == runName {
			runs = append(runs, e)
		}
	}
	slices.SortFunc(runs, func(a, b event) int { return cmp.Compare(a.TS, b.TS) })
	if len(runs) <= skip {
		return summary{}, fmt.Errorf("the profile has %d runs, more than %d are needed", len(runs), skip)
	}
	runs = runs[skip:]
	var s summary
	for _, r := range runs {
		s.run += r.Dur / 1e3 / float64(len(runs))
	}
	totals := map[string]*line{}
	for _, e := range events {
		if e.Cat != "Node" || !strings.HasSuffix(e.Name, kernelSuffix) || e.TS < runs[0].TS {
			continue
		}
		what := by(e)
		if totals[what] == nil {
			totals[what] = &line{what: what}
		}
		totals[what].count += 1 / float64(len(runs))
		totals[what].ms += e.Dur / 1e3 / float64(len(runs))
	}
	for _, l := range totals {
		s.lines = append(s.lines, *l)
	}
	slices.SortFunc(s.lines, func(a, b line) int { return cmp.Or(cmp.Compare(b.ms, a.ms), cmp.Compare(a.what, b.what)) })
	return s, nil
}

// print writes a table: kernels, milliseconds a run, share of the run. What no kernel accounts for comes last.
func (s summary) print(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	left := s.run
	for _, l := range s.lines {
		fmt.Fprintf(t, "%.0f\t%.2f ms\t%.1f %%\t  %s\n", l.count, l.ms, 100*l.ms/s.run, l.what)
		left -= l.ms
	}
	fmt.Fprintf(t, "\t%.2f ms\t%.1f %%\t  between kernels\n\t%.2f ms\t\t  a run\n", left, 100*left/s.run, s.run)
	t.Flush()
	fmt.Fprintln(out)
}
