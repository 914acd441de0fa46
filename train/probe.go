package train

import (
	"slices"

	"distill/losses"
	"distill/runtime/graph"
	"distill/student/adapter"
	"distill/teacher"
)

// Kinds of tensors and of networks, by the features they hold.
const (
	Map    = "map"    // [C,H,W]; a convolutional network
	Tokens = "tokens" // [L,D]; a transformer
	Vector = "vector" // [D]; a network without either
)

// Inner is a tensor inside a student or teacher.
type Inner struct {
	Name  string      `json:"name"`
	Shape graph.Shape `json:"shape"` // for one image, without the axis of the batch
	Kind  string      `json:"kind"`  // Map, Tokens or Vector; "" where a tensor is known to be none
	Level int         `json:"level"` // that it is the last of, from 1; 0: it is not the last of a level
}

// Match is a pair of inner tensors that a kind of loss compares, where its recipe names none.
type Match struct {
	Taps    string   `json:"taps"`   // what is compared: see TapsNames
	Losses  []string `json:"losses"` // that can compare it
	Student string   `json:"student"`
	Teacher string   `json:"teacher"`
	Adapter string   `json:"adapter"` // that brings the student's tensor to the teacher's shape; "none" where the shapes agree or none can
	Reason  string   `json:"reason"`  // why
}

// TapsNames are the words for what a loss compares.
var TapsNames = map[losses.Taps]string{
	losses.Last: "last", losses.Stages: "levels", losses.Pooled: "pooled", losses.Tokens: "tokens", losses.Heads: "heads",
}

// Probe is what is inside a student and a teacher, and how it goes together.
type Probe struct {
	Student, Teacher         []Inner // in the order of the network
	StudentKind, TeacherKind string  // of the networks
	Matches                  []Match
	NoMatch                  map[string]string // why there are none, by what a loss compares
}

// NewProbe looks into a student for images of c×h×w in a number of classes, and into an open teacher, by a run on a number of
// threads; o are the options that it was opened with.
func NewProbe(s Student, in [3]int, classes int, t *teacher.Teacher, o teacher.Options, threads int) (*Probe, error) {
	r := NewRecipe()
	r.Student = s
	ours, err := r.studentTaps(in, classes)
	if err != nil {
		return nil, err
	}
	tensors, err := t.Tensors(o, threads)
	if err != nil {
		return nil, err
	}
	c, _ := t.Classifier() // without one there is no vector that it reads
	p := &Probe{NoMatch: map[string]string{}}
	p.Student, p.StudentKind = examined(ours, ours, levels(ours, ofRank(ours, 2)))
	var theirs []inner
	for _, t := range tensors {
		theirs = append(theirs, inner{t.Name, t.Shape})
	}
	known := candidates(tensors)
	flow := stream(tensors, c.Features)
	if known = slices.DeleteFunc(known, func(t inner) bool { return len(t.shape) == 2 }); len(flow) > 0 {
		known = append(known, tokens(theirs, tensors, c.Features)...)
	}
	p.Teacher, p.TeacherKind = examined(theirs, known, levels(known, flow))
	for _, what := range []losses.Taps{losses.Stages, losses.Last, losses.Pooled, losses.Tokens, losses.Heads} {
		p.match(what, ours, tensors, c.Features)
	}
	l := lend(t)
	for _, t := range tensors {
		l.shapes[t.Name] = t.Shape
	}
	for _, row := range losses.Table {
		if term, ok := p.term(row.Name); ok && r.describe(in, classes, l, term) == nil {
			for i := range p.Matches {
				if m := &p.Matches[i]; m.Taps == TapsNames[row.Taps] {
					m.Losses = append(m.Losses, row.Name)
				}
			}
		}
	}
	return p, nil
}

