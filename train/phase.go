package train

import (
	"fmt"
	"slices"

	"distill/data"
	"distill/internal/hint"
	"distill/losses"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
	"distill/train/optim"
)

// Names of a training program's inputs and outputs, besides those of package losses.
const (
	imagesInput = "images" // float32 [N,C,H,W], preprocessed for the student
	lrKnob      = "lr"

	logitsOutput = "logits" // [N,K]
	lossOutput   = "loss"   // the weighted sum, a scalar

	scaleKnob    = "loss_scale"
	finiteOutput = "finite" // 1 if all gradients are, else 0: the step is skipped; only where the loss is scaled
)

// Phase is a part of a run with programs, a source and an end of its own; all phases share one store. Programs are compiled
// only between phases; inside one, what changes from step to step is a knob.
type Phase struct {
	Step         *graph.Program // forward, backward and update of a batch
	Update       *graph.Program // where a step takes several batches: then Step sums up gradients, and this updates; else nil
	Eval         *graph.Program // the same network for inference
	Loader       *data.Loader   // of the batches it trains on
	Batches      int            // a step
	Epochs       int
	Terms        []string // outputs of Step that are the unweighted losses, in the recipe's order
	NeedsTeacher bool     // the losses asked for its logits or its inner tensors
}

// epoch is the number of steps in an epoch; batches that do not fill a step are left out.
func (ph *Phase) epoch() int { return ph.Loader.Steps() / ph.Batches }

// steps is the phase's length.
func (ph *Phase) steps() int { return ph.Epochs * ph.epoch() }

// ahead are the batches from a step on.
func (ph *Phase) ahead(step int) stretch {
	return stretch{epoch: ph.epoch() * ph.Batches, from: step * ph.Batches, to: ph.steps() * ph.Batches}
}

// last is the program that moves the parameters.
func (ph *Phase) last() *graph.Program {
	if ph.Update != nil {
		return ph.Update
	}
	return ph.Step
}

// image is the shape of one input image: C, H, W.
type image [3]int

// phases are what the recipe's run consists of, in order.
func (r *Recipe) phases(in image, classes int, train data.Source, l lent) ([]*Phase, error) {
	ph, err := r.distillation(in, classes, train, l)
	if err != nil {
		return nil, err
	}
	return []*Phase{ph}, nil
}

// distillation is the phase that trains a recipe's student.
func (r *Recipe) distillation(in image, classes int, train data.Source, l lent) (*Phase, error) {
	ph := &Phase{Epochs: r.Epochs, Batches: r.Accumulate}
	ph.Loader = &data.Loader{Source: train, Batch: r.Batch, Seed: r.Seed, Augment: r.Data.Augment, Shuffle: true, DropLast: true}
	switch {
	case ph.Loader.Steps() == 0:
		return nil, hint.Wrap(fmt.Errorf("train: %d training images do not fill a batch of %d", train.Len(), r.Batch), "make batch smaller")
	case ph.epoch() == 0:
		return nil, hint.Wrap(fmt.Errorf("train: %d training images do not fill a step of %d batches of %d", train.Len(), r.Accumulate, r.Batch),
			"make accumulate or batch smaller")
	}
	for _, t := range r.weighted() {
		ph.Terms = append(ph.Terms, t.Name)
	}
	var err error
	if ph.Step, err = r.training(in, classes, l); err != nil {
		return nil, err
	}
	if r.Accumulate > 1 {
		if ph.Update, err = r.update(ph.Step); err != nil {
			return nil, err
		}
	}
	taps := r.tapped()
	for _, l := range ph.Step.Inputs {
		isTap := func(tensor string) bool { return l.Name == tapInput(tensor) }
		ph.NeedsTeacher = ph.NeedsTeacher || l.Name == losses.TeacherInput || slices.ContainsFunc(taps, isTap)
	}
	ph.Eval, err = r.inference(in, classes, r.Batch, l)
	return ph, err
}

// Training describes the step that trains the recipe's student on r.Batch images of shape C, H, W: forward, backward and
// update, or, where a step takes several batches, the sum of gradients. Its first input is the images, preprocessed; its outputs
// are the logits, the loss and the losses that it sums, which must be on logits alone.
func (r *Recipe) Training(in [3]int, classes int) (*graph.Program, error) {
	return r.training(in, classes, lent{})
}

