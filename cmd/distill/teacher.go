package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"distill/data"
	"distill/internal/hint"
	"distill/teacher"
)

type teacherOptions struct {
	evalOptions          // of each teacher; model and against are not used
	teachers    []string // ONNX files
	student     string   // an ONNX file; "": none
	epsilon     float64  // of the capacity bound
	fisher      int      // gradients taken of each teacher; 0: none
	seed        uint64   // of what is drawn for them
}

func newTeacher(g *global) *cobra.Command {
	var o teacherOptions
	c := &cobra.Command{
		Use:   "teacher eval TEACHER.onnx... --data KIND:PATH",
		Short: "Judge teachers on the same images",
		Long: `Judge teachers on the same images: accuracy with its standard error; calibration (expected calibration error in 15 bins,
negative log-likelihood, Brier score); mean entropy of the predictions; size; latency, the median of one image's on one thread;
on how many images each two choose the same class, and how far their probabilities diverge; and the quality score "3C". With
--student, also what of each teacher has reached the student.

Judge on images that no teacher was trained on: on those it has learned, a teacher looks better and surer than it is, and teachers
agree more. The file does not tell what they were. Of the CIFAR-10 of this repository that is the test split, the
default; train and val are among the 50,000 images that the ResNet there was trained on.

3C is 0.6·(trace of the Fisher information / the largest) + 0.4·(principal components for 95 % of the features' variance / the
largest), the features those of up to 1,000 images. The trace is the mean of ‖∇ log p(class)‖², with respect to all weights and
for classes as likely as the teacher holds them; --fisher draws of image and class estimate it, a forward and a backward pass of
one image each (20 ms for the ResNet-56 on one core). Where a file cannot be differentiated, or with --fisher 0, all teachers
are compared by the trace of their last dense layer alone, or, where one has none that can be read, by that of the logits.

Informations are in nats, and estimated: see docs/judging.md for how, and for their biases.

` + lookHelp + ` The flags are for each file that does not.

JSON keys: data, split, n, teachers (file, sha256, top1, stderr, ece, nll, brier, entropy, temperature, params, bytes, macs,
macs_error, latency_ms, fisher: gradient, gradient_stderr, weights, error, classifier, logits; features: tensor, kind, dimension,
components; quality), fisher (gradient, classifier or logits: what quality compares), draws, feature_images, agreement and kl (a
row a teacher; KL of row ‖ column), student (null, or file, top1, stderr, epsilon, of: a list, with teacher, agreement, kl, information,
capacity_bound, transfer: information, entropy, efficiency, plug_in). What is not known or not finite is null.`,
		Example: `  distill teacher eval models/cifar10_resnet56.onnx --data cifar10:testdata/cifar10 --preset imagenet --limit 50 --fisher 20
  distill teacher eval models/cifar10_resnet56.onnx --data cifar10:testdata/cifar10 --preset imagenet --limit 50 --fisher 0 --student testdata/goldens/student.onnx --json`,
		Args: teacherArgs,
		PreRunE: func(c *cobra.Command, _ []string) error {
			return cmp.Or(o.validate(), o.complete(c))
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.teachers = *g, args[1:]
			return runTeacher(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "", "images and labels: `KIND:PATH`, where KIND is one of "+strings.Join(data.Kinds(), ", "))
	f.StringVar(&o.split, "split", "", "`NAME` of the split: train, val or test; default test, or all images where there are no splits")
	f.StringVar(&o.student, "student", "", "also judge what reached the student `STUDENT.onnx`")
	f.Float64Var(&o.epsilon, "epsilon", 0.1, "`ERROR` of the student's capacity bound, above 0")
	f.IntVar(&o.fisher, "fisher", 200, "take `N` gradients of each teacher for its Fisher information; 0: none, and the last layer's is compared")
	f.Uint64Var(&o.seed, "seed", 1, "`SEED` of the images and classes drawn for the Fisher information")
	f.IntVar(&o.batch, "batch", 64, "run `N` images at a time")
	f.IntVar(&o.limit, "limit", 0, "take only the first `N` images; 0: all")
	o.register(c)
	if err := c.MarkFlagRequired("data"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

// teacherArgs wants the word eval and files.
func teacherArgs(c *cobra.Command, args []string) error {
	if len(args) < 2 || args[0] != "eval" {
		return fmt.Errorf("teacher needs the word eval and one teacher or more: %s", c.UseLine())
	}
	return nil
}

func (o *teacherOptions) validate() error {
	switch {
	case o.fisher < 0 || o.fisher == 1:
		return fmt.Errorf("--fisher is %d, want 0, or 2 or more", o.fisher)
	case !(o.epsilon > 0 && o.epsilon <= 1):
		return fmt.Errorf("--epsilon is %v, want a number above 0 and at most 1", o.epsilon)
	case o.limit == 1:
		return fmt.Errorf("--limit is 1, want 2 or more to compare images")
	}
	return o.evalOptions.validate()
}

func runTeacher(ctx context.Context, o teacherOptions, stdout, stderr io.Writer) error {
	j, err := judge(ctx, o, stderr)
	if err != nil {
		return fmt.Errorf("teacher eval: %w", cmp.Or(interrupted(ctx), err))
	}
	if o.json {
		return writeJSON(stdout, j)
	}
	return j.write(stdout)
}

// judge measures the teachers one after another, all on the same images.
func judge(ctx context.Context, o teacherOptions, stderr io.Writer) (*judgement, error) {
	models, err := o.openAll()
	defer func() {
		for _, t := range models {
			t.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := o.contradicts(models...); err != nil {
		return nil, err
	}
	loaders, images, err := o.loaders(models)
	if err != nil {
		return nil, err
	}
	n := loaders[0].Source.Len()
	if n < 2 {
		return nil, fmt.Errorf("%s has one image, two or more are needed", o.describe(images))
	}
	if images.Name == "train" || images.Name == "val" {
		fmt.Fprintf(stderr, "distill: warning: the %s split may be what teachers were trained on: judge them on images that none has seen\n", images.Name)
	}
	j := &judgement{Data: o.data, Split: images.Name, images: o.describe(images), N: n, Draws: o.fisher, Features: min(n, featureImages)}
	var rows [][]float32
	var labels []int64
	for i := range o.teachers {
		m, err := o.measure(ctx, models[i], loaders[i], stderr)
		if err != nil {
			return nil, err
		}
		j.Teachers, rows, labels = append(j.Teachers, m.judged), append(rows, m.logits), m.labels
	}
	j.compare(rows)
	if o.student != "" {
		last := len(models) - 1
		z, _, err := forward(ctx, models[last:], loaders[last:], stderr)
		if err != nil {
			return nil, err
		}
		j.reach(o, rows, z[0], labels)
	}
	return j, nil
}

// openAll opens the teachers, each once, and the student behind them, on one thread. What it returns is to be closed also
// when it fails.
func (o *teacherOptions) openAll() (models []*teacher.Teacher, err error) {
	one := o.global
	one.threads = 1
	paths := o.teachers
	if o.student != "" {
		paths = append(paths[:len(paths):len(paths)], o.student)
	}
	for i, path := range paths {
		t, err := o.open(path, one)
		if err != nil {
			return models, err
		}
		models = append(models, t)
		for _, other := range models[:min(i, len(o.teachers)-1)] {
			if other.SHA256() == t.SHA256() && i < len(o.teachers) {
				return models, hint.Wrap(fmt.Errorf("%s and %s are the same file", other.Path(), path), "name each teacher once")
			}
		}
	}
	return models, nil
}
