package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"distill/data"
	"distill/metrics"
	"distill/runtime/graph/onnx"
	"distill/teacher"
)

// judgement is what teacher eval finds.
type judgement struct {
	Data      string      `json:"data"`
	Split     string      `json:"split"` // train, val, test or all
	images    string      // which of the data, for people
	N         int         `json:"n"`
	Teachers  []judged    `json:"teachers"`
	Fisher    string      `json:"fisher"`         // what quality compares: one of the kinds below
	Draws     int         `json:"draws"`          // gradients taken of each teacher
	Features  int         `json:"feature_images"` // the first so many images, whose features are compared
	Agreement [][]float64 `json:"agreement"`      // share of images for which two teachers choose the same class
	KL        [][]float64 `json:"kl"`             // mean of KL(row ‖ column), in nats
	Student   *reached    `json:"student"`
}

// The kinds of Fisher information: with respect to all weights, to the last dense layer, to the logits.
const (
	byGradient   = "gradient"
	byClassifier = "classifier"
	byLogits     = "logits"
)

// judged is what is measured of one teacher.
type judged struct {
	File        string   `json:"file"`
	SHA256      string   `json:"sha256"`
	Top1        float64  `json:"top1"`
	Stderr      float64  `json:"stderr"`
	ECE         float64  `json:"ece"`         // in 15 bins
	NLL         float64  `json:"nll"`         // in nats
	Brier       float64  `json:"brier"`       // 0..2
	Entropy     float64  `json:"entropy"`     // mean of the predictions', in nats
	Temperature float64  `json:"temperature"` // that calibrates it on these images
	Params      int      `json:"params"`
	Bytes       int64    `json:"bytes"`
	MACs        *int64   `json:"macs"` // nil where they cannot be counted, for the reason in MACsError
	MACsError   *string  `json:"macs_error"`
	LatencyMS   float64  `json:"latency_ms"` // on one thread
	Fisher      fisher   `json:"fisher"`
	Features    features `json:"features"`
	Quality     float64  `json:"quality"`
}

// fisher is the trace of a teacher's Fisher information: exact, and by what needs no gradient.
type fisher struct {
	Gradient       *float64 `json:"gradient"` // nil where it was not taken, or cannot be, for the reason in Error
	GradientStderr *float64 `json:"gradient_stderr"`
	Weights        *int     `json:"weights"` // with respect to so many
	Error          *string  `json:"error"`
	Classifier     *float64 `json:"classifier"` // nil where the file has no last dense layer that can be read
	Logits         float64  `json:"logits"`
}

// by is the trace of a kind; nil where it is not known.
func (f fisher) by(kind string) *float64 {
	switch kind {
	case byGradient:
		return f.Gradient
	case byClassifier:
		return f.Classifier
	}
	return &f.Logits
}

type features struct {
	Tensor     string `json:"tensor"`
	Kind       string `json:"kind"` // see teacher.Features
	Dimension  int    `json:"dimension"`
	Components int    `json:"components"` // for 95 % of the variance
}

// featureImages is of how many images features are kept, at most: principal components take time in the square of it.
const featureImages = 1000

// measured is a teacher with what comparisons need.
type measured struct {
	judged
	logits []float32 // [N,K]
	labels []int64   // [N]
}

// measure judges a teacher, t, opened on one thread, on the loader's images.
func (o *teacherOptions) measure(ctx context.Context, t *teacher.Teacher, l *data.Loader, stderr io.Writer) (*measured, error) {
	const latencyRuns = 50
	m := &measured{judged: judged{File: t.Path(), SHA256: t.SHA256(), Params: t.Params()}}
	var err error
	if m.LatencyMS, err = t.Latency(ctx, latencyRuns); err != nil {
		return nil, err
	}
	info, err := os.Stat(t.Path())
	if err != nil {
		return nil, err
	}
	m.Bytes = info.Size()
	if err := m.count(t, o.global); err != nil {
		return nil, err
	}
	opts := teacher.Options{Model: t.Path(), Size: o.size}
	if m.Features.Tensor, m.Features.Kind, err = t.Features(opts, o.budget()); err != nil {
		return nil, err
	}
	opts.Taps = []string{m.Features.Tensor}
	tapped, err := teacher.Open(opts, o.preprocess, o.budget())
	if err != nil {
		return nil, err
	}
	defer tapped.Close()
	return m, m.forward(ctx, o, tapped, l, stderr)
}

// count counts the multiply-adds.
func (j *judged) count(t *teacher.Teacher, g global) error {
	file, err := onnx.Read(t.Path())
	if err != nil {
		return err
	}
	_, h, w := t.InputShape()
	_, macs, err := measure(file, []int{h, w}, g)
	if err != nil {
		reason := err.Error()
		j.MACsError = &reason
		return nil
	}
	j.MACs = &macs
	return nil
}

// forward runs the images through a teacher with its features tapped, and measures its answers.
func (m *measured) forward(ctx context.Context, o *teacherOptions, t *teacher.Teacher, l *data.Loader, stderr io.Writer) error {
	bar := newProgress(stderr, l.Source.Len(), "judge "+t.Path())
	defer bar.Exit()
	m.Features.Dimension = t.TapShape(m.Features.Tensor).Size()
	var b data.Batch
	var h []float32 // features
	for step := range l.Steps() {
		if err := interrupted(ctx); err != nil {
			return err
		}
		if err := l.Fill(&b, 0, step); err != nil {
			return err
		}
		out, err := answers(t, &b)
		if err != nil {
			return err
		}
		m.logits, m.labels = append(m.logits, out.Logits...), append(m.labels, b.Y...)
		if want := min(featureImages-len(h)/m.Features.Dimension, len(b.Y)); want > 0 {
			h = append(h, out.Taps[m.Features.Tensor].F[:want*m.Features.Dimension]...)
		}
		bar.Add(len(b.Y)) // an error would be the terminal's
	}
	if err := m.evaluate(t.Classes(), h); err != nil || o.fisher == 0 {
		return err
	}
	return m.Fisher.measure(ctx, o, t, l.Source, m.logits)
}

