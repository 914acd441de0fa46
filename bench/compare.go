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
	Network   string  `json:"network"`
	Ours      float64 `json:"ours_ms"`    // median of a step
	PyTorch   float64 `json:"pytorch_ms"` // median of a step
	Ratio     float64 `json:"ratio"`      // ours to PyTorch's
	OursMB    float64 `json:"ours_mb"`    // largest resident set, in 10⁶ bytes, at the network's large batch
	PyTorchMB float64 `json:"pytorch_mb"`
	PeakShare float64 `json:"peak_share"` // multiply-adds over time, as a share of a large matrix product's rate
}

// pause lets threads that spin after one side's turn fall asleep before the other's.
const pause = 200 * time.Millisecond

// memorySteps are enough for buffers to have been made and used again.
const memorySteps = 4

// compare measures every network on both sides and prints what it finds as it goes.
func compare(ctx context.Context, o options, networks []network, out io.Writer) ([]row, error) {
	var rows []row
	for _, n := range networks {
		r, err := n.compare(ctx, o, out)
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (n network) compare(ctx context.Context, o options, out io.Writer) (row, error) {
	r := row{Network: n.name}
	if n.arch == nil {
		if err := n.export(ctx, o); err != nil {
			return r, err
		}
	}
	layout, ms, err := n.time(ctx, o, out)
	if err != nil {
		return r, err
	}
	macs, err := n.multiplyAdds(o.folder)
	if err != nil {
		return r, err
	}
	a, b, product := spreadOf(ms[0]), spreadOf(ms[1]), spreadOf(ms[2])
	r.Ours, r.PyTorch, r.Ratio = round(a.median), round(b.median), round(a.median/b.median)
	const productMACs = productSize * productSize * productSize
	r.PeakShare = round(float64(macs) / a.median / (productMACs / product.median))
	fmt.Fprintf(out, "  distill %v ms\n  PyTorch %v ms\n  ratio %.2f\n", a, b, r.Ratio)
	fmt.Fprintf(out, "  a product of matrices runs at %.0f GFLOP/s, the step at %.2f of that\n", 2*productMACs/product.median/1e6, r.PeakShare)
	if r.OursMB, err = n.memory(ctx, o, ours, contiguous); err != nil {
		return r, err
	}
	if r.PyTorchMB, err = n.memory(ctx, o, peer, layout); err != nil {
		return r, err
	}
	fmt.Fprintf(out, "  peak memory at batch %d: distill %.0f MB, PyTorch %.0f MB, ratio %.2f\n", n.large, r.OursMB, r.PyTorchMB, r.OursMB/r.PyTorchMB)
	return r, nil
}

// export has the peer write the teacher, in a process of its own, whose memory nobody measures.
func (n network) export(ctx context.Context, o options) error {
	c, err := peer(ctx)
	if err != nil {
		return err
	}
	defer c.stop()
	_, err = c.ask("export", n.name, o.folder)
	return err
}

// contiguous is the layout that PyTorch has without being asked.
const contiguous = "contiguous"

// time checks that both sides compute the same, lets the peer choose its layout, and times rounds: ours, the peer's and the
// large matrix product by turns, so that what disturbs the machine disturbs all three. Times are in milliseconds, in that order.
func (n network) time(ctx context.Context, o options, out io.Writer) (layout string, ms [3][]float64, err error) {
	var children [3]*child
	for i, start := range []side{ours, peer, ours} {
		if children[i], err = start(ctx); err != nil {
			return "", ms, err
		}
		defer children[i].stop()
	}
	strict, timed, err := n.agree(o, [2]*child(children[:2]))
	if err != nil {
		return "", ms, err
	}
	if err := children[2].load(network{name: productName}, 1, 1, o, contiguous); err != nil {
		return "", ms, err
	}
	tuned, err := children[1].ask("tune")
	if err != nil {
		return "", ms, err
	}
	var plain, last float64
	if _, err := fmt.Sscan(tuned, &layout, &plain, &last); err != nil {
		return "", ms, fmt.Errorf("bench: read %q of the peer: %w", tuned, err)
	}
	fmt.Fprintf(out, "%s, batch %d: the first steps agree to %.1e (batch %d: %.1e); PyTorch runs %s (contiguous %.1f ms, channels_last %.1f ms)\n",
		n.name, n.batch, timed.difference, strictBatch, strict.difference, layout, plain, last)
	for round := range o.rounds + 1 {
		for i, c := range children {
			time.Sleep(pause)
			times, err := c.steps(o.steps)
			if err != nil {
				return "", ms, err
			}
			if round > 0 { // the first one warms up
				ms[i] = append(ms[i], times...)
			}
		}
	}
	return layout, ms, nil
}

// memory is the peak resident set of a fresh process that trains at the large batch, in 10⁶ bytes.
func (n network) memory(ctx context.Context, o options, start side, layout string) (mb float64, err error) {
	c, err := start(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.load(n, n.large, 1, o, layout); err != nil {
		return 0, err
	}
	if _, err := c.steps(memorySteps); err != nil {
		return 0, err
	}
	bytes, err := c.numbers("memory")
	if err != nil {
		return 0, err
	}
	return round(bytes[0] / 1e6), nil
}
