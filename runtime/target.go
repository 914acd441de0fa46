package runtime

import (
	"fmt"
	"math"
	"strconv"
	"sync"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

var probed struct {
	sync.Mutex
	target graph.Target
	done   bool
}

// Probe finds out what programs can be lowered for: the fused operators on the CPU provider, the channel block of its
// convolution, which depends on the processor, and Winograd's algorithm on such blocks. The first two are internals of ONNX
// Runtime, so a target counts only if a small training step starts and gives the numbers of plain ONNX. Another provider gets
// what every one has. Winograd's strips, which no training step has, [Specialize] checks.
func Probe(opts Options) (graph.Target, error) {
	if !opts.Provider.IsCPU() {
		return graph.Target{Portable: true}, nil
	}
	probed.Lock()
	defer probed.Unlock()
	if !probed.done {
		want, err := probeRun(graph.Target{})
		if err != nil {
			return graph.Target{}, fmt.Errorf("runtime: probe: %w", err)
		}
		computes := func(t graph.Target) bool {
			got, err := probeRun(t)
			return err == nil && near(got, want)
		}
		for _, t := range []graph.Target{{Fused: true, Block: 16}, {Fused: true, Block: 8}, {Fused: true}} {
			if computes(t) {
				probed.target = t
				break
			}
		}
		if t := probed.target; t.Block > 0 {
			t.Winograd = graph.WinogradSquares // else the small step would not use it
			if computes(t) {
				probed.target.Winograd = graph.WinogradWhereFaster
			}
		}
		probed.done = true
	}
	return probed.target, nil
}

// probeRun computes the result and the gradients of probeProgram.
func probeRun(t graph.Target) (map[string]graph.Tensor, error) {
	p, in, err := probeProgram()
	if err != nil {
		return nil, err
	}
	step, err := newORTStep(p, &graph.Store{}, Options{Threads: 1}, t)
	if err != nil {
		return nil, err
	}
	defer step.Close()
	return step.Run(in)
}

// probeProgram uses, forward and backward, all that a layout in blocks relies on: a stem of few channels, convolutions with
// and without a stride or a bias, a depthwise one, batch norm, ReLU and a residual sum. 32 channels and 16 samples are whole
// blocks of 16 and of 8.
func probeProgram() (*graph.Program, map[string]graph.Tensor, error) {
	const n, c, hw = 16, 32, 5
	in := map[string]graph.Tensor{}
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		var nodes []*G.Node
		input := func(size float64, shape ...int) *G.Node {
			name, v := strconv.Itoa(len(in)), graph.NewTensor(graph.Float32, shape...)
			for i := range v.F {
				v.F[i] = float32(size * math.Sin(float64((i+1)*(len(in)+1))))
			}
			in[name] = v
			nodes = append(nodes, g.Input(name, graph.Float32, shape...))
			return nodes[len(nodes)-1]
		}
		// Each channel of a norm lies around ±shift and so far from the kink of a ReLU that rounding does not decide its gradient.
		norm := func(x *G.Node, shift float32) *G.Node {
			gamma, beta := input(0.25, c), input(0, c)
			for i := range c {
				in[beta.Name()].F[i] = shift * float32(1-2*(i%2))
			}
			y, _, _ := op.BatchNormTraining(x, gamma, beta, 1e-5)
			return y
		}
		same := op.ConvAttrs{Pads: [4]int{1, 1, 1, 1}}
		half, each := same, same
		half.Strides, each.Group = [2]int{2, 2}, c
		x := op.Relu(norm(op.Conv(input(1, n, 3, hw, hw), input(0.5, c, 3, 3, 3), nil, same), 2))
		x = op.Relu(op.Add(norm(op.Conv(x, input(0.1, c, c, 3, 3), nil, same), 6), x))
		x = op.Conv(x, input(0.5, c, 1, 3, 3), nil, each)
		y := op.Conv(x, input(0.1, c, c, 3, 3), input(1, c), half)
		g.Output("y", y)
		for _, d := range g.GradInput(op.ReduceMean(op.Mul(y, y), nil, false), nodes...) {
			g.Output("d"+d.Name, d.Grad)
		}
	})
	return p, in, err
}

// near reports whether results agree to 1e-4 of each one's largest element.
func near(got, want map[string]graph.Tensor) bool {
	for name, w := range want {
		size := 0.0
		for _, v := range w.F {
			size = math.Max(size, math.Abs(float64(v)))
		}
		if len(got[name].F) != len(w.F) {
			return false
		}
		for i, v := range w.F {
			if !(math.Abs(float64(got[name].F[i]-v)) <= 1e-4*size) {
				return false
			}
		}
	}
	return true
}
