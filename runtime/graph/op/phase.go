package op

// Phase is how the gradient of a convolution's input comes from dy at every stride-th place along an axis: by a convolution
// at stride 1 with some of the kernel's taps.
type Phase struct {
	Taps          []int // of the kernel, in the order in which they meet dy; none: the gradient is 0
	Before, After int   // zeros around dy
}

// Phases are those of the places 0, 1, …, stride−1 and what follows each at the stride, for a kernel of k taps, so many zeros
// before the input, its n places and dy's m places. It reports false where the phases would differ in length or leave places
// of dy unread, which a convolution cannot.
func Phases(k, stride, pad, n, m int) ([]Phase, bool) {
	if n%stride != 0 {
		return nil, false
	}
	phases := make([]Phase, stride)
	for i := range phases {
		ph := &phases[i]
		for tap := (i + pad) % stride; tap < k; tap += stride {
			ph.Taps = append([]int{tap}, ph.Taps...)
		}
		taps := len(ph.Taps)
		if taps == 0 {
			continue
		}
		ph.Before = taps - 1 - (i+pad)/stride
		ph.After = n/stride - m - ph.Before + taps - 1
		if ph.Before < 0 || ph.After < 0 {
			return nil, false
		}
	}
	return phases, true
}
