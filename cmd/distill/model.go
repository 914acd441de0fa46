package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime"
	"distill/teacher"
)

// look is how images are brought to a model, as flags say it. A model whose file has a card does not need it.
type look struct {
	preset    string
	mean, std []float64
	scale     float64
	size      []int // height and width; nil: the model's own
	provider  string

	given      bool // whether any flag but size is
	preprocess data.Preprocess
}

func (l *look) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.preset, "preset", "", "preprocess as usual for a data set: `NAME` is cifar10, imagenet or mnist")
	f.Float64SliceVar(&l.mean, "mean", nil, "subtract `A,B,C` from scaled pixels, channel by channel")
	f.Float64SliceVar(&l.std, "std", nil, "then divide by `A,B,C`")
	f.Float64Var(&l.scale, "scale", 0, "first multiply pixels 0..255 by `S`; default 1/255")
	for _, list := range []string{"mean", "std"} {
		f.Lookup(list).DefValue = "" // it would be shown as []
	}
	f.IntSliceVar(&l.size, "size", nil, "stretch images to `H,W`")
	f.StringVar(&l.provider, "provider", "", "run models on `NAME`: "+strings.Join(runtime.Providers(), ", "))
}

// lookHelp explains the flags of look.
const lookHelp = `A model exported by distill says in its file how images are to be preprocessed. For any other, say it with --preset, or
with --mean, --std and --scale: (pixel·scale − mean) / std.`

// complete makes the preprocessing out of the command's flags.
func (l *look) complete(c *cobra.Command) error {
	l.given = slices.ContainsFunc([]string{"preset", "mean", "std", "scale"}, c.Flags().Changed)
	l.preprocess = data.DefaultPreprocess()
	if l.preset != "" {
		p, err := data.Preset(l.preset)
		if err != nil {
			return err
		}
		l.preprocess = p
	}
	if c.Flags().Changed("mean") {
		l.preprocess.Mean = l.mean
	}
	if c.Flags().Changed("std") {
		l.preprocess.Std = l.std
	}
	if c.Flags().Changed("scale") {
		l.preprocess.Scale = l.scale
	}
	p := l.preprocess
	p.Size = l.size
	return cmp.Or(runtime.Provider{Name: l.provider}.Validate(), p.Validate(max(len(p.Mean), len(p.Std))))
}

// open readies a model. Its file's card goes before the flags; a file without one needs them, for pixels that are
// scaled otherwise than in training give numbers that look right and are not.
func (l *look) open(path string, g global) (*teacher.Teacher, error) {
	if err := g.init(); err != nil {
		return nil, err
	}
	t, err := teacher.Open(teacher.Options{Model: path, Size: l.size, Provider: l.provider}, l.preprocess, g.budget())
	if err != nil {
		return nil, err
	}
	if _, ok := t.Card(); !ok && !l.given {
		err := fmt.Errorf("%s: the file does not say how its images are preprocessed", path)
		err = hint.Wrap(err, "give --mean and --std, or --preset cifar10, imagenet or mnist; --scale 1 for plain pixels 0..255")
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// contradicts reports flags that none of the models listens to.
func (l *look) contradicts(models ...*teacher.Teacher) error {
	if !l.given {
		return nil
	}
	for _, t := range models {
		card, ok := t.Card()
		own := card.Preprocess
		same := slices.Equal(own.Mean, l.preprocess.Mean) && slices.Equal(own.Std, l.preprocess.Std) && own.Scale == l.preprocess.Scale
		if !ok || same {
			return nil
		}
	}
	card, _ := models[0].Card()
	err := fmt.Errorf("the file %s says how its images are preprocessed, otherwise than the flags: mean %v, std %v, scale %.6g",
		models[0].Path(), card.Preprocess.Mean, card.Preprocess.Std, card.Preprocess.Scale)
	return hint.Wrap(err, "leave out --preset, --mean, --std and --scale")
}

// logits runs a batch, and refuses numbers that mean nothing.
func logits(t *teacher.Teacher, b *data.Batch) ([]float32, error) {
	out, err := answers(t, b)
	return out.Logits, err
}

// answers is logits with what the teacher taps.
func answers(t *teacher.Teacher, b *data.Batch) (teacher.Outputs, error) {
	out, err := t.Forward(b)
	if err != nil {
		return out, err
	}
	for i, v := range out.Logits {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return out, fmt.Errorf("run %s: logit %d of an image is %v", t.Path(), i%t.Classes(), v)
		}
	}
	return out, nil
}
