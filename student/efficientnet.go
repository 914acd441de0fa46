package student

import (
	"cmp"
	"fmt"
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// EfficientNet is the network of Tan and Le 2019 (arXiv:1905.11946, table 1) with torchvision's parameter names: a 3x3 stem of
// stride 2, stages of inverted residuals with squeeze and excitation and SiLU, a last 1x1 convolution, the mean over the image
// and a dense layer.
type EfficientNet struct {
	Width float64 `yaml:"width"` // multiplies channels, which are rounded to multiples of 8; default 1
	Depth float64 `yaml:"depth"` // multiplies the blocks of each stage, rounded up; default 1
	Stem  int     `yaml:"stem"`  // channels of the stem; default 32
	// Settings are the stages, [t, c, n, s, k] each: n blocks of c channels which expand theirs t times and filter them by kxk
	// pixels, the first with stride s.
	Settings [][5]int `yaml:"settings"`
	Last     int      `yaml:"last"`    // channels of the last convolution; default 0: four times those of the last stage
	Small    bool     `yaml:"small"`   // for images of about 32x32: a stem of stride 1; efficientnet_cifar: true
	Dropout  float64  `yaml:"dropout"` // share of the dense layer's inputs that a training step leaves out; efficientnet_b0 0.2
	// StochasticDepth is the share of images for which a training step leaves out the last block; for the blocks before, it falls
	// to 0 in equal parts. Default 0.2.
	StochasticDepth float64 `yaml:"stochastic_depth"`
}

// efficientNet is a member of the family by its multipliers and dropout.
func efficientNet(width, depth, dropout float64) func([2]int) Arch {
	return func([2]int) Arch {
		return &EfficientNet{Width: width, Depth: depth, Stem: 32, Dropout: dropout, StochasticDepth: 0.2, Settings: [][5]int{
			{1, 16, 1, 1, 3}, {6, 24, 2, 2, 3}, {6, 40, 2, 2, 5}, {6, 80, 3, 2, 3}, {6, 112, 3, 1, 5}, {6, 192, 4, 2, 5}, {6, 320, 1, 1, 3},
		}}
	}
}

// smallEfficientNet is EfficientNet-B0 for images of 32x32 pixels: as in MobileNetV2's small form, stem and second stage keep
// their resolution, so that the last image is an 8th of the first.
func smallEfficientNet([2]int) Arch {
	e := efficientNet(1, 1, 0.2)([2]int{}).(*EfficientNet)
	e.Small, e.Settings[1][3] = true, 1
	return e
}

// Validate wants at least one stage, strides of 1 or 2, odd kernels, and sizes that can be built.
func (e *EfficientNet) Validate() error {
	switch {
	case e.Stem < 1 || e.Stem > 4096:
		return fmt.Errorf("stem must be in 1..4096, not %d", e.Stem)
	case len(e.Settings) < 1 || len(e.Settings) > 64:
		return fmt.Errorf("settings must be 1 to 64 stages, not %d", len(e.Settings))
	case e.Last < 0 || e.Last > 65536:
		return fmt.Errorf("last must be in 0..65536, not %d", e.Last)
	}
	for i, s := range e.Settings {
		t, c, n, stride, k := s[0], s[1], s[2], s[3], s[4]
		if t < 1 || t > 64 || c < 1 || c > 4096 || n < 1 || n > 256 || stride < 1 || stride > 2 || !slices.Contains([]int{1, 3, 5, 7}, k) {
			return fmt.Errorf("settings.%d must be [t, c, n, s, k] with t in 1..64, c in 1..4096, n in 1..256, s 1 or 2, k 1, 3, 5 or 7, not %v", i, s)
		}
	}
	return cmp.Or(multiplier("width", e.Width), multiplier("depth", e.Depth), dropped("dropout", e.Dropout),
		dropped("stochastic_depth", e.StochasticDepth))
}

// dropped reports a share that cannot be left out, under its key.
func dropped(key string, share float64) error {
	if !(share >= 0 && share < 1) {
		return fmt.Errorf("%s must be at least 0 and below 1, not %v", key, share)
	}
	return nil
}

// Build describes the network; its taps are stem, stage1, stage2, … and last [N,c,h,w], and pool [N,c].
func (e *EfficientNet) Build(g *graph.Graph, x *G.Node, classes int) Model {
	in, stride := channels(e.Stem, e.Width), 2
	if e.Small {
		stride = 1
	}
	x = nn.ConvNorm{Name: "features.0", In: graph.ShapeOf(x)[1], Out: in, Kernel: 3, Stride: stride, Act: op.Silu}.Apply(g, x)
	taps := []Tap{{"stem", x}}
	total, block := 0, 0
	for _, s := range e.Settings {
		total += blocks(s[2], e.Depth)
	}
	for i, s := range e.Settings {
		b := mbConv{expand: s[0], in: in, out: channels(s[1], e.Width), stride: s[3], kernel: s[4]}
		for j := range blocks(s[2], e.Depth) {
			b.drop = e.StochasticDepth * float64(block) / float64(total)
			x = b.apply(g, fmt.Sprintf("features.%d.%d", i+1, j), x)
			b.in, b.stride = b.out, 1
			block++
		}
		in = b.out
		taps = append(taps, Tap{fmt.Sprintf("stage%d", i+1), x})
	}
	last := cmp.Or(e.Last, 4*in)
	x = nn.ConvNorm{Name: fmt.Sprintf("features.%d", len(e.Settings)+1), In: in, Out: last, Kernel: 1, Act: op.Silu}.Apply(g, x)
	pooled := op.Flatten(op.GlobalAveragePool(x))
	taps = append(taps, Tap{"last", x}, Tap{"pool", pooled})
	x = nn.Dropout{Name: "classifier.0", Share: e.Dropout}.Apply(g, pooled)
	// torchvision draws this weight from U(±1/√classes), which for few classes starts far from chance; for its 1000 it is near to
	// PyTorch's default.
	return Model{Logits: nn.Linear{Name: "classifier.1", In: last, Out: classes}.Apply(g, x), Taps: taps}
}

// mbConv is an inverted residual with squeeze and excitation: 1x1, depthwise and 1x1 convolutions, the channels in between
// expanded and weighed. x is added where it fits.
type mbConv struct {
	expand, in, out, stride, kernel int
	drop                            float64 // the share of images that it is left out for
}

func (b mbConv) apply(g *graph.Graph, name string, x *G.Node) *G.Node {
	y, wide, part := x, channels(b.in, float64(b.expand)), 0
	next := func() string { part++; return fmt.Sprintf("%s.block.%d", name, part-1) }
	if wide != b.in {
		y = nn.ConvNorm{Name: next(), In: b.in, Out: wide, Kernel: 1, Act: op.Silu}.Apply(g, y)
	}
	y = nn.ConvNorm{Name: next(), In: wide, Out: wide, Kernel: b.kernel, Stride: b.stride, Group: wide, Act: op.Silu}.Apply(g, y)
	y = squeezeExcite(g, next(), y, wide, max(1, b.in/4))
	y = nn.ConvNorm{Name: next(), In: wide, Out: b.out, Kernel: 1}.Apply(g, y)
	if b.stride != 1 || b.in != b.out {
		return y
	}
	return op.Add(nn.StochasticDepth{Name: name + ".stochastic_depth", Share: b.drop}.Apply(g, y), x)
}

// squeezeExcite weighs the channels of x [N,wide,h,w] by what a small network makes of their means (Hu et al. 2018,
// arXiv:1709.01507, section 3).
func squeezeExcite(g *graph.Graph, name string, x *G.Node, wide, squeezed int) *G.Node {
	y := op.GlobalAveragePool(x)
	y = op.Silu(nn.Conv{Name: name + ".fc1", In: wide, Out: squeezed, Kernel: 1, Bias: true, Init: nn.KaimingNormal}.Apply(g, y))
	y = nn.Conv{Name: name + ".fc2", In: squeezed, Out: wide, Kernel: 1, Bias: true, Init: nn.KaimingNormal}.Apply(g, y)
	return op.Mul(x, op.Sigmoid(y))
}
