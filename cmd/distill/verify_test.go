package main

import (
	"io"
	"strings"
	"testing"

	"distill/losses/verify"
)

func TestVerifyFailsWithTheReasonWhereALossIsOff(t *testing.T) {
	results := []verify.Result{
		{Loss: "ce", Variant: "default", Case: "sines", Golden: 2, Tape: 2, ONNXRuntime: 2, Pass: true},
		{Loss: "kd", Variant: "t1", Case: "large", Golden: 1, Tape: 1, ONNXRuntime: 1.5, Difference: 0.5, Reason: "it is off"},
	}
	var b strings.Builder
	err := writeVerified(&b, results, false)
	if exitCode(err) != exitFailed || err.Error() != "verify: 1 of 2 comparisons failed" {
		t.Errorf("error %v", err)
	}
	want := "loss  variant  inputs  golden  tape  onnxruntime  difference  pass\n" +
		"ce    default  sines   2       2     2            0.0e+00     yes\n" +
		"kd    t1       large   1       1     1.5          5.0e-01     no: it is off\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if err := writeVerified(io.Discard, results, true); exitCode(err) != exitFailed {
		t.Errorf("as JSON: error %v", err)
	}
	if err := writeVerified(io.Discard, results[:1], true); err != nil {
		t.Errorf("where all is well: error %v", err)
	}
	if err := writeVerified(io.Discard, nil, false); exitCode(err) != exitFailed {
		t.Errorf("nothing was compared: error %v", err)
	}
}
