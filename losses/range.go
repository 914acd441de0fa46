package losses

import (
	"fmt"
	"math"
)

// positive wants a setting above 0, and finite.
func positive[F float32 | float64](key string, v F) error {
	if !(v > 0) || math.IsInf(float64(v), 0) {
		return fmt.Errorf("%s must be positive and finite, not %v", key, v)
	}
	return nil
}

// atLeast wants a setting of lo or more, and finite.
func atLeast[F float32 | float64](lo F, key string, v F) error {
	if !(v >= lo) || math.IsInf(float64(v), 0) {
		return fmt.Errorf("%s must be %v or more and finite, not %v", key, lo, v)
	}
	return nil
}

// notNegative wants a setting of 0 or more, and finite.
func notNegative[F float32 | float64](key string, v F) error { return atLeast(0, key, v) }
