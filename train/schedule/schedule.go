// Package schedule holds learning-rate schedules as pure functions of the step.
//
//	s := schedule.Schedule{Name: "cosine", Curve: schedule.Cosine{}, Warmup: 5}
//	lr := 0.1 * s.At(step, stepsPerEpoch, totalSteps)
package schedule

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Curve is a learning rate over a run, as a fraction of the base rate.
type Curve interface {
	// At returns the fraction, 0 to 1, for a step from 0 to totalSteps-1 of a run with stepsPerEpoch steps in each epoch.
	At(step, stepsPerEpoch, totalSteps int) float64
}

// Table holds each curve, with its defaults, under the name a recipe calls it by.
var Table = map[string]Curve{
	"constant": Constant{},
	"cosine":   Cosine{},
	"step":     Step{Gamma: 0.1},
}

// Schedule is the recipe's section for the learning rate over a run: a curve chosen by name, times a linear warm-up. The zero
// value is a constant rate.
type Schedule struct {
	Name   string  `yaml:"name,choice"` // a name in Table
	Curve  Curve   `yaml:",inline"`
	Warmup float64 `yaml:"warmup"` // epochs in which the rate rises to the curve's; default 0, none
}

// Choose returns the curve called name with its defaults, nil if there is none; with Choices it makes Schedule a choice by name.
func (Schedule) Choose(name string) any {
	if curve, ok := Table[name]; ok {
		return curve
	}
	return nil
}

// Choices lists the names in Table, sorted.
func (Schedule) Choices() []string { return slices.Sorted(maps.Keys(Table)) }

// Validate reports a warm-up that is negative or not finite.
func (s Schedule) Validate() error {
	if !(s.Warmup >= 0) || math.IsInf(s.Warmup, 1) {
		return fmt.Errorf("warmup must be 0 or more epochs, not %v", s.Warmup)
	}
	return nil
}

// At returns what to multiply the base rate by, 0 to 1, for a step from 0 to totalSteps-1. In the first W = Warmup ·
// stepsPerEpoch steps the curve is scaled by (step+1)/W; the curve itself runs from step 0, so that its milestones and its end
// do not move with the warm-up.
func (s Schedule) At(step, stepsPerEpoch, totalSteps int) float64 {
	scale := 1.0
	if w := s.Warmup * float64(stepsPerEpoch); float64(step+1) < w {
		scale = float64(step+1) / w
	}
	if s.Curve == nil {
		return scale
	}
	return scale * s.Curve.At(step, stepsPerEpoch, totalSteps)
}
