package schedule

import (
	"fmt"
	"math"
)

// Step multiplies the rate by Gamma at each milestone, as PyTorch's MultiStepLR stepped at every epoch.
type Step struct {
	Milestones []float64 `yaml:"milestones"` // epochs, rising; none: half and three quarters of the run (He et al. 2015, arXiv:1512.03385, sec. 4.2)
	Gamma      float64   `yaml:"gamma"`      // 0 to 1; default 0.1
}

// Validate reports a Gamma outside 0 to 1, or milestones that are not positive and rising.
func (s Step) Validate() error {
	if !(s.Gamma >= 0 && s.Gamma <= 1) {
		return fmt.Errorf("gamma must be from 0 to 1, not %v", s.Gamma)
	}
	last := 0.0
	for _, m := range s.Milestones {
		if !(m > last) {
			return fmt.Errorf("milestones must be positive and rising, %v follows %v", m, last)
		}
		last = m
	}
	return nil
}

// At returns Gamma to the power of the number of milestones reached.
func (s Step) At(step, stepsPerEpoch, totalSteps int) float64 {
	milestones := s.Milestones
	if len(milestones) == 0 {
		run := float64(totalSteps) / float64(stepsPerEpoch)
		milestones = []float64{run / 2, run * 3 / 4}
	}
	reached := 0
	for _, m := range milestones {
		if float64(step) >= m*float64(stepsPerEpoch) {
			reached++
		}
	}
	return math.Pow(s.Gamma, float64(reached))
}
