package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"distill/data"
	"distill/internal/hint"
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
model's size and cropped about their centre.

` + lookHelp + `

JSON keys: file, data, n, top1, stderr (of top1), top5, ece (expected calibration error in 15 bins), agreement (share of
images on which both models choose the same class; null without --against), against (null, or file, top1, difference
of top1, stderr of that difference on the same images, kl: mean of KL(other ‖ model) in nats). Shares are 0..1.`,
		Example: `  distill eval models/cifar10_resnet56.onnx --data cifar10:testdata/cifar10 --preset imagenet --limit 200
  distill eval models/cifar10_resnet56.onnx --data cifar10:testdata/cifar10 --split val --limit 64 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --json`,
		Args: wantArgs(1, 1),
		PreRunE: func(c *cobra.Command, _ []string) error {
			return cmp.Or(o.validate(), o.complete(c))
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.model = *g, args[0]
			return runEval(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "", "images and labels: `KIND:PATH`, where KIND is "+strings.Join(data.Kinds(), " or "))
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
	paths := []string{o.model}
	if o.against != "" {
		paths = append(paths, o.against)
	}
	var models []*teacher.Teacher
	for _, path := range paths {
		t, err := o.open(path, o.global)
		if err != nil {
			return err
		}
		defer t.Close()
		models = append(models, t)
	}
	if err := o.contradicts(models...); err != nil {
		return err
	}
	src, err := o.source(models)
	if err != nil {
		return err
	}
	rows, labels, err := forward(ctx, models, &data.Loader{Source: src, Batch: min(o.batch, src.Len())}, stderr)
	if err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	e := evaluate(rows, models[0].Classes(), labels)
	e.File, e.Data = o.model, o.data
	if e.Against != nil {
		e.Against.File = o.against
	}
	if o.json {
		return writeJSON(stdout, e)
	}
	return writeTable(stdout, e.rows())
}

// source opens the images, which must suit every model.
func (o *evalOptions) source(models []*teacher.Teacher) (data.Source, error) {
	opts := data.Options{Source: o.data}
	if strings.HasPrefix(o.data, "folder:") { // the one kind whose images have no size of their own
		_, h, w := models[0].InputShape()
		opts.Size = []int{h, w}
	}
	src, err := data.OpenSplit(opts, o.split)
	if err != nil {
		return nil, err
	}
	c, h, w := src.Shape()
	for _, t := range models {
		if err := t.Check(src.Classes(), c, h, w); err != nil {
			if tc, th, tw := t.InputShape(); tc == c && t.Classes() == len(src.Classes()) && (th != h || tw != w) {
				err = hint.Wrap(err, "add --size %d,%d to stretch the images", th, tw)
			}
			return nil, err
		}
	}
	if o.limit > 0 {
		src = head{src, o.limit}
	}
	return src, nil
}

// head is the first images of a source, n at most.
type head struct {
	data.Source
	n int
}

func (h head) Len() int { return min(h.n, h.Source.Len()) }

// forward returns the logits, [N,K], of each model for all images, and their labels, [N].
func forward(ctx context.Context, models []*teacher.Teacher, l *data.Loader, stderr io.Writer) (rows [][]float32, labels []int64, err error) {
	rows = make([][]float32, len(models))
	bar := newProgress(stderr, l.Source.Len(), "eval")
	defer bar.Exit()
	var b data.Batch
	for step := range l.Steps() {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if err := l.Fill(&b, 0, step); err != nil {
			return nil, nil, err
		}
		for i, t := range models {
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
		{"images", strconv.Itoa(e.N) + " of " + e.Data},
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
