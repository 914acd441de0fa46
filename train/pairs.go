package train

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"distill/internal/hint"
	"distill/internal/nearest"
	"distill/losses"
	"distill/runtime/graph"
	"distill/student"
	"distill/student/adapter"
	"distill/teacher"
)

// Words for a tap's adapter besides the names of adapters.
const (
	noAdapter   = "none"
	autoAdapter = "auto" // chosen by the shapes
)

// tapInput names the input of a training program that a teacher's tensor is fed to; losses on the same tensor share it.
func tapInput(tensor string) string { return "teacher." + tensor }

// lent is what a teacher's file gives the losses besides logits. The zero value is no teacher's.
type lent struct {
	shapes       map[string]graph.Shape // of the tapped tensors, for one image
	norms        map[string]*losses.Norm
	classifier   *losses.Classifier
	noClassifier error // why there is none
}

// lend asks an open teacher; nil lends nothing.
func lend(t *teacher.Teacher) lent {
	l := lent{shapes: map[string]graph.Shape{}, norms: map[string]*losses.Norm{}}
	if t == nil {
		return l
	}
	for _, name := range t.Taps() {
		l.shapes[name] = t.TapShape(name)
		if n, ok := t.TapNorm(name); ok {
			l.norms[name] = &losses.Norm{Gamma: widened(n.Gamma), Beta: widened(n.Beta)}
		}
	}
	c, err := t.Classifier()
	if err != nil {
		l.noClassifier = err
		return l
	}
	l.classifier = &losses.Classifier{
		Weight: graph.Array{Shape: c.Weight.Shape, F: widened(c.Weight.F)},
		Bias:   graph.Array{Shape: c.Bias.Shape, F: widened(c.Bias.F)},
	}
	return l
}

func widened(values []float32) []float64 {
	wide := make([]float64, len(values))
	for i, v := range values {
		wide[i] = float64(v)
	}
	return wide
}

// terms are the recipe's losses with what they compare, in a program of the student; one for inference has only those
// that are deployed.
func (r *Recipe) terms(g *graph.Graph, m student.Model, l lent) []losses.Weighted {
	var terms []losses.Weighted
	for i, t := range r.weighted() {
		_, deployed := t.Loss.(losses.Deployed)
		if g.Mode == graph.Inference && !deployed {
			continue
		}
		t.Classifier, t.NoClassifier = l.classifier, l.noClassifier
		for j, tap := range r.Losses[i].Taps {
			t.Pairs = append(t.Pairs, l.pair(g, m, tap, t, j))
		}
		terms = append(terms, t)
	}
	return terms
}

// pair is what a term's tap, the j-th, names.
func (l lent) pair(g *graph.Graph, m student.Model, tap Tap, t losses.Weighted, j int) losses.Pair {
	where := "loss " + t.Name
	k := slices.IndexFunc(m.Taps, func(s student.Tap) bool { return s.Name == tap.Student })
	if k < 0 {
		graph.Fail(where, nil, "the student has no tap %q", tap.Student)
	}
	image, ok := l.shapes[tap.Teacher]
	if !ok {
		graph.Fail(where, nil, "the teacher gives no tensor %q", tap.Teacher)
	}
	p := losses.Pair{Student: m.Taps[k].Node, Norm: l.norms[tap.Teacher]}
	p.Shape = slices.Concat(graph.Shape{graph.ShapeOf(p.Student)[0]}, image)
	if g.Mode == graph.Inference {
		return p // a loss that is deployed has no adapter
	}
	p.Teacher = g.Shared(tapInput(tap.Teacher), graph.Float32, p.Shape...)
	if tap.Adapter == "" || tap.Adapter == noAdapter {
		return p
	}
	if _, deployed := t.Loss.(losses.Deployed); deployed {
		graph.Fail(where, nil, "it is deployed with the student and takes no adapter: set adapter to none")
	}
	a, err := adapter.New(tap.Adapter)
	if err != nil {
		graph.Fail(where, nil, "%v", err)
	}
	p.Student = a.Build(g, fmt.Sprintf("%s.adapter%d", losses.Prefix(t.Name), j+1), p.Student, p.Teacher)
	return p
}

// tapped names the teacher's tensors that the recipe's losses compare, each once.
func (r *Recipe) tapped() []string {
	var names []string
	for _, t := range r.Losses {
		for _, tap := range t.Taps {
			if !slices.Contains(names, tap.Teacher) {
				names = append(names, tap.Teacher)
			}
		}
	}
	return names
}

