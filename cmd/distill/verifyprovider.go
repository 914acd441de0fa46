package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distill/internal/hint"
	"distill/internal/nearest"
	"distill/runtime"
	"distill/runtime/graph"
)

// verifyProviderHelp explains `verify provider`.
const verifyProviderHelp = `verify provider: run every operator (its result and its gradients), and tiny students (inference, whole training steps, a
short training) on a provider and on the CPU by plain ONNX, and compare. A difference is relative to the largest element of
its tensor; the limit is the provider's. Of a CASE, an operator or a student, only those named are run; KEY=VALUE are
options of the provider. ONNX Runtime gives the CPU what a provider has no kernel for: "nodes" is how many ran on the
provider, of all, and "on the CPU" what did not. An operator with such nodes proves nothing of the provider, and its verdict
is "cpu". It fails, with exit status 1, where the provider does not start, a computation fails or is off by more than the
limit, or where a network ran mostly on the CPU.

JSON: a list with the keys kind (operator, inference, step, training), name, worst (the tensor that is off most), difference,
limit, on (nodes on the provider), elsewhere (other nodes), operators (what those are), verdict (pass, cpu, fail) and, where
it fails, reason.`

// providerOptions are the arguments of `verify provider`.
type providerOptions struct {
	global
	provider runtime.Provider
	cases    []string // names; none: all
}

// newProviderOptions reads NAME, then KEY=VALUE and names of cases in any order.
func newProviderOptions(g global, args []string) providerOptions {
	o := providerOptions{global: g, provider: runtime.Provider{Name: args[0], Options: map[string]string{}}}
	for _, arg := range args[1:] {
		if key, value, ok := strings.Cut(arg, "="); ok {
			o.provider.Options[key] = value
		} else {
			o.cases = append(o.cases, arg)
		}
	}
	return o
}

