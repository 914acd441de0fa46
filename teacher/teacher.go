// Package teacher holds frozen ONNX classifiers: what a student learns from.
//
//	t, err := teacher.Open(teacher.Options{Model: "models/cifar10_resnet56.onnx", Taps: []string{"*Relu*"}}, preprocess, 2)
//	defer t.Close()
//	out, err := t.Forward(&batch) // out.Logits [N,K], out.Taps by tensor name
package teacher

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// Teacher is a classifier that never changes. Its methods may be called by one goroutine at a time.
type Teacher struct {
	session *runtime.Session
	form    string // of a session of [runtime.Specialize]; else empty
	model   model

	preprocess data.Preprocess
	batch      int // images in a run: exactly so many where model.batch is set, else at most; 0: any number
	runs       int // that are made at once
	threads    int // of each
	budget     *runtime.Budget
	slots      chan struct{} // holds one for each run that is being made
	beginning  sync.Mutex    // of the batch whose runs are not all begun
	buffers    sync.Pool     // *[]float32: the inputs of runs

	width   int   // logits of an image that the file gives
	picked  []int // of them those that are the teacher's, in order; nil: all
	classes int
	output  string                 // what the file gives: "logits", "softmax" or "log_softmax"
	source  string                 // the tensor that logits are read from
	log     bool                   // whether that holds probabilities
	shapes  map[string]graph.Shape // of taps, for one image
}

// Open reads the file, which it never changes, and readies it to run on a number of threads, 0 meaning all that
// [runtime.CPUs] counts; [runtime.Init] comes first. Taps become outputs of a copy in memory. The preprocessing in force is
// the defaults, replaced by that of the file's card, replaced by the parts that o gives; the size of the defaults counts only
// where the file leaves the size of its images free.
//
// The file must be a classifier with one input, float32 images [N,C,H,W], and an output of one row per image: [N,K], or
// [N,K,1,1]. Of several outputs the first such is taken. The weights must be inside the file.
//
// Logits are what Open looks for, too: it runs a few images of noise to see whether the output holds probabilities or their
// logarithms. If so, and if the operator that makes them is a Softmax or LogSoftmax of the file, logits are read from the
// tensor that goes into it. If not, logarithms serve as logits as they are, for softmax(log p) = p: soft targets at any
// temperature, softmax(log p / T) ∝ p^(1/T), are those of the true logits, which differ from log p by a constant per image.
// Of probabilities the logarithm is taken, not below that of the smallest normal float32, about −87.
func Open(o Options, defaults data.Preprocess, threads int) (*Teacher, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Model == "" {
		return nil, hint.Wrap(errors.New("teacher: open: no model is named"), "give the path of an ONNX file")
	}
	m, err := readModel(o.Model, o.Taps)
	if err != nil {
		return nil, err
	}
	t := &Teacher{model: m}
	if err := t.open(o, defaults, threads); err != nil {
		t.Close()
		return nil, fmt.Errorf("teacher: open %s: %w", o.Model, err)
	}
	return t, nil
}

func (t *Teacher) open(o Options, defaults data.Preprocess, threads int) (err error) {
	if err := t.setPreprocess(o, defaults); err != nil {
		return err
	}
	if err := t.setBatch(o.Batch); err != nil {
		return err
	}
	t.cut(o, threads)
	t.slots, t.budget = make(chan struct{}, t.runs), o.Budget
	opts := runtime.Options{
		Threads:  t.threads,
		Spin:     true,
		Provider: runtime.Provider{Name: o.Provider, Options: o.ProviderOptions},
	}
	if t.session, err = runtime.NewSession(t.model.bytes, opts); err != nil {
		return err
	}
	if err := t.probe(); err != nil {
		return err
	}
	if err := t.specialize(o.Images, opts); err != nil {
		return err
	}
	t.model.bytes = nil
	if n := len(t.model.card.Classes); n != 0 && n != t.classes {
		return fmt.Errorf("its card names %d classes, but it has %d logits", n, t.classes)
	}
	return t.pick(o.Classes)
}

