package main

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/runtime"
	"distill/runtime/graph"
)

// The CPU's own layout and fused operators are what a provider is to plain ONNX.
func TestTheCPUIsAProviderThatPasses(t *testing.T) {
	if err := runtime.Init(findLibrary(t)); err != nil {
		t.Fatal(err)
	}
	var names []string // all students, and some operators
	for _, s := range tinyStudents {
		names = append(names, s.name)
	}
	names = append(names, "Conv", "MaxPool", "BatchNormalizationTraining", "LogSoftmax")
	var b strings.Builder
	o := newProviderOptions(global{threads: 1, json: true}, append([]string{"cpu"}, names...))
	if err := runVerifyProvider(context.Background(), o, &b); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	var outcomes []outcome
	if err := json.Unmarshal([]byte(b.String()), &outcomes); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, out := range outcomes {
		kinds[out.Kind]++
		if out.On == 0 || out.Elsewhere != 0 || out.Verdict != verdictPass || out.Limit != (runtime.Provider{}).Parity() {
			t.Errorf("%+v", out)
		}
	}
	for _, kind := range []string{kindOperator, kindInference, kindStep, kindTraining} {
		if kinds[kind] == 0 {
			t.Errorf("nothing of kind %s ran: %v", kind, kinds)
		}
	}
}

// Logits that are all alike would agree on any provider.
func TestTinyStudentsTellImagesApart(t *testing.T) {
	if err := runtime.Init(findLibrary(t)); err != nil {
		t.Fatal(err)
	}
	all, err := computations()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.kind != kindInference {
			continue
		}
		out, err := c.results(runtime.Options{Threads: 1}, &graph.Target{})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		z := out["logits"].F
		if first, last := z[:tinyClasses], z[len(z)-tinyClasses:]; !(math.Abs(float64(first[0]-last[0])) > 1e-4*math.Abs(float64(first[0]))) {
			t.Errorf("%s: logits %v of one image, %v of another", c.name, first, last)
		}
	}
}

func TestVerdictNeedsRightNumbersFromTheProviderItself(t *testing.T) {
	p := runtime.Provider{Name: "webgpu"}
	for _, c := range []struct {
		out     outcome
		verdict string
		reason  string
	}{
		{outcome{Kind: kindOperator, Difference: 1e-4, On: 3}, verdictPass, ""},
		{outcome{Kind: kindOperator, On: 3, Elsewhere: 1}, verdictCPU, ""},
		{outcome{Kind: kindOperator, Difference: 2e-3, Worst: "d0", On: 3, Elsewhere: 1}, verdictFail, "d0 is off by 2.0e-03"},
		{outcome{Kind: kindOperator, Difference: math.NaN(), On: 3}, verdictFail, "NaN"},
		{outcome{Kind: kindStep, On: 30, Elsewhere: 4}, verdictPass, ""},
		{outcome{Kind: kindStep, On: 3, Elsewhere: 40}, verdictFail, "only 3 of 43 nodes ran on webgpu"},
		{outcome{Kind: kindStep}, verdictFail, "only 0 of 0"},
	} {
		c.out.Limit = p.Parity()
		c.out.judge(p)
		if c.out.Verdict != c.verdict || !strings.Contains(c.out.Reason, c.reason) {
			t.Errorf("%+v: want %s, %q", c.out, c.verdict, c.reason)
		}
	}
}

func TestOutcomesOfAnOperatorShareALine(t *testing.T) {
	p := runtime.Provider{Name: "webgpu"}
	outcomes := []outcome{
		{Kind: kindOperator, Name: "Sign", Difference: 1e-7, Limit: 1e-3, On: 2, Elsewhere: 1, Operators: []string{"Sign"}, Verdict: verdictCPU},
		{Kind: kindOperator, Name: "Sign", Difference: 1e-6, Limit: 1e-3, On: 3, Verdict: verdictPass},
		{Kind: kindInference, Name: "cnn", Limit: 1e-3, On: 5, Verdict: verdictPass},
		{Kind: kindStep, Name: "cnn", Difference: 1, Limit: 1e-3, On: 9, Elsewhere: 1, Operators: []string{"OneHot"}, Verdict: verdictFail, Reason: "loss is off by 1.0e+00"},
	}
	var b strings.Builder
	err := writeOutcomes(&b, p, outcomes, false)
	if exitCode(err) != exitFailed || err.Error() != "verify: 1 of 4 computations failed on webgpu" {
		t.Errorf("error %v", err)
	}
	want := `kind       name  difference  limit  nodes    on the CPU  verdict
operator   Sign  1.0e-06     1e-03  5 of 6   Sign        cpu
inference  cnn   0.0e+00     1e-03  5 of 5               pass
step       cnn   1.0e+00     1e-03  9 of 10  OneHot      fail: loss is off by 1.0e+00

4 computations, 1 failed; 19 of 21 nodes ran on webgpu
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if err := writeOutcomes(io.Discard, p, outcomes[:3], true); err != nil {
		t.Errorf("where none failed: %v", err)
	}
	if err := writeOutcomes(io.Discard, p, nil, true); exitCode(err) != exitFailed {
		t.Errorf("nothing ran: error %v", err)
	}
}

func TestFurthestMeasuresByTheLargestElement(t *testing.T) {
	floats := func(v ...float32) graph.Tensor { return graph.Floats(v, len(v)) }
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		got, want  map[string]graph.Tensor
		worst      string
		difference float64
	}{
		"relative":                {map[string]graph.Tensor{"y": floats(3, -8)}, map[string]graph.Tensor{"y": floats(2, -8)}, "y", 0.125},
		"equal":                   {map[string]graph.Tensor{"y": floats(0)}, map[string]graph.Tensor{"y": floats(0)}, "y", 0},
		"zero but for rounding":   {map[string]graph.Tensor{"y": floats(1), "d": floats(5e-7)}, map[string]graph.Tensor{"y": floats(1), "d": floats(0)}, "d", 5e-4},
		"not a number":            {map[string]graph.Tensor{"y": floats(nan)}, map[string]graph.Tensor{"y": floats(1)}, "y", math.Inf(1)},
		"a result that is absent": {nil, map[string]graph.Tensor{"y": floats(1)}, "y", math.Inf(1)},
	} {
		worst, difference := furthest(c.got, c.want)
		if worst != c.worst || !(math.Abs(difference-c.difference) < 1e-7 || difference == c.difference) {
			t.Errorf("%s: %s is off by %v, want %s by %v", name, worst, difference, c.worst, c.difference)
		}
	}
}

func TestProviderArgumentsAreChecked(t *testing.T) {
	for _, c := range []struct{ args, cause, hint string }{
		{"webgpu preferredLayout=NHWC Conv resnet", "", ""},
		{"npu", `provider "npu" is unknown`, "cpu, cuda, webgpu"},
		{"cuda tf32=1", `there is no option "tf32"`, "use_tf32"},
		{"webgpu Convv", `there is no case "Convv"`, "Conv"},
	} {
		err := newProviderOptions(global{}, strings.Fields(c.args)).validate()
		if c.cause == "" && err == nil {
			continue
		}
		if c.cause == "" || err == nil || !strings.Contains(err.Error(), c.cause) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%s: error %v, hint %q", c.args, err, hint.Of(err))
		}
	}
}
