package train

import (
	"fmt"

	"distill/data"
	"distill/internal/hint"
	"distill/losses"
	"distill/runtime/graph"
	"distill/train/optim"
)

// Names of a training program's inputs and outputs, besides those of package losses.
const (
	imagesInput = "images" // float32 [N,C,H,W], preprocessed for the student
	lrKnob      = "lr"

	logitsOutput = "logits" // [N,K]
	lossOutput   = "loss"   // the weighted sum, a scalar
)

// Phase is a part of a run with programs, a source and an end of its own; all phases share one store. Programs are compiled
// only between phases; inside one, what changes from step to step is a knob.
type Phase struct {
	Step   *graph.Program // forward, backward and update
	Eval   *graph.Program // the same network for inference
	Loader *data.Loader   // of the batches it trains on
	Epochs int
	Terms  []string // outputs of Step that are the unweighted losses, in the recipe's order
	// NeedsTeacher and NeedsLabels say which inputs the losses asked for.
	NeedsTeacher, NeedsLabels bool
}

// steps is the phase's length.
func (ph *Phase) steps() int { return ph.Epochs * ph.Loader.Steps() }

// image is the shape of one input image: C, H, W.
type image [3]int

// phases are what the recipe's run consists of, in order.
func (r *Recipe) phases(in image, classes int, train data.Source) ([]*Phase, error) {
	ph, err := r.distillation(in, classes, train)
	if err != nil {
		return nil, err
	}
	return []*Phase{ph}, nil
}

// distillation is the phase that trains a recipe's student.
func (r *Recipe) distillation(in image, classes int, train data.Source) (*Phase, error) {
	ph := &Phase{Epochs: r.Epochs}
	ph.Loader = &data.Loader{Source: train, Batch: r.Batch, Seed: r.Seed, Augment: r.Data.Augment, Shuffle: true, DropLast: true}
	if ph.Loader.Steps() == 0 {
		return nil, hint.Wrap(fmt.Errorf("train: %d training images do not fill a batch of %d", train.Len(), r.Batch), "make batch smaller")
	}
	for _, t := range r.weighted() {
		ph.Terms = append(ph.Terms, t.Name)
	}
	var err error
	if ph.Step, err = r.Training(in, classes); err != nil {
		return nil, err
	}
	for _, l := range ph.Step.Inputs {
		ph.NeedsTeacher = ph.NeedsTeacher || l.Name == losses.TeacherInput
		ph.NeedsLabels = ph.NeedsLabels || l.Name == losses.LabelsInput
	}
	ph.Eval, err = r.inference(in, classes, r.Batch)
	return ph, err
}

// Training describes the step that trains the recipe's student on r.Batch images of shape C, H, W: forward, backward and
// update. Its first input is the images, preprocessed; its outputs are the logits, the loss and the losses that it sums.
func (r *Recipe) Training(in [3]int, classes int) (*graph.Program, error) {
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		x := g.Input(imagesInput, graph.Float32, r.Batch, in[0], in[1], in[2])
		model := r.Student.Arch.Build(g, x, classes)
		g.Output(logitsOutput, model.Logits)
		cost := losses.Sum(g, model.Logits, r.weighted())
		g.Output(lossOutput, cost)
		grads := g.Grad(cost)
		if r.ClipNorm > 0 {
			norm := optim.Norm(grads)
			grads = optim.ClipNorm(grads, norm, r.ClipNorm)
		}
		r.Optimizer.Method.Update(g, grads, g.Knob(lrKnob, float32(r.Optimizer.LR)))
	})
	if err != nil {
		return nil, fmt.Errorf("train: build %s: %w", r.Student.Name, err)
	}
	return p, nil
}

// weighted are the recipe's losses, each under a name of its own: kd, kd2, …
func (r *Recipe) weighted() []losses.Weighted {
	terms := make([]losses.Weighted, len(r.Losses))
	seen := map[string]int{}
	for i, t := range r.Losses {
		terms[i] = losses.Weighted{Name: t.Name, Loss: t.Loss, Weight: t.Weight}
		if seen[t.Name]++; seen[t.Name] > 1 {
			terms[i].Name = fmt.Sprintf("%s%d", t.Name, seen[t.Name])
		}
	}
	return terms
}

// inference is the student for inference at a batch size.
func (r *Recipe) inference(in image, classes, batch int) (*graph.Program, error) {
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input(imagesInput, graph.Float32, batch, in[0], in[1], in[2])
		g.Output(logitsOutput, r.Student.Arch.Build(g, x, classes).Logits)
	})
	if err != nil {
		return nil, fmt.Errorf("train: build %s: %w", r.Student.Name, err)
	}
	return p, nil
}