// setPreprocess settles the preprocessing and, where the file leaves it free, the size of the model's images.
func (t *Teacher) setPreprocess(o Options, defaults data.Preprocess) error {
	m := &t.model
	if o.Channels != 0 && o.Channels != m.channels {
		return m.refuse(o.Channels)
	}
	p := defaults
	if m.hasCard {
		p = m.card.Preprocess
	}
	free := m.height < 0 || m.width < 0
	switch {
	case !free && !m.hasCard:
		p.Size = nil
	case free && len(p.Size) == 0:
		p.Size = defaults.Size
	}
	p = o.override(p)
	if err := p.Validate(m.channels); err != nil {
		err = fmt.Errorf("input %q is %v: %w", m.input.Name, format(m.input), err)
		if hint.Of(err) != "" {
			return err
		}
		return hint.Wrap(err, "give the model's own mean, std, scale and size")
	}
	if len(p.Size) == 0 {
		if free {
			return hint.Wrap(errors.New("the file leaves the size of its images free"),
				"give it: --size 224,224, or in a recipe teacher.size=[224,224]")
		}
	} else {
		h, w := p.Size[0], p.Size[1]
		if m.height >= 0 && m.height != h || m.width >= 0 && m.width != w {
			err := fmt.Errorf("its size is given as %d×%d, but input %q is %v", h, w, m.input.Name, format(m.input))
			return hint.Wrap(err, "give the size that the model takes, or none")
		}
		m.height, m.width = h, w
	}
	t.preprocess = p
	return nil
}

// maxInput bounds the elements of the smallest run that a file can ask for: 1 GiB of float32.
const maxInput = 1 << 28

// setBatch settles how many images go into a run.
func (t *Teacher) setBatch(limit int) error {
	m := t.model
	t.batch = limit
	if m.batch > 0 {
		if limit > 0 && limit < m.batch {
			err := fmt.Errorf("batch %d is below the file's fixed batch of %d", limit, m.batch)
			return hint.Wrap(err, "leave teacher.batch out, or export the model with a dynamic batch")
		}
		t.batch = m.batch
	}
	images, size := max(m.batch, probes), 1
	for _, d := range []int{images, m.channels, m.height, m.width} {
		if d > maxInput/size {
			return fmt.Errorf("%d images of %d×%d×%d have over %d elements", images, m.channels, m.height, m.width, maxInput)
		}
		size *= d
	}
	return nil
}

// Path is that of the file.
func (t *Teacher) Path() string { return t.model.path }

// SHA256 is that of the bytes that were read, as 64 hexadecimal digits.
func (t *Teacher) SHA256() string { return t.model.sha256 }

// Params counts the file's floating-point weights, running statistics included.
func (t *Teacher) Params() int { return t.model.params }

// Card is what the file says of itself; ok is false where it says nothing.
func (t *Teacher) Card() (card data.Card, ok bool) { return t.model.card, t.model.hasCard }

// Preprocess is the preprocessing in force.
func (t *Teacher) Preprocess() data.Preprocess { return t.preprocess }

// InputShape is that of an image as the model takes it, after preprocessing.
func (t *Teacher) InputShape() (c, h, w int) { return t.model.channels, t.model.height, t.model.width }

// Classes is K, the number of logits per image, those of a class map where there is one; 2 or more.
func (t *Teacher) Classes() int { return t.classes }

// Output is what the file itself gives: "logits", "softmax" or "log_softmax". [Teacher.Forward] gives logits in any case.
func (t *Teacher) Output() string { return t.output }

// Taps names the tensors that [Teacher.Forward] gives beside the logits: what the globs matched, in their order, each once.
func (t *Teacher) Taps() []string { return slices.Clone(t.model.taps) }

// TapShape is the shape of a tap for one image, without the axis of the batch, as a run gave it; nil for what is no tap.
func (t *Teacher) TapShape(name string) graph.Shape { return t.shapes[name].Clone() }

// Norm is a batch norm's scale γ and shift β, [C] each, as the file has them.
type Norm struct{ Gamma, Beta []float32 }

// TapNorm is that of the batch norm that gives a tap; ok is false where another operator does.
func (t *Teacher) TapNorm(name string) (n Norm, ok bool) {
	n, ok = t.model.norms[name]
	return n, ok
}

