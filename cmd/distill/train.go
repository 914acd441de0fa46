package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/hint"
	"distill/internal/strictyaml"
	"distill/losses"
	"distill/runtime"
	"distill/student"
	"distill/train"
)

type trainOptions struct {
	global
	recipe    string   // path; "": the defaults
	overrides []string // of the recipe, as key.path=value
	resume    bool
	overwrite bool
	baseline  bool // also train on labels alone
}

func newTrain(g *global) *cobra.Command {
	var o trainOptions
	c := &cobra.Command{
		Use:   "train [KEY=VALUE...]",
		Short: "Train a student against a teacher and export it",
		Long: `Train a student against a teacher, export it to OUTPUT/student.onnx, check that the file computes what was trained, and
measure it on the test images. The run follows a recipe ("distill init" writes one that explains every key); what it
leaves out, or all without one, has its default. Flags and KEY=VALUE, as in optimizer.lr=0.05, go before the recipe,
KEY=VALUE before flags.

accumulate=N takes N batches a step; precision=float16 computes convolutions and matrix products in float16, with a loss
scale that moves (loss_scale): docs/formats.md has these keys.

Several teachers (--teacher A.onnx --teacher B.onnx, or the recipe's teachers) are made one by combine=average, or weights,
confidence or agreement; or combine=linucb, best or random picks one for each round: docs/formats.md says how.

Ctrl-C stops at the next step, with a checkpoint. --resume goes on from the last checkpoint and, on the same CPU with as
many threads, ends in the same weights, bit for bit.

Students (--student, or the recipe's student):
` + studentHelp() + `
Losses (the recipe's losses):
` + lossHelp() + `
JSON keys: test_images; teacher (or teachers, a list of several), student, labels (each with name, file, top1, stderr, best_top1,
params, bytes, latency_ms and agreement with the teacher, the mean over several; of chosen teachers the rounds that each taught); gain and gain_stderr (of student over labels, paired on the test images); parity (images,
max_diff, limit, flipped). What there is none of is absent. Shares are 0..1.`,
		Example: `  distill train --teacher models/cifar10_resnet56.onnx --student resnet8 --data cifar10:testdata/cifar10 --output run
  distill train --recipe recipe.yaml --baseline --overwrite optimizer.lr=0.05 losses.1.temperature=2`,
		Args: cobra.ArbitraryArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if o.resume && o.overwrite {
				return errors.New("--resume goes on with a run and --overwrite replaces it: give one of them")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			flags, err := recipeFlags(c)
			if err != nil {
				return err
			}
			o.global, o.overrides = *g, append(flags, args...)
			return runTrain(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.recipe, "recipe", "", "follow the recipe in `FILE`; default: all defaults")
	f.StringArray("teacher", nil, "the teacher, `MODEL.onnx` (teacher.model); several times: teachers (combine says how); none: learn from labels alone")
	f.String("student", "", "the student's architecture, `NAME`: "+strings.Join(student.Names(), ", ")+", or a size as in resnet8 (student)")
	f.String("data", "", "images and labels, `KIND:PATH` (data.source)")
	f.String("output", "", "the run's folder, `DIR` (output)")
	f.Int("epochs", 0, "train for `N` epochs (epochs)")
	f.Uint64("seed", 0, "`N` that initial weights, order and augmentation follow from (seed)")
	f.String("engine", "", fmt.Sprintf("train in `ENGINE`: %s or %s (engine)", runtime.ONNXRuntime, runtime.Gorgonia))
	f.String("provider", "", "train on `NAME`: "+strings.Join(runtime.Providers(), ", ")+" (provider)")
	f.BoolVar(&o.resume, "resume", false, "go on with the run in the output folder")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace the run in the output folder")
	f.BoolVar(&o.baseline, "baseline", false, "also train the same student on labels alone, and compare")
	return c
}

// studentHelp lists the families of students.
func studentHelp() string {
	var rows [][]string
	for _, f := range student.Table {
		rows = append(rows, []string{"  " + f.Name, f.Doc})
	}
	return table(rows)
}

// lossHelp lists the losses.
func lossHelp() string {
	var rows [][]string
	for _, row := range losses.Table {
		rows = append(rows, []string{"  " + row.Name, row.Doc})
	}
	return table(rows)
}

// recipeKeys are the keys of a recipe that flags stand for.
var recipeKeys = []struct{ flag, key string }{
	{"teacher", "teacher.model"},
	{"student", "student"},
	{"data", "data.source"},
	{"output", "output"},
	{"epochs", "epochs"},
	{"seed", "seed"},
	{"engine", "engine"},
	{"provider", "provider"},
	{"threads", "threads"},
}

// recipeFlags writes the command's flags that were given as overrides of a recipe.
func recipeFlags(c *cobra.Command) ([]string, error) {
	var overrides []string
	for _, k := range recipeKeys {
		f := c.Flags().Lookup(k.flag)
		if f == nil || !f.Changed {
			continue
		}
		key, text := k.key, f.Value.String()
		var err error
		switch f.Value.Type() {
		case "stringArray":
			var files []string
			if files, err = c.Flags().GetStringArray(k.flag); err == nil {
				key, text, err = teacherKey(files)
			}
		case "string":
			text, err = yamlText(text)
		}
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", k.flag, err)
		}
		overrides = append(overrides, key+"="+text)
	}
	return overrides, nil
}

// teacherKey is the key of a recipe for the teachers of the given files, and its value: one is not a list of one.
func teacherKey(files []string) (key, value string, err error) {
	if len(files) == 0 { // one empty name, as pflag reads it back
		files = []string{""}
	}
	models := make([]string, len(files))
	for i, file := range files {
		if models[i], err = yamlText(file); err != nil {
			return "", "", err
		}
	}
	if len(files) == 1 {
		return "teacher.model", models[0], nil
	}
	return "teachers", "[{model: " + strings.Join(models, "}, {model: ") + "}]", nil
}

// yamlText writes a string as a YAML scalar, quoted where it must be. It must be UTF-8.
func yamlText(s string) (string, error) {
	line, err := strictyaml.Encode(struct {
		Text string `yaml:"text"`
	}{s})
	return strings.TrimSpace(strings.TrimPrefix(string(line), "text:")), err
}

func runTrain(ctx context.Context, o trainOptions, stdout, stderr io.Writer) error {
	r, err := train.LoadRecipe(o.recipe, o.overrides)
	if err != nil {
		return err
	}
	if o.baseline && !r.Taught() {
		return hint.Wrap(errors.New("train: --baseline compares with a run without a teacher, and this one has none"), "leave out --baseline, or name a --teacher")
	}
	if err := o.init(); err != nil {
		return err
	}
	watch := newWatch(stderr)
	opts := train.Options{
		Name: "student", Resume: o.resume, Overwrite: o.overwrite, Observe: watch.observe,
		Opened: func(run *train.Run) error {
			err := writeTable(stderr, survey(run))
			warn(stderr, run)
			return err
		},
	}
	report, err := train.Execute(ctx, r, opts, o.baseline)
	watch.close()
	if err != nil {
		return o.stopped(err, r)
	}
	if o.json {
		return writeJSON(stdout, report)
	}
	return writeReport(stdout, report)
}

// stopped adds to the error of a run that was interrupted how to go on with it.
func (o *trainOptions) stopped(err error, r *train.Recipe) error {
	if !errors.Is(err, train.ErrInterrupted) && !errors.Is(err, context.Canceled) {
		return err
	}
	command := "distill train --resume"
	if o.baseline {
		command += " --baseline"
	}
	// The run's own copy of the recipe has the flags and overrides in it.
	recipe := filepath.Join(r.Output, "recipe.yaml")
	return hint.Wrap(interruption{fmt.Errorf("train %s: %w", r.Output, err)}, "resume with: %s --recipe %s", command, shellWord(recipe))
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+-]+$`)

// shellWord quotes a word of a command line where a POSIX shell would take it apart.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
