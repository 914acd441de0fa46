package student

import (
	"fmt"
	"math"
)

// A family's networks are scaled by two multipliers, as in MobileNet and EfficientNet: width, of the channels, and depth, of
// the blocks of each stage. Both are 1 for the network of the paper.

// multiplier reports a width or depth that cannot be built, under its key.
func multiplier(key string, v float64) error {
	if !(v > 0 && v <= 16) {
		return fmt.Errorf("%s must be above 0 and at most 16, not %v", key, v)
	}
	return nil
}

// channels are v times the width, rounded to a multiple of 8 that is not 10 % below (torchvision's _make_divisible).
func channels(v int, width float64) int {
	c := float64(v) * width
	rounded := max(8, int(math.Floor(c+4))/8*8)
	if float64(rounded) < 0.9*c {
		rounded += 8
	}
	return rounded
}

// blocks are n times the depth, rounded up (as torchvision's EfficientNet has it).
func blocks(n int, depth float64) int { return int(math.Ceil(float64(n) * depth)) }
