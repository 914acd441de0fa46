// Package verify compares the losses with PyTorch: values and gradients that the scripts of testdata/goldens/losses computed
// in float64, against both engines here.
//
//	results, err := verify.All() // runtime.Init comes first
package verify

import (
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"distill/runtime"
	"distill/runtime/graph"
)

//go:embed goldens
var goldens embed.FS // a file for each family of losses, a case a line

// Goldens are the embedded cases, family by family.
func Goldens() ([]Case, error) {
	files, err := goldens.ReadDir("goldens")
	if err != nil {
		return nil, fmt.Errorf("verify: read the goldens: %w", err)
	}
	var all []Case
	for _, f := range files {
		b, err := goldens.ReadFile("goldens/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("verify: read the goldens: %w", err)
		}
		var cases []Case
		if err := json.Unmarshal(b, &cases); err != nil {
			return nil, fmt.Errorf("verify: read the goldens %s: %w", f.Name(), err)
		}
		all = append(all, cases...)
	}
	return all, nil
}

// Largest differences that pass, of a value or an element of a gradient, relative to max(1, |golden|).
const (
	tapeTolerance        = 1e-9 // float64
	onnxRuntimeTolerance = 5e-6 // float32
)

// Result is what a case came to.
type Result struct {
	Loss        string  `json:"loss"`
	Variant     string  `json:"variant"` // of the loss's settings
	Golden      float64 `json:"golden"`  // the loss by PyTorch
	Tape        float64 `json:"tape"`
	ONNXRuntime float64 `json:"onnxruntime"`
	// Difference is ONNX Runtime's largest of value and gradients, relative to max(1, |golden|).
	Difference float64 `json:"difference"`
	Pass       bool    `json:"pass"`             // on both engines
	Case       string  `json:"case"`             // of the inputs
	Reason     string  `json:"reason,omitempty"` // what does not pass
}

// All runs the embedded cases.
func All() ([]Result, error) {
	cases, err := Goldens()
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(cases))
	for i, c := range cases {
		if results[i], err = Run(c); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// Run builds a case's program and compares what both engines make of it. The error is of a case that cannot be run.
func Run(c Case) (Result, error) {
	r := Result{Loss: c.Loss, Variant: c.Variant, Case: c.Case, Golden: c.Value, Pass: true}
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("verify: loss %s, %s, %s: %w", c.Loss, c.Variant, c.Case, err)
	}
	p, err := c.Program()
	if err != nil {
		return fail(err)
	}
	in, err := c.Inputs(p)
	if err != nil {
		return fail(err)
	}
	tape, err := Tape(p, in)
	if err != nil {
		return fail(err)
	}
	fast, err := ONNXRuntime(p, in)
	if err != nil {
		return fail(err)
	}
	r.Tape, r.ONNXRuntime = tape[valueOutput].F[0], fast[valueOutput].F[0]
	c.compare(&r, "the tape", tape, tapeTolerance)
	r.Difference = c.compare(&r, "ONNX Runtime", fast, onnxRuntimeTolerance)
	return r, nil
}

// compare holds an engine's outputs against the golden and returns the largest difference.
func (c *Case) compare(r *Result, engine string, out map[string]graph.Array, tolerance float64) (largest float64) {
	check := func(name string, got, want []float64) {
		if len(got) != len(want) {
			r.refuse("%s gives %d elements of %s, the golden has %d", engine, len(got), name, len(want))
			return
		}
		for i, w := range want {
			d := math.Abs(got[i]-w) / math.Max(1, math.Abs(w))
			if !(d <= tolerance) {
				r.refuse("%s gives %.12g for %s[%d], the golden is %.12g", engine, got[i], name, i, w)
			}
			if d > largest || math.IsNaN(d) {
				largest = d
			}
		}
	}
	check(valueOutput, out[valueOutput].F, []float64{c.Value})
	for name, want := range c.Gradients {
		check(name, out[gradientPrefix+name].F, want)
	}
	for name, a := range out {
		// What PyTorch found no path to has no gradient here.
		if own := gradientOf(name); own != "" && c.Gradients[own] == nil && slices.ContainsFunc(a.F, func(v float64) bool { return v != 0 }) {
			r.refuse("%s gives a gradient of %s, the golden has none", engine, own)
		}
	}
	return largest
}

// refuse notes the first reason.
func (r *Result) refuse(format string, args ...any) {
	if r.Pass {
		r.Pass, r.Reason = false, fmt.Sprintf(format, args...)
	}
}

// Tape runs a program on all it reads, stored tensors too, in float64.
func Tape(p *graph.Program, in map[string]graph.Array) (map[string]graph.Array, error) {
	tape, err := graph.NewTape(p)
	if err != nil {
		return nil, err
	}
	defer tape.Close()
	out, _, err := tape.Eval(in)
	return out, err
}

// ONNXRuntime is Tape on the machine's own target, in float32.
func ONNXRuntime(p *graph.Program, in map[string]graph.Array) (map[string]graph.Array, error) {
	store := &graph.Store{}
	for _, l := range p.Stored {
		store.Set(l.Name, l.Kind, narrow(in[l.Name]))
	}
	step, err := runtime.Compile(p, store, runtime.ONNXRuntime, runtime.Options{Threads: 1}, nil)
	if err != nil {
		return nil, err
	}
	defer step.Close()
	feed := map[string]graph.Tensor{}
	for _, l := range p.Inputs {
		feed[l.Name] = narrow(in[l.Name])
	}
	got, err := step.Run(feed)
	if err != nil {
		return nil, err
	}
	out := make(map[string]graph.Array, len(got))
	for name, t := range got {
		a := graph.Zeros(t.Shape)
		for i, v := range t.F {
			a.F[i] = float64(v)
		}
		out[name] = a
	}
	return out, nil
}

func narrow(a graph.Array) graph.Tensor {
	if a.I != nil {
		return graph.Ints(a.I, a.Shape...)
	}
	t := graph.NewTensor(graph.Float32, a.Shape...)
	for i, v := range a.F {
		t.F[i] = float32(v)
	}
	return t
}
