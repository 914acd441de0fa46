package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"distill/data"
	"distill/internal/hint"
	"distill/metrics"
	"distill/teacher"
)

type predictOptions struct {
	global
	look
	model   string
	images  []string
	top     int    // classes to name for each image
	classes string // file of class names; "": those of the model's card
}

func newPredict(g *global) *cobra.Command {
	var o predictOptions
	c := &cobra.Command{
		Use:   "predict MODEL.onnx IMAGE...",
		Short: "Classify images",
		Long: `Classify PNG and JPEG images: the most probable classes of each, with their probabilities. Images of another size than
the model's are scaled to cover it and cropped about their centre, or, where its file or --size says so, stretched. An image that cannot be read is reported, and the
others are classified all the same.

` + lookHelp + `

JSON: a list with the keys file, predictions (class, label, probability; most probable first) and, where an image cannot
be read, error. A class without a name has its number as label.`,
		Example: `  distill predict models/cifar10_resnet56.onnx testdata/images/cat.png testdata/images/ship.png --preset imagenet --classes testdata/cifar10/batches.meta.txt`,
		Args:    wantArgs(2, math.MaxInt, "a model and at least one image"),
		PreRunE: func(c *cobra.Command, _ []string) error {
			if o.top < 1 {
				return fmt.Errorf("--top is %d, want 1 or more", o.top)
			}
			return o.complete(c)
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.model, o.images = *g, args[0], args[1:]
			return runPredict(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().IntVar(&o.top, "top", 3, "name the `K` most probable classes")
	c.Flags().StringVar(&o.classes, "classes", "", "`FILE` with the name of one class a line")
	o.register(c)
	return c
}

// prediction is what a model says of one image.
type prediction struct {
	File        string  `json:"file"`
	Predictions []guess `json:"predictions"` // most probable first; empty after an error
	Error       string  `json:"error,omitempty"`
}

type guess struct {
	Class       int     `json:"class"`
	Label       string  `json:"label"`
	Probability float64 `json:"probability"`
}

func runPredict(ctx context.Context, o predictOptions, stdout, stderr io.Writer) error {
	t, err := o.open(o.model, o.global)
	if err != nil {
		return fmt.Errorf("predict: %w", err)
	}
	defer t.Close()
	if err := o.contradicts(t); err != nil {
		return fmt.Errorf("predict: %w", err)
	}
	names, err := o.names(t)
	if err != nil {
		return err
	}
	const batch = 64
	var all []prediction
	unread := 0
	for files := range slices.Chunk(o.images, batch) {
		if err := interrupted(ctx); err != nil {
			return fmt.Errorf("predict: %w", err)
		}
		found, errs, err := predict(t, files, names, o.top)
		if err != nil {
			return fmt.Errorf("predict: %w", err)
		}
		for _, err := range errs {
			report(stderr, err)
		}
		all, unread = append(all, found...), unread+len(errs)
	}
	write := writePredictions
	if o.json {
		write = func(w io.Writer, all []prediction) error { return writeJSON(w, all) }
	}
	if err := write(stdout, all); err != nil {
		return err
	}
	if unread > 0 {
		return fmt.Errorf("predict: %d of %d images could not be read", unread, len(o.images))
	}
	return nil
}

// names are the labels of the model's classes.
func (o *predictOptions) names(t *teacher.Teacher) ([]string, error) {
	k := t.Classes()
	if o.classes == "" {
		card, _ := t.Card()
		if len(card.Classes) == k {
			return card.Classes, nil
		}
		names := make([]string, k)
		for i := range names {
			names[i] = strconv.Itoa(i)
		}
		return names, nil
	}
	text, err := readText(o.classes)
	if err != nil {
		return nil, fmt.Errorf("predict: read class names: %w", err)
	}
	names := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(names) != k {
		err := fmt.Errorf("predict: read class names: %s has %d lines, %s tells %d classes apart", o.classes, len(names), o.model, k)
		return nil, hint.Wrap(err, "the file needs one line for each class, in the model's order")
	}
	return names, nil
}

// readText reads a small file.
func readText(path string) (string, error) {
	const limit = 4 << 20
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(text) > limit {
		err = fmt.Errorf("%s has over %d bytes", path, limit)
	}
	return string(text), err
}

// predict classifies images in one batch. It returns a prediction for each file, and the errors of those that cannot be read.
func predict(t *teacher.Teacher, files, names []string, top int) (found []prediction, errs []error, err error) {
	c, h, w := t.InputShape()
	read := data.ReadImage
	if len(t.Preprocess().Size) > 0 { // then the model learned from stretched images
		read = data.ReadStretched
	}
	b := data.Batch{Shape: [4]int{0, c, h, w}}
	for _, file := range files {
		p := prediction{File: file, Predictions: []guess{}}
		pixels, err := read(file, c, h, w)
		if err != nil {
			p.Error = err.Error()
			errs = append(errs, err)
		}
		found = append(found, p)
		b.X = append(b.X, pixels...)
	}
	if b.Shape[0] = len(files) - len(errs); b.Shape[0] == 0 {
		return found, errs, nil
	}
	z, err := logits(t, &b)
	if err != nil {
		return nil, nil, err
	}
	for i := range found {
		if found[i].Error == "" {
			found[i].Predictions = best(z[:len(names)], names, top)
			z = z[len(names):]
		}
	}
	return found, errs, nil
}

// best are the most probable classes of one image, at most top, most probable first.
func best(logits []float32, names []string, top int) []guess {
	guesses := make([]guess, len(names))
	for i, p := range metrics.Softmax(make([]float64, len(names)), logits) {
		guesses[i] = guess{i, names[i], p}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int { return cmp.Compare(b.Probability, a.Probability) })
	return guesses[:min(top, len(guesses))]
}

func writePredictions(w io.Writer, all []prediction) error {
	var rows [][]string
	for _, p := range all {
		if p.Error != "" {
			continue
		}
		row := []string{p.File}
		for _, g := range p.Predictions {
			row = append(row, g.Label, percent(g.Probability))
		}
		rows = append(rows, row)
	}
	return writeTable(w, rows)
}
