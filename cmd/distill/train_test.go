package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"distill/runtime"
	"distill/train"
)

// tiny are overrides that make a run one of seconds.
var tiny = []string{
	"epochs=1", "batch=8", "student.width=2",
	"data.train=data_batch_1.bin.gz[0:16]", "data.val=val.bin.gz[0:8]", "data.test=test_batch.bin.gz[0:8]",
}

// TestExamplesRunOneAfterTheOther runs the examples of the help texts in one folder: as they are, only those of train are
// cut short.
func TestExamplesRunOneAfterTheOther(t *testing.T) {
	t.Setenv(runtime.LibraryEnv, findLibrary(t))
	folder := t.TempDir()
	if err := linkRepository(folder); err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder)
	// In this order each finds what it needs: a recipe, a run.
	for _, verb := range []func(*global) *cobra.Command{newInit, newTrain, newExport} {
		for line := range strings.Lines(verb(&global{}).Example) {
			args := strings.Fields(line)[1:]
			if args[0] == "train" {
				args = append(args, tiny...)
			}
			var stdout, stderr bytes.Buffer
			if code := run(args, &stdout, &stderr); code != 0 || stdout.Len() == 0 {
				t.Errorf("%s: exit status %d, %d bytes of output\n%s", strings.TrimSpace(line), code, stdout.Len(), &stderr)
			}
		}
	}
}

func TestFlagsBecomeOverridesThatYAMLReads(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, nil},
		{[]string{"--output", "runs/a"}, []string{"output=runs/a"}},
		{[]string{"--output", "my runs: #1"}, []string{`output="my runs: #1"`}},
		{[]string{"--output", "123"}, []string{`output="123"`}},
		{[]string{"--teacher", ""}, []string{`teacher.model=""`}},
		{[]string{"--teacher", "a.onnx"}, []string{"teacher.model=a.onnx"}},
		{[]string{"--teacher", "a, b.onnx", "--teacher", "c.onnx"}, []string{`teachers=[{model: "a, b.onnx"}, {model: c.onnx}]`}},
		{[]string{"--data", "folder:[x] {y}"}, []string{`data.source="folder:[x] {y}"`}},
		{[]string{"--seed", "7", "--student", "mlp", "--epochs", "3"}, []string{"student=mlp", "epochs=3", "seed=7"}},
	} {
		verb := newTrain(&global{})
		if err := verb.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		got, err := recipeFlags(verb)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q became %q (%v), want %q", c.args, got, err, c.want)
		}
		if _, err := train.ParseRecipe([]byte("data: {source: x}"), "", got); err != nil {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

func TestPathThatIsNotUTF8IsRefused(t *testing.T) {
	verb := newTrain(&global{})
	if err := verb.ParseFlags([]string{"--output", "a\xff"}); err != nil {
		t.Fatal(err)
	}
	if _, err := recipeFlags(verb); err == nil || !strings.Contains(err.Error(), "--output: ") {
		t.Errorf("error is %v", err)
	}
}

// TestCtrlCStopsARunThatItsHintResumes stops a process and runs the command line that it prints.
func TestCtrlCStopsARunThatItsHintResumes(t *testing.T) {
	t.Setenv(runtime.LibraryEnv, findLibrary(t))
	folder := t.TempDir()
	if err := linkRepository(folder); err != nil {
		t.Fatal(err)
	}
	distill := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		c := exec.Command("distill", args...)
		c.Dir = folder
		var stderr bytes.Buffer
		c.Stderr = &stderr
		return c, &stderr
	}
	args := slices.Concat([]string{"train", "--data", "cifar10:testdata/cifar10", "--output", "a run"}, tiny, []string{"epochs=60", "checkpoint.every=1"})
	c, stderr := distill(args...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	metrics := filepath.Join(folder, "a run", "metrics.csv") // written when an epoch is over and saved
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(metrics); err == nil {
			break
		}
		if time.Now().After(deadline) {
			c.Process.Kill()
			t.Fatalf("no epoch was over after a minute\n%s", stderr)
		}
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := c.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != exitInterrupted {
		t.Fatalf("it ended with %v, want exit status %d\n%s", err, exitInterrupted, stderr)
	}
	const want = "distill: error: train a run: interrupted\ndistill: hint: resume with: distill train --resume --recipe 'a run/recipe.yaml'\n"
	if !strings.HasSuffix(stderr.String(), want) {
		t.Fatalf("standard error ends\n%s\nwant\n%s", stderr, want)
	}
	c, stderr = distill("train", "--resume", "--recipe", "a run/recipe.yaml")
	if err := c.Run(); err != nil {
		t.Fatalf("resume: %v\n%s", err, stderr)
	}
	if text := stderr.String(); strings.Contains(text, "epoch 1/60") || !strings.Contains(text, "epoch 60/60") {
		t.Errorf("the resumed run began anew, or did not end:\n%s", text)
	}
}

func TestShellWordsSurviveAShell(t *testing.T) {
	for _, word := range []string{"run/recipe.yaml", "a run", "it's", `a"b\c`, "$HOME", "*", "größe"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellWord(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q came back as %q (%v)", word, out, err)
		}
	}
}
