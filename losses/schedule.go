package losses

import "math"

// Progress is where a run is.
type Progress struct {
	Epoch  int // the current one, from 1
	Epochs int // of the whole run
}

// published is the length, in epochs, of the schedule that the papers' warm-ups are given for: CIFAR-100 in mdistiller and
// RepDistiller.
const published = 240

// warmup is the factor min(epoch/w, 1) of a loss that comes in over w epochs, where epochs is w in a run of the published 240
// (20 in DKD and ReviewKD): a run of another length warms up in proportion. It is 1 throughout for no epochs, and where the
// proportion is less than an epoch.
func warmup(at Progress, epochs float32) float32 {
	w := epochs * float32(at.Epochs) / published
	if w <= 1 {
		return 1
	}
	return min(float32(at.Epoch)/w, 1)
}

// decayed is a factor that falls from 1 to 0, by a cosine, from an epoch of the published 240 to the last one, in proportion in
// a run of another length. A run's only epoch has the factor 1.
func decayed(at Progress, from float32) float32 {
	start := float64(from) * float64(at.Epochs) / published
	since, left := float64(at.Epoch)-start, float64(at.Epochs)-start
	if since <= 0 || left <= 0 || at.Epochs == 1 {
		return 1
	}
	return float32((1 + math.Cos(math.Pi*since/left)) / 2)
}