// training is Training with what a teacher lends.
func (r *Recipe) training(in image, classes int, l lent) (*graph.Program, error) {
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		x := g.Input(imagesInput, graph.Float32, r.Batch, in[0], in[1], in[2])
		model := r.Student.Arch.Build(g, x, classes)
		g.Output(logitsOutput, model.Logits)
		terms := r.terms(g, model, l)
		if slices.ContainsFunc(terms, isDeployed) {
			g.Idle(model.Logits) // the student's own classifier is not exported
		}
		cost := losses.Sum(g, model.Logits, terms)
		g.Output(lossOutput, cost)
		if r.scales() {
			cost = op.Mul(cost, g.Knob(scaleKnob, float32(r.LossScale.Init)))
		}
		grads := g.Grad(cost)
		if r.Accumulate > 1 {
			optim.Accumulate(g, grads)
			return
		}
		r.descend(g, grads)
	})
	if err != nil {
		return nil, fmt.Errorf("train: build %s: %w", r.Student.Name, err)
	}
	return p, nil
}

// update describes the end of a step that takes several batches: it moves the parameters by the mean of the gradients that
// step has summed, and makes their sums zeros.
func (r *Recipe) update(step *graph.Program) (*graph.Program, error) {
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		r.descend(g, optim.Accumulated(g, step, r.Accumulate))
	})
	if err != nil {
		return nil, fmt.Errorf("train: build the update of %s: %w", r.Student.Name, err)
	}
	return p, nil
}

// descend describes the update by gradients of the loss, which is scaled where the recipe says so.
func (r *Recipe) descend(g *graph.Graph, grads []graph.Gradient) {
	lr := g.Knob(lrKnob, float32(r.Optimizer.LR))
	if !r.scales() {
		r.Optimizer.Method.Update(g, r.clip(grads), lr, nil)
		return
	}
	grads, finite := optim.Unscale(grads, g.Knob(scaleKnob, float32(r.LossScale.Init)))
	g.Output(finiteOutput, finite)
	r.Optimizer.Method.Update(g, r.clip(grads), lr, finite)
}

// clip limits the norm of all gradients together, where the recipe says so.
func (r *Recipe) clip(grads []graph.Gradient) []graph.Gradient {
	if r.ClipNorm == 0 {
		return grads
	}
	return optim.ClipNorm(grads, optim.Norm(grads), r.ClipNorm)
}

// weighted are the recipe's losses, each under a name of its own: kd, kd2, …
func (r *Recipe) weighted() []losses.Weighted {
	terms := make([]losses.Weighted, len(r.Losses))
	seen := map[string]int{}
	for i, t := range r.Losses {
		terms[i] = losses.Weighted{Name: t.Name, Loss: t.Loss, Weight: t.Weight, Standardize: t.Standardize}
		if seen[t.Name]++; seen[t.Name] > 1 {
			terms[i].Name = fmt.Sprintf("%s%d", t.Name, seen[t.Name])
		}
	}
	return terms
}

// isDeployed reports whether a loss keeps a part of its own at export.
func isDeployed(t losses.Weighted) bool {
	_, ok := t.Loss.(losses.Deployed)
	return ok
}

// deploys reports whether a loss of the recipe does: then a program for inference needs what the teacher lends.
func (r *Recipe) deploys() bool { return slices.ContainsFunc(r.weighted(), isDeployed) }

// inference is the student for inference at a batch size, with what a loss deploys in it.
func (r *Recipe) inference(in image, classes, batch int, l lent) (*graph.Program, error) {
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input(imagesInput, graph.Float32, batch, in[0], in[1], in[2])
		model := r.Student.Arch.Build(g, x, classes)
		logits := model.Logits
		for i, t := range r.terms(g, model, l) {
			if i > 0 {
				graph.Fail("loss "+t.Name, nil, "a network can be deployed with the part of one loss only")
			}
			logits = t.Loss.(losses.Deployed).Deploy(losses.NewInputs(g, model.Logits).For(t))
		}
		g.Output(logitsOutput, logits)
	})
	if err != nil {
		return nil, fmt.Errorf("train: build %s: %w", r.Student.Name, err)
	}
	return p, nil
}