// measure takes gradients on the images, whose logits are given, where the teacher can be differentiated.
func (f *fisher) measure(ctx context.Context, o *teacherOptions, t *teacher.Teacher, images data.Source, logits []float32) error {
	gradients, err := t.Fisher(o.budget())
	if err != nil {
		reason := err.Error()
		f.Error = &reason
		return nil
	}
	defer gradients.Close()
	trace, stderr, err := gradients.Trace(ctx, images, logits, o.fisher, o.seed)
	if err != nil {
		return err
	}
	weights := gradients.Weights()
	if f.Gradient, f.GradientStderr, f.Weights = finite(trace), finite(stderr), &weights; f.Gradient == nil {
		reason := fmt.Sprintf("differentiate %s: the trace is %v", t.Path(), trace)
		f.Error = &reason
	}
	return nil
}

// evaluate measures the answers of a teacher of k classes, and its features h.
func (m *measured) evaluate(k int, h []float32) error {
	const bins = 15
	const share = 0.95 // of the variance
	z, labels := m.logits, m.labels
	n := len(labels)
	m.Top1 = metrics.Top1(z, k, labels)
	m.Stderr = metrics.StdErr(m.Top1, n)
	m.ECE, m.NLL, m.Brier = metrics.ECE(z, k, labels, bins), metrics.NLL(z, k, labels), metrics.Brier(z, k, labels)
	m.Entropy, m.Temperature = metrics.MeanEntropy(z, k), metrics.Temperature(z, k, labels)
	d, ok := m.Features.Dimension, false
	if m.Features.Components, ok = metrics.Components(h, d, share); !ok {
		return fmt.Errorf("%s: the features %q are not finite", m.File, m.Features.Tensor)
	}
	m.Fisher.Logits, _ = metrics.MeanStd(metrics.ClassifierFisher(z, k, nil, 0))
	if m.Features.Kind == teacher.Classified {
		trace, _ := metrics.MeanStd(metrics.ClassifierFisher(z[:len(h)/d*k], k, h, d))
		m.Fisher.Classifier = &trace
	}
	return nil
}

// compare sets the teachers, of whose logits there are rows, beside one another.
func (j *judgement) compare(rows [][]float32) {
	k := len(rows[0]) / j.N
	for _, p := range rows {
		var agreement, kl []float64
		for _, q := range rows {
			agreement, kl = append(agreement, metrics.Agreement(p, q, k)), append(kl, meanKL(p, q, k))
		}
		j.Agreement, j.KL = append(j.Agreement, agreement), append(j.KL, kl)
	}
	j.Fisher = j.kind()
	traces, components := make([]float64, len(rows)), make([]float64, len(rows))
	for i, t := range j.Teachers {
		traces[i], components[i] = *t.Fisher.by(j.Fisher), float64(t.Features.Components)
	}
	for i, q := range metrics.Quality(traces, components) {
		j.Teachers[i].Quality = q
	}
}

// kind is the first kind of Fisher information that is known of all teachers.
func (j *judgement) kind() string {
	for _, kind := range []string{byGradient, byClassifier} {
		if !slices.ContainsFunc(j.Teachers, func(t judged) bool { return t.Fisher.by(kind) == nil }) {
			return kind
		}
	}
	return byLogits
}

// reached is what of the teachers has reached a student.
type reached struct {
	File    string  `json:"file"`
	Top1    float64 `json:"top1"`
	Stderr  float64 `json:"stderr"`
	Epsilon float64 `json:"epsilon"`
	Of      []of    `json:"of"`
}

// of is what of a teacher has.
type of struct {
	Teacher       string   `json:"teacher"`
	Agreement     float64  `json:"agreement"`
	KL            float64  `json:"kl"`             // mean of KL(teacher ‖ student), in nats
	Information   float64  `json:"information"`    // I(X;Y) by the teacher's calibrated probabilities, in nats
	CapacityBound *float64 `json:"capacity_bound"` // nil where KL is 0
	Transfer      transfer `json:"transfer"`
}

// transfer is a metrics.Transfer with keys that stay as they are; its efficiency is nil where the teacher always says the same.
type transfer struct {
	Information float64  `json:"information"`
	Entropy     float64  `json:"entropy"`
	Efficiency  *float64 `json:"efficiency"`
	PlugIn      *float64 `json:"plug_in"`
}

// reach measures what of the teachers, of whose logits there are rows, has reached the student of logits s.
func (j *judgement) reach(o teacherOptions, rows [][]float32, s []float32, labels []int64) {
	k := len(s) / j.N
	r := &reached{File: o.student, Top1: metrics.Top1(s, k, labels), Epsilon: o.epsilon}
	r.Stderr = metrics.StdErr(r.Top1, j.N)
	for i, z := range rows {
		t := of{Teacher: j.Teachers[i].File, Agreement: metrics.Agreement(z, s, k), KL: meanKL(z, s, k)}
		t.Information = metrics.PredictiveInformation(z, k, j.Teachers[i].Temperature)
		t.CapacityBound = finite(metrics.CapacityBound(t.Information, t.KL, o.epsilon))
		e := metrics.TransferEfficiency(metrics.Predictions(z, k), metrics.Predictions(s, k), k)
		t.Transfer = transfer{e.Information, e.Entropy, finite(e.Efficiency), finite(e.PlugIn)}
		r.Of = append(r.Of, t)
	}
	j.Student = r
}

// finite is nil for what JSON cannot write.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
