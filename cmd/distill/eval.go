package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distill/data"
	"distill/metrics"
	"distill/teacher"
)

type evalOptions struct {
	global
	look
	model   string
	against string // another model, on the same images; "": none
	data    string // KIND:PATH
	split   string // train, val or test; "": what data.OpenSplit takes for it
	batch   int
	limit   int // images at most; 0: all
}

func newEval(g *global) *cobra.Command {
	var o evalOptions
	c := &cobra.Command{
		Use:   "eval MODEL.onnx --data KIND:PATH",
		Short: "Measure a model on labelled images",
		Long: `Measure a model on labelled images: accuracy with its standard error, top-5 accuracy and calibration error; with
--against, also how far it agrees with another model on the same images. Images of a folder are scaled to cover the
model's size and cropped about their centre, or, where its file or --size says so, stretched.

` + lookHelp + `

JSON keys: file, data, split (train, val, test or all), n, top1, stderr (of top1), top5, ece (expected calibration error in
15 bins), agreement (share of images on which both models choose the same class; null without --against), against (null,
or file, top1, difference of top1, stderr of that difference on the same images, kl: mean of KL(other ‖ model) in nats).
Shares are 0..1.`,
		Example: `  distill eval models/cifar10_resnet56.onnx --data cifar10:testdata/cifar10 --preset imagenet --limit 200
  distill eval models/cifar10_resnet56.onnx --data cifar10:testdata/cifar10 --split val --limit 64 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --json`,
		Args: wantArgs(1, 1, "one model"),
		PreRunE: func(c *cobra.Command, _ []string) error {
			return cmp.Or(o.validate(), o.complete(c))
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.model = *g, args[0]
			return runEval(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "", "images and labels: `KIND:PATH`, where KIND is one of "+strings.Join(data.Kinds(), ", "))
	f.StringVar(&o.split, "split", "", "`NAME` of the split: train, val or test; default test, or all images where there are no splits")
	f.StringVar(&o.against, "against", "", "compare with the model `OTHER.onnx`")
	f.IntVar(&o.batch, "batch", 64, "run `N` images at a time")
	f.IntVar(&o.limit, "limit", 0, "take only the first `N` images; 0: all")
	o.register(c)
	if err := c.MarkFlagRequired("data"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

func (o *evalOptions) validate() error {
	switch {
	case o.batch < 1:
		return fmt.Errorf("--batch is %d, want 1 or more", o.batch)
	case o.limit < 0:
		return fmt.Errorf("--limit is %d, want 0 or more", o.limit)
	}
	return nil
}

// evaluation is what eval measures.
type evaluation struct {
	File      string      `json:"file"`
	Data      string      `json:"data"`
	Split     string      `json:"split"` // train, val, test or all
	images    string      // which of the data, for people
	N         int         `json:"n"`
	Top1      float64     `json:"top1"`
	Stderr    float64     `json:"stderr"`
	Top5      float64     `json:"top5"`
	ECE       float64     `json:"ece"`
	Agreement *float64    `json:"agreement"`
	Against   *comparison `json:"against"`
}

// comparison is how a model stands to another one.
type comparison struct {
	File       string  `json:"file"`
	Top1       float64 `json:"top1"`
	Difference float64 `json:"difference"` // the model's top1 less the other's
	Stderr     float64 `json:"stderr"`
	KL         float64 `json:"kl"`
}

func runEval(ctx context.Context, o evalOptions, stdout, stderr io.Writer) error {
	e, err := eval(ctx, o, stderr)
	if err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	if o.json {
		return writeJSON(stdout, e)
	}
	return writeTable(stdout, e.rows())
}

func eval(ctx context.Context, o evalOptions, stderr io.Writer) (evaluation, error) {
	paths := []string{o.model}
	if o.against != "" {
		paths = append(paths, o.against)
	}
	var models []*teacher.Teacher
	for _, path := range paths {
		t, err := o.open(path, o.global)
		if err != nil {
			return evaluation{}, err
		}
		defer t.Close()
		models = append(models, t)
	}
	if err := o.contradicts(models...); err != nil {
		return evaluation{}, err
	}
	loaders, images, err := o.loaders(models)
	if err != nil {
		return evaluation{}, err
	}
	rows, labels, err := forward(ctx, models, loaders, stderr)
	if err != nil {
		return evaluation{}, err
	}
	e := evaluate(rows, models[0].Classes(), labels)
	e.File, e.Data, e.Split, e.images = o.model, o.data, images.Name, o.describe(images)
	if e.Against != nil {
		e.Against.File = o.against
	}
	return e, nil
}

// options say how to open the images for a model: as it learned from them, where they have no size of their own.
func (o *evalOptions) options(t *teacher.Teacher) data.Options {
	opts := data.Options{Source: o.data}
	if strings.HasPrefix(o.data, "folder:") {
		_, h, w := t.InputShape()
		opts.Size, opts.Stretch = []int{h, w}, len(t.Preprocess().Size) > 0
	}
	return opts
}

// loaders open the images as each model is to see them; models that see the same share a loader. The split is what the first
// one loads from.
func (o *evalOptions) loaders(models []*teacher.Teacher) ([]*data.Loader, data.Split, error) {
	var loaders []*data.Loader
	var first data.Split
	var last data.Options
	for i, t := range models {
		opts := o.options(t)
		if i > 0 && slices.Equal(opts.Size, last.Size) && opts.Stretch == last.Stretch {
			loaders = append(loaders, loaders[i-1])
		} else {
			images, err := data.OpenSplit(opts, o.split)
			if err != nil {
				return nil, data.Split{}, err
			}
			n := images.Len()
			if o.limit > 0 {
				n = min(n, o.limit)
			}
			if i == 0 {
				first = images
			}
			loaders = append(loaders, &data.Loader{Source: data.First(images, n), Batch: min(o.batch, n)})
		}
		last = opts
		c, h, w := loaders[i].Source.Shape()
		if err := t.Check(loaders[i].Source.Classes(), c, h, w); err != nil {
			return nil, data.Split{}, err
		}
	}
	return loaders, first, nil
}

// describe says which of the images of a split are taken.
func (o *evalOptions) describe(images data.Split) string {
	text := "all"
	if images.Name != text {
		text = fmt.Sprintf("the %s split", images.Name)
	}
	if o.limit > 0 && o.limit < images.Len() {
		text = "the first of " + text
	}
	return text + " of " + o.data
}

// forward returns the logits, [N,K], of each model for all images, which it has a loader of, and their labels, [N].
func forward(ctx context.Context, models []*teacher.Teacher, loaders []*data.Loader, stderr io.Writer) (rows [][]float32, labels []int64, err error) {
	rows = make([][]float32, len(models))
	bar := newProgress(stderr, loaders[0].Source.Len(), "eval")
	defer bar.Exit()
	var b data.Batch
	for step := range loaders[0].Steps() {
		if err := interrupted(ctx); err != nil {
			return nil, nil, err
		}
		for i, t := range models {
			if i == 0 || loaders[i] != loaders[i-1] {
				if err := loaders[i].Fill(&b, 0, step); err != nil {
					return nil, nil, err
				}
			}
			z, err := logits(t, &b)
			if err != nil {
				return nil, nil, err
			}
			rows[i] = append(rows[i], z...)
		}
		labels = append(labels, b.Y...)
		bar.Add(len(b.Y)) // an error would be the terminal's
	}
	return rows, labels, nil
}

// evaluate measures the first model, and compares it with the second if there is one.
func evaluate(rows [][]float32, k int, labels []int64) evaluation {
	const bins = 15
	z := rows[0]
	e := evaluation{N: len(labels), Top1: metrics.Top1(z, k, labels), Top5: metrics.TopK(z, k, labels, 5), ECE: metrics.ECE(z, k, labels, bins)}
	e.Stderr = metrics.StdErr(e.Top1, e.N)
	if len(rows) > 1 {
		other := rows[1]
		agreement := metrics.Agreement(z, other, k)
		e.Agreement = &agreement
		e.Against = &comparison{Top1: metrics.Top1(other, k, labels), KL: meanKL(other, z, k)}
		e.Against.Difference, e.Against.Stderr = metrics.Paired(metrics.Correct(z, k, labels), metrics.Correct(other, k, labels))
	}
	return e
}

// meanKL is the mean over rows of k logits of KL(softmax(p) ‖ softmax(q)), in nats.
func meanKL(p, q []float32, k int) float64 {
	sum := 0.0
	lp, lq := make([]float64, k), make([]float64, k)
	for i := 0; i < len(p); i += k {
		metrics.LogSoftmax(lp, p[i:i+k])
		metrics.LogSoftmax(lq, q[i:i+k])
		for j := range lp {
			sum += math.Exp(lp[j]) * (lp[j] - lq[j])
		}
	}
	return sum / float64(len(p)/k)
}

// rows are the rows of the table of results.
func (e evaluation) rows() [][]string {
	rows := [][]string{
		{"model", e.File},
		{"images", grouped(int64(e.N)) + ", " + e.images},
		{"top-1", fmt.Sprintf("%s ± %.1f", percent(e.Top1), 100*e.Stderr)},
		{"top-5", percent(e.Top5)},
		{"calibration error", percent(e.ECE)},
	}
	if a := e.Against; a != nil {
		rows = append(rows, [][]string{
			{"against", a.File},
			{"its top-1", percent(a.Top1)},
			{"difference", fmt.Sprintf("%+.1f ± %.1f points, paired", 100*a.Difference, 100*a.Stderr)},
			{"agreement", percent(*e.Agreement)},
			{"KL(other ‖ model)", fmt.Sprintf("%.4f nats", a.KL)},
		}...)
	}
	return rows
}
