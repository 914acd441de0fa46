package op

import (
	"slices"
	"testing"
)

func TestPhasesReadWhatTheConvolutionGave(t *testing.T) {
	some, refused := 0, 0
	for k := 1; k <= 7; k++ {
		for stride := 1; stride <= 4; stride++ {
			for pad := range k + 2 {
				for n := 1; n <= 12; n++ {
					m := (n+2*pad-k)/stride + 1
					if n+2*pad < k {
						continue
					}
					phases, ok := Phases(k, stride, pad, n, m)
					if !ok {
						refused++
						continue
					}
					some++
					for place := range n {
						var want, got [][2]int // taps and places of dy
						for tap := range k {
							if h := place + pad - tap; h >= 0 && h%stride == 0 && h/stride < m {
								want = append(want, [2]int{tap, h / stride})
							}
						}
						ph := phases[place%stride]
						for j, tap := range ph.Taps {
							if h := place/stride + j - ph.Before; h >= 0 && h < m {
								got = append(got, [2]int{tap, h})
							}
						}
						slices.Reverse(got) // taps meet dy from the last to the first
						if !slices.Equal(got, want) {
							t.Fatalf("kernel %d, stride %d, pad %d, %d places: place %d reads %v, want %v", k, stride, pad, n, place, got, want)
						}
						if size := m + ph.Before + ph.After - len(ph.Taps) + 1; len(ph.Taps) > 0 && size != n/stride {
							t.Fatalf("kernel %d, stride %d, pad %d, %d places: a phase of %d, want %d", k, stride, pad, n, size, n/stride)
						}
					}
				}
			}
		}
	}
	if some < 100 || refused == 0 {
		t.Errorf("%d cases, %d refused", some, refused)
	}
}
