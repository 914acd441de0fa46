package main

import (
	"strings"
	"testing"

	"distill/train"
)

func ptr(v float64) *float64 { return &v }

func TestReportComparesTheThreeNetworks(t *testing.T) {
	r := &train.Report{
		TestImages: 1000,
		Teacher:    &train.Result{Name: "teacher", File: "t.onnx", Top1: 0.926, StdErr: 0.0083, Params: 853018, Bytes: 3436848, LatencyMS: 2.314},
		Student: train.Result{Name: "resnet8", File: "run/student.onnx", Top1: 0.712, StdErr: 0.0143, BestTop1: ptr(0.709), Params: 78042,
			Bytes: 316499, LatencyMS: 0.254, Agreement: ptr(0.731)},
		Labels: &train.Result{Name: "resnet8", File: "run/labels/student.onnx", Top1: 0.681, StdErr: 0.0147, BestTop1: ptr(0.684), Params: 78042,
			Bytes: 316499, LatencyMS: 0.251, Agreement: ptr(0.699)},
		Gain: ptr(0.031), GainStdErr: ptr(0.012),
		Parity: train.Parity{Images: 512, MaxDiff: 6.7e-6, Limit: 1.4e-3},
	}
	const want = `On the 1,000 test images, from the ONNX files:

                         accuracy      best on val  parameters  file      latency  agrees with teacher
teacher                  92.6 ± 0.8 %               853,018     3,437 KB  2.31 ms
resnet8 with teacher     71.2 ± 1.4 %  70.9 %       78,042      316 KB    0.25 ms  73.1 %
resnet8 on labels alone  68.1 ± 1.5 %  68.4 %       78,042      316 KB    0.25 ms  69.9 %

Accuracy is that of the last weights, ± its standard error; latency is one image's, on one thread.
The teacher's gain: +3.1 ± 1.2 points over labels alone, paired on the same images; that is 2.6 standard errors, outside the error: the teacher helps.
Exported and checked: run/student.onnx (max |Δ| 6.7e-06 of a logit on 512 images of val, 1.4e-03 allowed)
`
	var b strings.Builder
	if err := writeReport(&b, r); err != nil || b.String() != want {
		t.Errorf("it says (%v)\n%s\nwant\n%s", err, &b, want)
	}
}

func TestReportListsSeveralTeachers(t *testing.T) {
	r := &train.Report{TestImages: 10, Student: train.Result{Name: "cnn", File: "s.onnx"}, Teachers: []train.Result{
		{Name: "teacher", File: "models/a.onnx", Rounds: 12}, {Name: "teacher", File: "b.onnx"},
	}}
	var b strings.Builder
	if err := writeReport(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"\nteacher a.onnx, 12 rounds  ", "\nteacher b.onnx  ", "\ncnn with teacher  "} {
		if !strings.Contains(b.String(), row) {
			t.Errorf("no %q in\n%s", row, &b)
		}
	}
}

func TestGainIsJudgedByItsError(t *testing.T) {
	for _, c := range []struct {
		gain, stderr float64
		want         string
	}{
		{0.02, 0.01, "2.0 standard errors, outside the error: the teacher helps."},
		{0.0199, 0.01, "2.0 standard errors, within the error: it may be chance."},
		{-0.03, 0.01, "3.0 standard errors, outside the error: the teacher hurts."},
		{-0.01, 0.01, "1.0 standard errors, within the error: it may be chance."},
		{0, 0, "+0.0 ± 0.0 points over labels alone, paired on the same images."},
	} {
		if got := gainText(c.gain, c.stderr); !strings.HasSuffix(got, c.want) {
			t.Errorf("%v ± %v: %q, want it to end %q", c.gain, c.stderr, got, c.want)
		}
	}
}
