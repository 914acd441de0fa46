package runtime

import (
	"context"
	"errors"
	"slices"
	"time"

	"distill/runtime/graph"
)

// Latency is the median time of n runs, in milliseconds, after some to warm up; inputs and outputs are as in [Session.Run]. It
// stops with the context's error when that is done.
func (s *Session) Latency(ctx context.Context, in map[string]graph.Tensor, n int, outputs ...string) (float64, error) {
	const warmUp = 5
	if n < 1 {
		return 0, errors.New("runtime: measure latency: no runs are asked for")
	}
	times := make([]float64, 0, n)
	for i := range warmUp + n {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if _, err := s.Run(in, outputs...); err != nil {
			return 0, err
		}
		if i >= warmUp {
			times = append(times, time.Since(start).Seconds()*1000)
		}
	}
	slices.Sort(times)
	return (times[(n-1)/2] + times[n/2]) / 2, nil
}
