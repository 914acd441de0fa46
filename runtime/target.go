package runtime

import (
	"fmt"
	"math"
	"sync"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

var probed struct {
	sync.Mutex
	block int
	done  bool
}

// Probe finds out what programs can be lowered for: the fused operators on the CPU provider, and the channel block of its
// blocked convolution, which depends on the processor. The convolution is an internal of ONNX Runtime, so it counts only
// if it starts and gives the plain one's numbers.
func Probe(opts Options) (graph.Target, error) {
	if opts.Provider.Name != "" && opts.Provider.Name != "cpu" {
		return graph.Target{}, nil
	}
	probed.Lock()
	defer probed.Unlock()
	if !probed.done {
		want, err := probeRun(graph.Target{Fused: true})
		if err != nil {
			return graph.Target{}, fmt.Errorf("runtime: probe: %w", err)
		}
		for _, block := range []int{16, 8} {
			got, err := probeRun(graph.Target{Fused: true, Block: block})
			if err == nil && near(got, want) {
				probed.block = block
				break
			}
		}
		probed.done = true
	}
	return graph.Target{Fused: true, Block: probed.block}, nil
}

// probeRun convolves a small image of 32 channels: two blocks of 16, four of 8.
func probeRun(t graph.Target) ([]float32, error) {
	const n, c, hw = 2, 32, 5
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x, w := g.Input("x", graph.Float32, n, c, hw, hw), g.Input("w", graph.Float32, c, c, 3, 3)
		g.Output("y", op.Conv(x, w, nil, op.ConvAttrs{Pads: [4]int{1, 1, 1, 1}}))
	})
	if err != nil {
		return nil, err
	}
	step, err := newORTStep(p, &graph.Store{}, Options{Threads: 1}, t)
	if err != nil {
		return nil, err
	}
	defer step.Close()
	x, w := graph.NewTensor(graph.Float32, n, c, hw, hw), graph.NewTensor(graph.Float32, c, c, 3, 3)
	for _, v := range [][]float32{x.F, w.F} {
		for i := range v {
			v[i] = float32(math.Sin(float64(i)))
		}
	}
	out, err := step.Run(map[string]graph.Tensor{"x": x, "w": w})
	return out["y"].F, err
}

func near(a, b []float32) bool {
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1e-4*math.Max(1, math.Abs(float64(b[i]))) {
			return false
		}
	}
	return len(a) == len(b)
}
