package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distill/internal/hint"
)

type codedError int

func (codedError) Error() string   { return "coded" }
func (e codedError) ExitCode() int { return int(e) }

func TestExitStatusSaysWhatKindOfError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("any"), 1},
		{usageError{errors.New("wrong flag")}, 2},
		{fmt.Errorf("export: %w", codedError(3)), 3},
		{fmt.Errorf("eval: %w", context.Canceled), 130},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: exit status %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReportPutsTheHintOnItsOwnLine(t *testing.T) {
	var b strings.Builder
	report(&b, errors.New("lost"))
	report(&b, hint.Wrap(errors.New("no key"), "look under the mat"))
	want := "distill: error: lost\ndistill: error: no key\ndistill: hint: look under the mat\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestCancelledEvalIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	args := strings.Fields("eval ../../models/cifar10_resnet56.onnx --data cifar10:../../testdata/cifar10 --preset imagenet")
	err := execute(ctx, args, io.Discard, io.Discard)
	if got := exitCode(err); got != exitInterrupted {
		t.Errorf("%v: exit status %d, want %d", err, got, exitInterrupted)
	}
}

func TestEveryVerbHasHelpAndAnExample(t *testing.T) {
	for _, c := range newRoot().Commands() {
		if c.Short == "" || c.Long == "" || c.Example == "" || c.RunE == nil {
			t.Errorf("%s lacks a short or long help text, an example or what it does", c.Name())
		}
	}
}

// Training takes too long for a test; its scripts run smaller examples.
func TestScriptsRunTheExamplesOfHelp(t *testing.T) {
	for _, verb := range []string{"doctor", "inspect", "eval", "predict", "teacher", "verify"} {
		script, err := os.ReadFile(filepath.Join("testdata/script", verb+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := newRoot().Find([]string{verb})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(c.Example) {
			if want := "\nexec " + strings.TrimSpace(line) + "\n"; !strings.Contains(string(script), want) {
				t.Errorf("%s.txtar does not run the example %q", verb, strings.TrimSpace(line))
			}
		}
	}
}