// describe builds a term's loss on the recipe's student, to see whether it can be.
func (r *Recipe) describe(in [3]int, classes int, l lent, t Term) error {
	with := *r
	with.Losses = []Term{t}
	_, err := graph.Build(graph.Training, func(g *graph.Graph) {
		m := with.Student.Arch.Build(g, g.Input(imagesInput, graph.Float32, with.Batch, in[0], in[1], in[2]), classes)
		g.Output(lossOutput, losses.Sum(g, m.Logits, with.terms(g, m, l)))
	})
	return err
}

// examined says what each tensor is, of which some are known to be what their rank says and some are the ends of levels; and
// what the network is.
func examined(all, known, ends []inner) ([]Inner, string) {
	index := func(of []inner, name string) int {
		return slices.IndexFunc(of, func(t inner) bool { return t.name == name })
	}
	kinds := map[int]string{1: Vector, 2: Tokens, 3: Map}
	out := make([]Inner, len(all))
	for i, t := range all {
		out[i] = Inner{Name: t.name, Shape: t.shape, Level: index(ends, t.name) + 1}
		if index(known, t.name) >= 0 {
			out[i].Kind = kinds[len(t.shape)]
		}
	}
	if len(ends) == 0 {
		return out, Vector
	}
	return out, kinds[len(ends[0].shape)]
}

// match adds the pairs that losses of one kind compare.
func (p *Probe) match(what losses.Taps, ours []inner, tensors []teacher.Tensor, features string) {
	taps, err := propose(what, ours, tensors, features)
	if err != nil {
		p.NoMatch[TapsNames[what]] = err.Error()
		return
	}
	for _, tap := range taps {
		m := Match{Taps: TapsNames[what], Student: tap.Student, Teacher: tap.Teacher}
		if what == losses.Heads {
			m.Adapter, m.Reason = "ofa", "a head classifies by each level of the student"
		} else {
			m.Adapter, m.Reason = adapter.Propose(batched(p.Student, tap.Student), batched(p.Teacher, tap.Teacher))
		}
		if m.Adapter == "" {
			m.Adapter = noAdapter
		}
		p.Matches = append(p.Matches, m)
	}
}

// batched is the shape of one of some tensors, for a batch.
func batched(tensors []Inner, name string) graph.Shape {
	i := slices.IndexFunc(tensors, func(t Inner) bool { return t.Name == name })
	return slices.Concat(graph.Shape{2}, tensors[i].Shape)
}

// suited are the feature losses that a probe advises, the first one that can be, by the kinds of student and teacher. Between
// kinds features differ by what an architecture assumes, so that what compares logits of levels (ofa) goes before what compares
// features.
var suited = map[[2]string][]string{
	{Map, Map}:       {"reviewkd", "fitnets"},
	{Tokens, Tokens}: {"vitkd", "hda"},
	{Map, Tokens}:    {"ofa", "attention_hint"},
	{Tokens, Map}:    {"ofa", "attention_hint"},
}

// Suited is the feature loss that is advised for the pair, and its terms of a recipe: the labels, soft labels and it. Where none
// is, the terms are the first two.
func (p *Probe) Suited() (loss string, terms []Term) {
	terms = slices.Clone(NewRecipe().Losses)
	for _, name := range append(suited[[2]string{p.StudentKind, p.TeacherKind}], "pkt") {
		if slices.ContainsFunc(p.Matches, func(m Match) bool { return slices.Contains(m.Losses, name) }) {
			t, _ := p.term(name)
			return name, append(terms, t)
		}
	}
	return "", terms
}

// term is a loss on the pairs that losses of its kind compare; ok is false where there are none.
func (p *Probe) term(name string) (t Term, ok bool) {
	row, _ := losses.Lookup(name)
	t = term(name)
	for _, m := range p.Matches {
		if m.Taps != TapsNames[row.Taps] {
			continue
		}
		tap := Tap{Student: m.Student, Teacher: m.Teacher, Adapter: row.Adapter}
		switch row.Adapter {
		case autoAdapter:
			tap.Adapter = m.Adapter
		case "":
			tap.Adapter = noAdapter
		}
		t.Taps = append(t.Taps, tap)
	}
	return t, len(t.Taps) > 0
}
