package train

import (
	"fmt"
	"math"

	"distill/internal/hint"
)

// Precisions that a recipe can name.
const (
	float32Precision = "float32"
	float16Precision = "float16"
)

// LossScale is the recipe's section on what the loss is multiplied by in float16, so that small gradients do not vanish there
// (Micikevicius et al. 2018, arXiv:1710.03740): as large as the gradients stay finite, found as PyTorch's GradScaler does. A
// step whose gradients are not finite is skipped: parameters and moments keep their values, and AdamW's corrections do not
// count it; batch norm's running statistics, of the forward pass, move, as they do in PyTorch. Without float16 it is not used.
type LossScale struct {
	Init     float64 `yaml:"init"`     // the first scale, in 1..2¹²⁷; default 65536
	Growth   float64 `yaml:"growth"`   // factor after Interval steps in a row that were taken, > 1; default 2
	Backoff  float64 `yaml:"backoff"`  // factor after a skipped step, between 0 and 1; default 0.5
	Interval int     `yaml:"interval"` // > 0; default 2000
}

// leastScale ends a run: gradients that are not finite even so do not come from the scale. mostScale is a float32.
const (
	leastScale = 1
	mostScale  = 0x1p127
)

// Validate wants settings in range.
func (l LossScale) Validate() error {
	switch {
	case !(l.Init >= leastScale && l.Init <= mostScale):
		return fmt.Errorf("init must be in 1..2^127, not %v", l.Init)
	case !(l.Growth > 1) || math.IsInf(l.Growth, 0):
		return fmt.Errorf("growth must be above 1, not %v", l.Growth)
	case !(l.Backoff > 0 && l.Backoff < 1):
		return fmt.Errorf("backoff must be between 0 and 1, not %v", l.Backoff)
	case l.Interval < 1:
		return fmt.Errorf("interval must be above 0, not %d", l.Interval)
	}
	return nil
}

// Scale is how far a run's loss scale has come. A checkpoint holds it.
type Scale struct {
	Value   float64 `json:"value"`
	Taken   int     `json:"taken"`   // steps in a row since it last changed
	Skipped int     `json:"skipped"` // steps of the phase
	Epoch   int     `json:"epoch"`   // those of them since the epoch began
}

// scales reports whether the recipe's loss is scaled.
func (r *Recipe) scales() bool { return r.Precision == float16Precision }

// next moves the scale after a step that was taken or skipped.
func (s *Scale) next(l LossScale, taken bool) {
	if !taken {
		s.Value, s.Taken = s.Value*l.Backoff, 0
		s.Skipped++
		s.Epoch++
		return
	}
	if s.Taken++; s.Taken == l.Interval {
		s.Taken = 0
		if grown := s.Value * l.Growth; grown <= mostScale {
			s.Value = grown
		}
	}
}

// fits reports whether a checkpoint's scale can be one of the recipe's after so many steps.
func (s *Scale) fits(l LossScale, steps int) bool {
	return s.Value >= leastScale && s.Value <= mostScale && s.Taken >= 0 && s.Taken < l.Interval &&
		s.Epoch >= 0 && s.Epoch <= s.Skipped && s.Skipped <= steps
}

// rescale moves the run's scale after a step, counted from 1. It fails where the scale comes below 1.
func (run *Run) rescale(taken bool, step int) error {
	s := run.State.Scale
	if s.next(run.Recipe.LossScale, taken); s.Value >= leastScale {
		return nil
	}
	return hint.Wrap(fmt.Errorf("train: the gradients are not finite in float16 at step %d, with the loss multiplied by no more than %v",
		step, s.Value/run.Recipe.LossScale.Backoff), "train with precision: float32, or start anew with a lower optimizer.lr, or with clip_norm")
}