func (o providerOptions) validate() error {
	if err := o.provider.Validate(); err != nil {
		return err
	}
	all, err := computations()
	if err != nil {
		return err
	}
	var known []string
	for _, c := range all {
		known = append(known, c.name)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	for _, name := range o.cases {
		if !slices.Contains(known, name) {
			return hint.Wrap(fmt.Errorf("there is no case %q", name), "the nearest are %s", strings.Join(nearest.Names(name, known, 3), ", "))
		}
	}
	return nil
}

// outcome is what came of a computation on a provider.
type outcome struct {
	Kind       string   `json:"kind"`
	Name       string   `json:"name"`
	Worst      string   `json:"worst"` // the result that is off most
	Difference float64  `json:"difference"`
	Limit      float64  `json:"limit"`
	On         int      `json:"on"`
	Elsewhere  int      `json:"elsewhere"`
	Operators  []string `json:"operators"` // elsewhere
	Verdict    string   `json:"verdict"`
	Reason     string   `json:"reason,omitempty"`
}

const (
	verdictPass = "pass"
	verdictCPU  = "cpu" // right, but in part the CPU's work
	verdictFail = "fail"
)

func runVerifyProvider(ctx context.Context, o providerOptions, stdout io.Writer) error {
	if err := o.init(); err != nil {
		return err
	}
	if err := hush(func() error { return tryProvider(o.provider) }); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	all, err := computations()
	if err != nil {
		return err
	}
	var outcomes []outcome
	for _, c := range all {
		if len(o.cases) > 0 && !slices.Contains(o.cases, c.name) {
			continue
		}
		if err := interrupted(ctx); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		out, err := o.try(c)
		if err != nil {
			return fmt.Errorf("verify: %s %s: %w", c.kind, c.name, err)
		}
		outcomes = append(outcomes, out)
	}
	return writeOutcomes(stdout, o.provider, outcomes, o.json)
}

// try runs a computation on both. What fails on the provider is an outcome; what fails on the CPU is an error.
func (o providerOptions) try(c computation) (outcome, error) {
	out := outcome{Kind: c.kind, Name: c.name, Limit: o.provider.Parity(), Operators: []string{}}
	want, err := c.results(runtime.Options{Threads: o.budget()}, &graph.Target{})
	if err != nil {
		return out, err
	}
	folder, err := os.MkdirTemp("", "distill-verify")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(folder)
	prefix := filepath.Join(folder, "profile")
	got, err := c.results(runtime.Options{Threads: o.budget(), Provider: o.provider, Profile: prefix}, nil)
	if err != nil {
		out.Verdict, out.Reason = verdictFail, err.Error()
		return out, nil
	}
	place, err := runtime.ReadPlacement(prefix, o.provider)
	if err != nil {
		return out, err
	}
	out.On, out.Elsewhere, out.Operators = place.On, place.Elsewhere, append(out.Operators, place.Operators...)
	out.Worst, out.Difference = furthest(got, want)
	out.judge(o.provider)
	return out, nil
}

// judge gives the verdict on what ran.
func (out *outcome) judge(p runtime.Provider) {
	switch {
	case !(out.Difference <= out.Limit):
		out.Verdict, out.Reason = verdictFail, fmt.Sprintf("%s is off by %.1e", out.Worst, out.Difference)
	case out.Kind == kindOperator && out.Elsewhere > 0:
		out.Verdict = verdictCPU
	case out.On <= out.Elsewhere:
		out.Verdict, out.Reason = verdictFail, fmt.Sprintf("only %d of %d nodes ran on %s", out.On, out.On+out.Elsewhere, p)
	default:
		out.Verdict = verdictPass
	}
}

// writeOutcomes writes what came out, the examples of an operator as one line of the worst of each; it is an error if a
// computation failed, or if there is none.
func writeOutcomes(w io.Writer, p runtime.Provider, outcomes []outcome, json bool) error {
	var lines []outcome
	failed, on, elsewhere := 0, 0, 0
	for _, out := range outcomes {
		if out.Verdict == verdictFail {
			failed++
		}
		on, elsewhere = on+out.On, elsewhere+out.Elsewhere
		if last := len(lines) - 1; last >= 0 && out.Kind == kindOperator && lines[last].Kind == out.Kind && lines[last].Name == out.Name {
			lines[last].add(out)
		} else {
			lines = append(lines, out)
		}
	}
	var err error
	if json {
		err = writeJSON(w, outcomes)
	} else {
		rows := [][]string{{"kind", "name", "difference", "limit", "nodes", "on the CPU", "verdict"}}
		for _, l := range lines {
			verdict := l.Verdict
			if l.Reason != "" {
				verdict += ": " + l.Reason
			}
			rows = append(rows, []string{l.Kind, l.Name, fmt.Sprintf("%.1e", l.Difference), fmt.Sprintf("%.0e", l.Limit),
				fmt.Sprintf("%d of %d", l.On, l.On+l.Elsewhere), strings.Join(l.Operators, " "), verdict})
		}
		err = writeTable(w, rows)
		if err == nil {
			_, err = fmt.Fprintf(w, "\n%d computations, %d failed; %d of %d nodes ran on %s\n", len(outcomes), failed, on, on+elsewhere, p)
		}
	}
	switch {
	case err != nil:
		return err
	case len(outcomes) == 0:
		return fmt.Errorf("verify: nothing ran on %s", p)
	case failed > 0:
		return fmt.Errorf("verify: %d of %d computations failed on %s", failed, len(outcomes), p)
	}
	return nil
}

// add makes out of two outcomes the worse.
func (out *outcome) add(other outcome) {
	if other.Difference > out.Difference {
		out.Difference, out.Worst = other.Difference, other.Worst
	}
	out.On, out.Elsewhere = out.On+other.On, out.Elsewhere+other.Elsewhere
	out.Operators = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(out.Operators), other.Operators...))))
	severity := []string{verdictPass, verdictCPU, verdictFail}
	if slices.Index(severity, other.Verdict) > slices.Index(severity, out.Verdict) {
		out.Verdict, out.Reason = other.Verdict, other.Reason
	}
}
