package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"distill/train"
)

// event is that of a step of a run of two epochs of two steps.
func event(run string, step int) train.Event {
	e := train.Event{
		Run: run, Epoch: step / 2, Epochs: 2, Step: step, Steps: 4, Loss: 1.23456, Terms: []train.Named{{Name: "ce", Value: 1.5}, {Name: "kd", Value: 1}},
		Speed: 453, Wait: 0.034, ETA: 83*time.Second + 400*time.Millisecond,
	}
	if step%2 == 1 {
		e.Row = &train.Row{Epoch: e.Epoch + 1, ValTop1: 0.4531, Best: e.Epoch == 0}
	}
	return e
}

func TestWithoutATerminalEachEpochIsALine(t *testing.T) {
	var b bytes.Buffer
	w := newWatch(&b)
	for step := range 4 {
		w.observe(event("teacher", step))
	}
	w.close()
	const want = `teacher  epoch 1/2  loss 1.235  ce 1.5  kd 1  val 45.3 % (best)  453 img/s  wait 3 %  ETA 1m23s
teacher  epoch 2/2  loss 1.235  ce 1.5  kd 1  val 45.3 %  453 img/s  wait 3 %  ETA 1m23s
`
	if b.String() != want {
		t.Errorf("it shows\n%s\nwant\n%s", &b, want)
	}
}

func TestOnATerminalABarStandsBelowTheLinesAndGoes(t *testing.T) {
	var b bytes.Buffer
	w := &watch{w: &b, live: true}
	for _, run := range []string{"teacher", "labels"} {
		for step := range 4 {
			w.observe(event(run, step))
		}
	}
	w.close()
	lines := screen(b.String())
	if len(lines) != 5 || lines[4] != "" {
		t.Fatalf("the screen has %d lines, want 4 and an empty one:\n%q", len(lines), lines)
	}
	for i, want := range []string{"teacher  epoch 1/2", "teacher  epoch 2/2", "labels   epoch 1/2", "labels   epoch 2/2"} {
		if !strings.HasPrefix(lines[i], want) || !strings.HasSuffix(lines[i], "ETA 1m23s") {
			t.Errorf("line %d is %q", i, lines[i])
		}
	}
	if !strings.Contains(b.String(), "|") {
		t.Error("there never was a bar")
	}
}

// screen is what a terminal shows in the end, of text that has no control codes but to clear a line.
func screen(text string) []string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		shown := ""
		for part := range strings.SplitSeq(strings.ReplaceAll(line, "\033[2K", "\r\033"), "\r") {
			switch {
			case strings.HasPrefix(part, "\033"):
				shown = strings.TrimPrefix(part, "\033")
			case part != "":
				shown = strings.TrimSuffix(part, "\033[0K")
			}
		}
		lines[i] = shown
	}
	return lines
}

func TestLinesAreCutToTheTerminal(t *testing.T) {
	for _, c := range []struct {
		line    string
		columns int
		want    string
	}{
		{"größe", 5, "größe"},
		{"größe", 4, "grö…"},
		{"größe", 1, "…"},
		{"größe", -3, "…"},
	} {
		if got := fit(c.line, c.columns); got != c.want {
			t.Errorf("fit(%q, %d) is %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}