// Classifier is the dense layer that gives the logits; the error says why the file has none that can be read.
func (t *Teacher) Classifier() (onnx.Classifier, error) {
	if t.source != t.model.inner {
		return onnx.Classifier{}, fmt.Errorf("teacher: find the classifier of %s: its output is %s, not the logits of a layer", t.Path(), t.output)
	}
	if t.model.notClassifier != nil {
		return t.model.classifier, t.model.notClassifier
	}
	if rows := t.model.classifier.Weight.Shape[0]; rows != t.width {
		return onnx.Classifier{}, fmt.Errorf("teacher: find the classifier of %s: its layer has %d rows for %d logits", t.Path(), rows, t.width)
	}
	return t.pickRows(t.model.classifier), nil
}

// Check reports whether the teacher fits a data set: as many classes, in the same order as far as the file names them, and
// images of c×h×w that it takes. The error says what to change.
func (t *Teacher) Check(classes []string, c, h, w int) error {
	err := t.checkClasses(classes)
	if err == nil {
		err = t.checkImages(c, h, w)
	}
	if err != nil {
		return fmt.Errorf("teacher: check %s: %w", t.Path(), err)
	}
	return nil
}

func (t *Teacher) checkImages(c, h, w int) error {
	m := t.model
	if c != m.channels {
		return m.refuse(c)
	}
	if out := t.preprocess.OutShape([4]int{1, c, h, w}); out[2] != m.height || out[3] != m.width {
		err := fmt.Errorf("the model takes images of %d×%d, these are %d×%d", m.height, m.width, h, w)
		return hint.Wrap(err, "stretch the images: --size %d,%d, or in a recipe teacher.size=[%[1]d,%d]", m.height, m.width)
	}
	return nil
}

// fewest is how many images are worth a run of their own: ResNet-18 at 224×224 took, for two runs at once, a thread each, 1.12 of the
// time of one on both threads with 8 images a run, 1.00 with 16, and 0.97 with 32, where smaller networks took 0.91 to 1.05.
const fewest = 16

// cut settles how many runs are made at once, and on how many threads each: few, where it is known that there are images for
// several, since threads that share a run wait for one another after every operator.
func (t *Teacher) cut(o Options, threads int) {
	if threads < 1 {
		threads = runtime.CPUs()
	}
	t.runs, t.threads = 1, threads
	if provider := (runtime.Provider{Name: o.Provider}); o.Images == 0 || !provider.IsCPU() {
		return
	}
	least := fewest
	if t.batch > 0 && (t.batch < fewest || t.model.batch > 0) {
		least = t.batch
	}
	most := max(1, o.Images/least)
	t.threads = (threads-1)/most + 1
	t.runs = threads / t.threads
	if each := (o.Images-1)/t.runs + 1; t.runs > 1 && (t.batch == 0 || t.batch > each) {
		t.batch = each // no less than a fixed batch: most is of such
	}
}

// specialize replaces the session by one for so many images at a time, if there is one.
func (t *Teacher) specialize(images int, opts runtime.Options) error {
	switch {
	case images == 0:
		return nil
	case t.model.batch > 0:
		images = t.model.batch
	case t.batch > 0:
		images = min(images, t.batch)
	}
	if c, h, w := t.InputShape(); images > maxInput/(c*h*w) {
		return nil
	}
	x, shape := t.noise(images)
	in := t.input(images)
	t.preprocess.Apply(in.F, x, shape)
	var err error
	if t.session, t.form, err = runtime.Specialize(t.model.bytes, t.session, in, opts); t.form != "" {
		t.model.batch, t.batch = images, images
	}
	return err
}

// Specialized names the form in which the teacher runs where [runtime.Specialize] has given it one: its outputs then agree with those
// of the file as it is to rounding. Else it is empty.
func (t *Teacher) Specialized() string { return t.form }

// AtATime is how many images go into a run, at most; 0: all that come.
func (t *Teacher) AtATime() int { return t.batch }

// Threads is how many a run takes.
func (t *Teacher) Threads() int { return t.threads }

// Close frees the session; the teacher cannot run any more. Closing it again does nothing.
func (t *Teacher) Close() error {
	if t.session == nil {
		return nil
	}
	return t.session.Close()
}
