package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// row is a network's line in the results, lower times and memory being better.
type row struct {
	Network   string  `json:"network"`    // with PyTorch's layout, if it was asked for one
	Ours      float64 `json:"ours_ms"`    // median of a step
	PyTorch   float64 `json:"pytorch_ms"` // median of a step
	Ratio     float64 `json:"ratio"`      // ours to PyTorch's
	OursMB    float64 `json:"ours_mb"`    // largest resident set, in 10⁶ bytes, at the network's large batch; median of processes
	PyTorchMB float64 `json:"pytorch_mb"`
	PeakShare float64 `json:"peak_share"` // multiply-adds over time, as a share of a large matrix product's rate
}

// pause lets threads that spin after one side's turn fall asleep before the other's.
const pause = 200 * time.Millisecond

// memorySteps are enough for buffers to have been made and used again. There are memoryRuns processes, since the peer's peak varies by
// up to a tenth from one to the next.
const memorySteps, memoryRuns = 4, 3

// compare measures every network on every side and prints what it finds as it goes. Each network has a row against
// each setup of PyTorch.
func compare(ctx context.Context, o options, networks []network, out io.Writer) ([]row, error) {
	var rows []row
	for _, n := range networks {
		r, err := n.compare(ctx, o, out)
		if err != nil {
			return rows, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (n network) compare(ctx context.Context, o options, out io.Writer) (rows []row, err error) {
	if n.arch == nil {
		if err := n.export(ctx, o); err != nil {
			return nil, err
		}
	}
	macs, err := n.multiplyAdds(o.folder)
	if err != nil {
		return nil, err
	}
	ms, product, err := n.time(ctx, o, out)
	if err != nil {
		return nil, err
	}
	const productMACs = productSize * productSize * productSize
	mine, rate := spreadOf(ms[0]), productMACs/spreadOf(product).median
	share := float64(macs) / mine.median / rate
	fmt.Fprintf(out, "  distill %v ms; a product of matrices runs at %.0f GFLOP/s, the step at %.2f of that\n", mine, 2*rate/1e6, share)
	mb, err := n.memory(ctx, o, ours)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "  peak memory at batch %d: distill %v MB\n", n.large, mb)
	peers := map[string]spread{} // by layout, as memory is measured as the peer comes
	for i, s := range setups {
		theirs := spreadOf(ms[1+i])
		measured, ok := peers[s.layout]
		if !ok {
			if measured, err = n.memory(ctx, o, s.peer()); err != nil {
				return nil, err
			}
			peers[s.layout] = measured
		}
		r := row{
			Network: s.of(n.name), Ours: round(mine.median), PyTorch: round(theirs.median), Ratio: round(mine.median / theirs.median),
			OursMB: round(mb.median), PyTorchMB: round(measured.median), PeakShare: round(share),
		}
		fmt.Fprintf(out, "  %s: %v ms, ratio %.2f; %v MB, ratio %.2f\n", s.side(), theirs, r.Ratio, measured, mb.median/measured.median)
		rows = append(rows, r)
	}
	return rows, nil
}

// export has the peer write the teacher, in a process of its own, whose memory nobody measures.
func (n network) export(ctx context.Context, o options) error {
	c, err := setups[0].start(ctx)
	if err != nil {
		return err
	}
	defer c.stop()
	_, err = c.ask("export", n.name, o.folder)
	return err
}

// time checks that all sides compute the same and times rounds: each side in turn and the large matrix product, so that what
// disturbs the machine disturbs all of them. Times are in milliseconds, ms in the order of sides.
func (n network) time(ctx context.Context, o options, out io.Writer) (ms [][]float64, product []float64, err error) {
	var children []*child
	for _, start := range append(sides(), ours) {
		c, err := start(ctx)
		if err != nil {
			return nil, nil, err
		}
		defer c.stop()
		children = append(children, c)
	}
	last := len(children) - 1
	fmt.Fprintf(out, "%s, batch %d\n", n.name, n.batch)
	for _, c := range children[1:last] {
		strict, timed, err := n.agree(o, [2]*child{children[0], c})
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(out, "  %s: the first steps agree to %.1e (batch %d: %.1e)\n", c.name, timed.difference, strictBatch, strict.difference)
	}
	if err := children[last].load(network{name: productName}, 1, 1, o); err != nil {
		return nil, nil, err
	}
	ms = make([][]float64, len(children))
	for round := range o.rounds + 1 {
		for i, c := range children {
			time.Sleep(pause)
			times, err := c.steps(o.steps)
			if err != nil {
				return nil, nil, err
			}
			if round > 0 { // the first one warms up
				ms[i] = append(ms[i], times...)
			}
		}
	}
	return ms[:last], ms[last], nil
}

// memory is the peak resident set of fresh processes that train at the large batch, in 10⁶ bytes.
func (n network) memory(ctx context.Context, o options, start side) (spread, error) {
	var mb []float64
	for range memoryRuns {
		peak, err := n.peak(ctx, o, start)
		if err != nil {
			return spread{}, err
		}
		mb = append(mb, peak/1e6)
	}
	return spreadOf(mb), nil
}

func (n network) peak(ctx context.Context, o options, start side) (bytes float64, err error) {
	c, err := start(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.load(n, n.large, 1, o); err != nil {
		return 0, err
	}
	if _, err := c.steps(memorySteps); err != nil {
		return 0, err
	}
	peak, err := c.numbers("memory")
	if err != nil {
		return 0, err
	}
	return peak[0], nil
}
