package losses

import "testing"

func TestWarmupIsInProportionToThePublishedEpochs(t *testing.T) {
	for _, c := range []struct {
		epoch, epochs int
		over          float32
		want          float32
	}{
		{1, 240, 20, 0.05}, {10, 240, 20, 0.5}, {20, 240, 20, 1}, {240, 240, 20, 1},
		{1, 60, 20, 0.2}, {5, 60, 20, 1}, // a quarter of the run, a quarter of the warm-up
		{1, 10, 20, 1},  // less than an epoch
		{1, 240, 0, 1},  // none
		{1, 240, 1, 1},  // the first epoch is whole
		{1, 240, -3, 1}, // no way to go below
	} {
		if got := warmup(Progress{Epoch: c.epoch, Epochs: c.epochs}, c.over); got != c.want {
			t.Errorf("epoch %d of %d over %v: %v, want %v", c.epoch, c.epochs, c.over, got, c.want)
		}
	}
}
