package train

import (
	"maps"
	"math"

	"distill/losses"
	"distill/runtime/graph"
)

// stride is a step under way: the passes of its batches, then the update.
type stride struct {
	run    *Run
	lr     float64
	knobs  map[string]graph.Tensor // inputs that are the step's, not a batch's
	passes int                     // batches so far
	losses []float64               // their means over the step's batches: the sum, then each term
	finite bool                    // the gradients are, as far as anything says so
}

// stride begins the run's next step.
func (run *Run) stride() *stride {
	r, s := run.Recipe, run.State
	w := &stride{run: run, losses: make([]float64, len(s.Sums)), finite: true, knobs: map[string]graph.Tensor{}}
	w.lr = r.Optimizer.LR * r.Schedule.At(s.Step, run.phase.epoch(), run.phase.steps())
	w.knobs[lrKnob] = graph.Scalar(float32(w.lr))
	taken := s.Step
	if s.Scale != nil {
		w.knobs[scaleKnob] = graph.Scalar(float32(s.Scale.Value))
		taken -= s.Scale.Skipped
	}
	for name, v := range r.Optimizer.Method.Knobs(taken) {
		w.knobs[name] = graph.Scalar(v)
	}
	at := losses.Progress{Epoch: s.Step/run.phase.epoch() + 1, Epochs: run.phase.Epochs}
	for _, t := range r.weighted() {
		if scheduled, ok := t.Loss.(losses.Scheduled); ok {
			for name, v := range scheduled.Knobs(at) {
				w.knobs[t.Name+"."+name] = graph.Scalar(v)
			}
		}
	}
	return w
}

// pass runs the program of a batch, all of the step or one of its parts, and where it can leaves threads to a teacher beside it.
func (w *stride) pass(it *item, beside bool) error {
	run := w.run
	in, err := w.inputs(it)
	if err != nil {
		return err
	}
	var out map[string]graph.Tensor
	if beside && run.step.Beside() {
		run.hold(run.Threads.Beside)
		out, err = run.step.RunBeside(in)
	} else {
		run.hold(run.Threads.Student)
		out, err = run.step.Run(in)
	}
	if err != nil {
		return err
	}
	w.look(out)
	for _, h := range run.hosts {
		if err := h.take(run.phase.Step, out); err != nil {
			return err
		}
	}
	// The terms first: they say more than their sum. In losses the sum comes first.
	for i, name := range append(append([]string(nil), run.phase.Terms...), lossOutput) {
		v := float64(out[name].F[0])
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return run.notFinite("loss "+name, run.State.Step+1)
		}
		w.losses[(i+1)%len(w.losses)] += v / float64(run.phase.Batches)
	}
	w.passes++
	return nil
}

// look keeps what a program says of its gradients.
func (w *stride) look(out map[string]graph.Tensor) {
	if t, ok := out[finiteOutput]; ok {
		w.finite = t.F[0] == 1
	}
}

// end updates the parameters, where the passes have not, and the run's state.
func (w *stride) end() error {
	run, s := w.run, w.run.State
	if run.last != nil {
		run.hold(run.Threads.Student)
		out, err := run.last.Run(w.knobs)
		if err != nil {
			return err
		}
		w.look(out)
	}
	for i, v := range w.losses {
		s.Sums[i] += v
	}
	s.Count++
	s.Step++
	if s.Scale == nil {
		return nil
	}
	return run.rescale(w.finite, s.Step)
}

// inputs are those of a pass. Those that the program does not have are left unread.
func (w *stride) inputs(it *item) (map[string]graph.Tensor, error) {
	run, program := w.run, w.run.phase.Step
	batch := run.State.Step*run.phase.Batches + w.passes // from 0, over all epochs
	shape := program.Inputs[0].Shape
	index := make([]int64, len(it.batch.Index))
	for i, n := range it.batch.Index {
		index[i] = int64(n)
	}
	in := map[string]graph.Tensor{
		imagesInput:        graph.Floats(it.input, shape...),
		losses.LabelsInput: graph.Ints(it.batch.Y, len(it.batch.Y)),
		losses.IndexInput:  graph.Ints(index, len(index)),
	}
	if run.phase.NeedsTeacher {
		in[losses.TeacherInput] = graph.Floats(it.teacher, shape[0], len(run.State.Classes))
		for name, t := range it.taps {
			in[tapInput(name)] = t
		}
	}
	for _, l := range program.Inputs {
		if l.Keep > 0 {
			in[l.Name] = l.Draw(run.Recipe.Seed, batch)
		}
	}
	maps.Copy(in, w.knobs)
	for _, h := range run.hosts {
		if err := h.feed(in, batch, index, it.batch.Y); err != nil {
			return nil, err
		}
	}
	return in, nil
}
