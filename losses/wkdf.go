package losses

import (
	"cmp"
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// WKDF is the feature part of Wasserstein distillation: the pixels of a cell are taken for samples of a Gaussian of each channel,
// and compared by the distance of Gaussians with diagonal covariance (Lv et al. 2024, arXiv:2412.08139, section 3.2):
//
//	1/(N·g²) Σ [r·(μ_s − μ_t)² + (σ_s − σ_t)²],  σ² = variance + 1e-5
//
// over N·C·g² cells of channels, for the student's map after a projector and the teacher's [N,C,H,W], each cut into g·g cells as
// adaptive pooling does, which overlap where g does not divide a side; so sizes may differ. The variance is the unbiased one, 0
// for a cell of one pixel. The projector is three convolutions of 1x1, 3x3 and 1x1, then batch norm and ReLU: it is never
// negative, and the teacher's map is to be one after its ReLU. It belongs to the loss, and is not exported.
//
// The weight of 0.08 beside cross-entropy is one of CIFAR-100. The loss falls to 0 by a cosine over the last 90 of 240 epochs.
type WKDF struct {
	Grid   int     `yaml:"grid"`   // g, 1..64; default 4
	Hidden int     `yaml:"hidden"` // channels inside the projector, 1..65536; the teacher's where they are fewer; default 256
	Mean   float64 `yaml:"mean"`   // r, 0 or more; default 2
	Decay  float32 `yaml:"decay"`  // the epoch, of 240, from which the loss falls to 0; default 150, 240: never
}

// Validate wants settings in range.
func (w *WKDF) Validate() error {
	switch {
	case w.Grid < 1 || w.Grid > 64:
		return fmt.Errorf("grid must be in 1..64, not %d", w.Grid)
	case w.Hidden < 1 || w.Hidden > 65536:
		return fmt.Errorf("hidden must be in 1..65536, not %d", w.Hidden)
	case !(w.Decay >= 0 && w.Decay <= published):
		return fmt.Errorf("decay must be in 0..%d, not %v", published, w.Decay)
	}
	return cmp.Or(notNegative("mean", w.Mean))
}

// Knobs let the loss fall.
func (w *WKDF) Knobs(at Progress) map[string]float32 {
	return map[string]float32{"decay": decayed(at, w.Decay)}
}

// Build describes the loss and its projector.
func (w *WKDF) Build(in In) *G.Node {
	p := in.maps(in.Pair())
	meanS, deviationS := cells(w.project(in, p), w.Grid)
	meanT, deviationT := cells(p.Teacher, w.Grid)
	square := func(a, b *G.Node) *G.Node { return op.ReduceSumSquare(op.Sub(a, b), nil, false) }
	sum := op.Add(op.Scale(square(meanS, meanT), w.Mean), square(deviationS, deviationT))
	return op.Mul(in.Knob("decay", 1), op.Scale(sum, 1/float64(in.Batch()*w.Grid*w.Grid)))
}

func (w *WKDF) project(in In, p Pair) *G.Node {
	x, c := p.Student, p.Shape[1]
	hidden := min(w.Hidden, c)
	// The batch norm would take away the biases of the second and the third, which the authors' code has.
	for i, l := range []nn.Conv{{Out: hidden, Kernel: 1, Bias: true}, {Out: hidden, Kernel: 3, Pad: 1}, {Out: c, Kernel: 1}} {
		l.Name, l.In = in.Name(fmt.Sprintf("projector.%d", i+1)), graph.ShapeOf(x)[1]
		x = l.Apply(in.Graph(), x)
	}
	return op.Relu(nn.BatchNorm{Name: in.Name("projector.bn"), Channels: c}.Apply(in.Graph(), x))
}

// cells are mean and deviation of each channel of a map [N,C,H,W] in g·g cells: [N,C,g,1,g,1] each.
func cells(x *G.Node, g int) (mean, deviation *G.Node) {
	s := graph.ShapeOf(x)
	h, w := widest(s[2], g), widest(s[3], g)
	x = op.Reshape(nn.Resample(x, g*h, g*w, laid(g)), -1, s[1], g, h, g, w)
	inside := graph.Zeros(graph.Shape{g, h, g, w}) // 0 for the pixels that a smaller cell repeats
	one, other := graph.Zeros(graph.Shape{g, 1, g, 1}), graph.Zeros(graph.Shape{g, 1, g, 1})
	for i := range g {
		for j := range g {
			top, bottom := span(i, s[2], g)
			left, right := span(j, s[3], g)
			n := (bottom - top) * (right - left)
			one.F[i*g+j], other.F[i*g+j] = 1/float64(n), 1/float64(max(n-1, 1))
			for a := range bottom - top {
				for b := range right - left {
					inside.F[((i*h+a)*g+j)*w+b] = 1
				}
			}
		}
	}
	within, axes := graph.Const(x, inside), []int{3, 5}
	mean = op.Mul(op.ReduceSum(op.Mul(x, within), axes, true), graph.Const(x, one))
	centred := op.Mul(op.Sub(x, mean), within)
	variance := op.Mul(op.ReduceSumSquare(centred, axes, true), graph.Const(x, other))
	return mean, op.Sqrt(op.Shift(variance, 1e-5))
}

// span is the pixels of cell i, of g, on a line of n: from first up to, not including, last.
func span(i, n, g int) (first, last int) { return i * n / g, ((i+1)*n + g - 1) / g }

// widest is the size of the largest of g cells on a line of n.
func widest(n, g int) (size int) {
	for i := range g {
		first, last := span(i, n, g)
		size = max(size, last-first)
	}
	return size
}

// laid lays g cells of a line one after another, each as wide as the widest: a smaller one repeats its last pixel.
func laid(g int) func(from, to int) graph.Array {
	return func(from, to int) graph.Array {
		m, size := graph.Zeros(graph.Shape{to, from}), to/g
		for i := range to {
			first, last := span(i/size, from, g)
			m.F[i*from+min(first+i%size, last-1)] = 1
		}
		return m
	}
}