// inner is a tensor inside a network, by its shape for one image.
type inner struct {
	name  string
	shape graph.Shape
}

// studentTaps are the taps of the recipe's student on images of shape C, H, W.
func (r *Recipe) studentTaps(in image, classes int) ([]inner, error) {
	var taps []inner
	_, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		m := r.Student.Arch.Build(g, g.Input(imagesInput, graph.Float32, 2, in[0], in[1], in[2]), classes)
		g.Output(logitsOutput, m.Logits)
		for _, t := range m.Taps {
			taps = append(taps, inner{t.Name, graph.ShapeOf(t.Node)[1:]})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("train: build %s: %w", r.Student.Name, err)
	}
	return taps, nil
}

// pair settles which inner tensors the losses compare, and with which adapters, in the run's recipe; the teacher then gives
// those tensors.
func (run *Run) pair() error {
	r := run.Recipe
	wants := func(t Term) bool { row, _ := losses.Lookup(t.Name); return len(t.Taps) == 0 && row.Taps != losses.None }
	if !slices.ContainsFunc(r.Losses, func(t Term) bool { return wants(t) || len(t.Taps) > 0 }) {
		return nil
	}
	if run.Teacher == nil {
		return errNoTeacher()
	}
	ours, err := r.studentTaps(run.image(), len(run.Splits.Train.Classes()))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(r.Losses, wants) {
		first := r.AllTeachers()[0]
		theirs, err := run.Teacher.Tensors(first, run.Threads.Teacher)
		if err != nil {
			return err
		}
		c, _ := run.Teacher.Classifier()
		for i, t := range r.Losses {
			if !wants(t) {
				continue
			}
			row, _ := losses.Lookup(t.Name)
			if r.Losses[i].Taps, err = propose(row.Taps, ours, theirs, c.Features); err != nil {
				err = fmt.Errorf("train: loss %s of %s and %s: %w", t.Name, r.Student.Name, first.Model, err)
				return hint.Wrap(err, "name what it is to compare, as taps: [{student: NAME, teacher: TENSOR}]; distill inspect --taps %s lists the tensors", first.Model)
			}
		}
		if err := run.Teacher.Close(); err != nil {
			return err
		}
		if err := run.openTeacher(0); err != nil { // with what was chosen
			return err
		}
	}
	for i, t := range r.Losses {
		for j := range t.Taps {
			if err := run.settle(&r.Losses[i].Taps[j], t.Name, ours); err != nil {
				return fmt.Errorf("train: losses.%d (%s): taps.%d: %w", i, t.Name, j, err)
			}
		}
	}
	return nil
}

// settle checks a tap and chooses its adapter where the recipe leaves that open.
func (run *Run) settle(tap *Tap, loss string, ours []inner) error {
	k := slices.IndexFunc(ours, func(s inner) bool { return s.name == tap.Student })
	if k < 0 {
		names := make([]string, len(ours))
		for i, s := range ours {
			names[i] = s.name
		}
		err := fmt.Errorf("the student %s has no tap %q", run.Recipe.Student.Name, tap.Student)
		if len(names) == 0 {
			return hint.Wrap(err, "it has none at all: choose another architecture, or losses on logits")
		}
		return hint.Wrap(err, "it has %s", strings.Join(nearest.Names(tap.Student, names, len(names)), ", "))
	}
	theirs := run.Teacher.TapShape(tap.Teacher)
	if theirs == nil { // a glob, which matched others
		return hint.Wrap(fmt.Errorf("%s has no tensor %q", run.Teacher.Path(), tap.Teacher), "name one tensor, as distill inspect --taps lists them")
	}
	if tap.Adapter == "" {
		row, _ := losses.Lookup(loss)
		tap.Adapter = row.Adapter
	}
	if tap.Adapter == autoAdapter {
		batch := graph.Shape{run.Recipe.Batch}
		tap.Adapter, _ = adapter.Propose(slices.Concat(batch, ours[k].shape), slices.Concat(batch, theirs))
	}
	if tap.Adapter == "" {
		tap.Adapter = noAdapter
	}
	return nil
}

// errNoTeacher is the error for a loss that needs a teacher in a recipe without one.
func errNoTeacher() error {
	return hint.Wrap(errors.New("train: a loss needs a teacher and the recipe names none"), "set teacher.model, or --teacher")
}
