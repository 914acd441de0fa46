package schedule

import (
	"fmt"
	"math"
)

// Cosine falls along half a cosine over the whole run, without restarts (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5):
//
//	η(t) = min + (1 − min) · ½(1 + cos(π·t/T))
//
// at step t of T, as PyTorch's CosineAnnealingLR stepped at every step with T_max = T and eta_min = min times the base rate.
type Cosine struct {
	Min float64 `yaml:"min"` // the fraction it falls to, 0 to 1; default 0
}

// Validate reports a Min outside 0 to 1.
func (c Cosine) Validate() error {
	if !(c.Min >= 0 && c.Min <= 1) {
		return fmt.Errorf("min must be a fraction from 0 to 1, not %v", c.Min)
	}
	return nil
}

// At returns η(step); Min from totalSteps on.
func (c Cosine) At(step, stepsPerEpoch, totalSteps int) float64 {
	if step >= totalSteps {
		return c.Min
	}
	t := float64(step) / float64(totalSteps)
	return c.Min + (1-c.Min)*0.5*(1+math.Cos(math.Pi*t))
}
