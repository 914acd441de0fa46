package train

import (
	"fmt"
	"slices"

	"distill/losses"
	"distill/runtime/graph/onnx"
)

// Warnings are what is known against the choices of an open run, a line each. None is an error: a run may be there to see for
// oneself.
func (run *Run) Warnings() []string {
	var all []string
	for _, w := range warnings {
		for _, place := range w.when(run) {
			all = append(all, fmt.Sprintf("%s: %s (%s)", place, w.what, w.source))
		}
	}
	return all
}

// warnings are choices that are known to hurt. when lists the places of a recipe where one is made.
var warnings = []struct {
	when   func(*Run) []string
	what   string
	source string
}{
	{acrossKinds, "features of a convolutional network and of a transformer hardly agree; compare them by the loss ofa, or with an adapter that " +
		"makes the one of the other: attention, map or tokens", "Hao et al. 2023, arXiv:2310.19444"},
	{hotStandard, "standardised logits have deviation 1, and a temperature above 4 makes them all but equal; published are 2 to 4, with a weight of 9 at 2",
		"Sun et al. 2024, arXiv:2403.01427"},
	{featuresAlone, "nothing trains the student's last layer, for no loss on logits has a weight; add ce or kd", "Romero et al. 2015, arXiv:1412.6550, section 2.3"},
	{rectified, "the adapter convreg ends in a ReLU, and the teacher's tensor is not one's result; tap what is, or take the adapter conv",
		"Heo et al. 2019, arXiv:1904.01866, figure 2"},
}

// place names a recipe's term.
func (r *Recipe) place(i int) string { return fmt.Sprintf("losses.%d (%s)", i, r.Losses[i].Name) }

// places are the terms of which it is so.
func (r *Recipe) places(so func(Term) bool) []string {
	var all []string
	for i, t := range r.Losses {
		if so(t) {
			all = append(all, r.place(i))
		}
	}
	return all
}

// acrossKinds are terms that compare a map and tokens without an adapter for that.
func acrossKinds(run *Run) []string {
	r := run.Recipe
	if run.Teacher == nil || len(r.tapped()) == 0 {
		return nil
	}
	ours, err := r.studentTaps(run.image(), len(run.State.Classes))
	if err != nil {
		return nil // it was built before
	}
	crossing := []string{"attention", "map", "ofa", "tokens"}
	return r.places(func(t Term) bool {
		return slices.ContainsFunc(t.Taps, func(tap Tap) bool {
			i := slices.IndexFunc(ours, func(s inner) bool { return s.name == tap.Student })
			s, theirs := len(ours[i].shape), len(run.Teacher.TapShape(tap.Teacher))
			return min(s, theirs) > 1 && s != theirs && !slices.Contains(crossing, tap.Adapter)
		})
	})
}

// hotStandard are terms of standardised logits at a temperature above those published.
func hotStandard(run *Run) []string {
	return run.Recipe.places(func(t Term) bool {
		kd, ok := t.Loss.(*losses.KD)
		return ok && t.Standardize && kd.Temperature > 4
	})
}

// featuresAlone are losses on logits that all have no weight. Without any, a layer that nothing trains is an error, and some
// losses on features train it.
func featuresAlone(run *Run) []string {
	onLogits := func(t Term) bool {
		row, _ := losses.Lookup(t.Name)
		return row.Taps == losses.None || row.Taps == losses.Heads
	}
	weighs := func(t Term) bool {
		_, deployed := t.Loss.(losses.Deployed) // its part is what classifies
		return deployed || onLogits(t) && t.Weight != 0
	}
	if slices.ContainsFunc(run.Recipe.Losses, weighs) {
		return nil
	}
	return run.Recipe.places(onLogits)
}

// rectified are terms with the adapter convreg for a tensor that a layer or a sum gives.
func rectified(run *Run) []string {
	var signed []string
	uses := func(tap Tap) bool { return tap.Adapter == "convreg" }
	if any := run.Recipe.places(func(t Term) bool { return slices.ContainsFunc(t.Taps, uses) }); len(any) == 0 {
		return nil
	}
	file, err := onnx.Read(run.Teacher.Path())
	if err != nil {
		return nil // it was read before
	}
	for _, t := range file.Taps() {
		if slices.Contains([]string{"Add", "BatchNormalization", "Conv", "LayerNormalization"}, t.Op) {
			signed = append(signed, t.Tensor)
		}
	}
	return run.Recipe.places(func(t Term) bool {
		return slices.ContainsFunc(t.Taps, func(tap Tap) bool { return uses(tap) && slices.Contains(signed, tap.Teacher) })
	})
}
