package schedule

// Constant keeps the base rate.
type Constant struct{}

// At returns 1.
func (Constant) At(step, stepsPerEpoch, totalSteps int) float64 { return 1 }
