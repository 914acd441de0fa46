package main

import (
	"fmt"
	"math"
	"slices"
)

// spread sums up measurements.
type spread struct{ min, q1, median, q3 float64 }

// spreadOf wants at least one measurement; quartiles are interpolated.
func spreadOf(list []float64) spread {
	sorted := slices.Sorted(slices.Values(list))
	at := func(p float64) float64 {
		i := p * float64(len(sorted)-1)
		low := int(i)
		high := min(low+1, len(sorted)-1)
		return sorted[low] + (i-float64(low))*(sorted[high]-sorted[low])
	}
	return spread{sorted[0], at(0.25), at(0.5), at(0.75)}
}

// round keeps three decimals, which is more than any measurement here is good for.
func round(v float64) float64 { return math.Round(v*1e3) / 1e3 }

func (s spread) String() string {
	return fmt.Sprintf("%.1f (%.1f to %.1f, least %.1f)", s.median, s.q1, s.q3, s.min)
}
