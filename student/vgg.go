package student

import (
	"cmp"
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// VGG is the network of Simonyan and Zisserman 2015 (arXiv:1409.1556, table 1) with torchvision's parameter names: stages of
// 3x3 convolutions, each followed by a 2x2 max pool (left out where the image is one pixel wide), then three dense layers on
// 7x7 pixels. The small form is the one of the distillation literature: the last two stages are not pooled, and one dense layer
// sees the mean over the image.
type VGG struct {
	Stages    [][2]int `yaml:"stages"`     // [c, n]: n convolutions of c channels
	BatchNorm bool     `yaml:"batch_norm"` // after each convolution; default true
	Width     float64  `yaml:"width"`      // multiplies channels, which are rounded to multiples of 8; default 1
	Depth     float64  `yaml:"depth"`      // multiplies the convolutions of each stage, rounded up; default 1
	Small     bool     `yaml:"small"`      // for images of about 32x32; vgg8: true, vgg11_bn: false
	Hidden    int      `yaml:"hidden"`     // features of the first two dense layers, which the small form lacks; default 4096
	Dropout   float64  `yaml:"dropout"`    // share of those features that a training step leaves out; default 0.5
}

// vggs are the convolutions of the five stages, by the layers that have weights.
var vggs = map[int][5]int{8: {1, 1, 1, 1, 1}, 11: {1, 1, 2, 2, 2}, 13: {2, 2, 2, 2, 2}, 16: {2, 2, 3, 3, 3}, 19: {2, 2, 4, 4, 4}}

// vgg is the member of a number of layers; small, its form for images of about 32x32.
func vgg(layers int, small bool) func([2]int) Arch {
	return func([2]int) Arch {
		v := &VGG{BatchNorm: true, Width: 1, Depth: 1, Small: small, Hidden: 4096, Dropout: 0.5}
		for stage, n := range vggs[layers] {
			v.Stages = append(v.Stages, [2]int{min(64<<stage, 512), n})
		}
		return v
	}
}

// Validate wants at least one stage, and sizes that can be built.
func (v *VGG) Validate() error {
	switch {
	case len(v.Stages) < 1 || len(v.Stages) > 16:
		return fmt.Errorf("stages must be 1 to 16, not %d", len(v.Stages))
	case v.Hidden < 1 || v.Hidden > 65536:
		return fmt.Errorf("hidden must be in 1..65536, not %d", v.Hidden)
	case !(v.Dropout >= 0 && v.Dropout < 1):
		return fmt.Errorf("dropout must be at least 0 and below 1, not %v", v.Dropout)
	}
	for i, s := range v.Stages {
		if c, n := s[0], s[1]; c < 1 || c > 4096 || n < 1 || n > 256 {
			return fmt.Errorf("stages.%d must be [c, n] with c in 1..4096, n in 1..256, not %v", i, s)
		}
	}
	return cmp.Or(multiplier("width", v.Width), multiplier("depth", v.Depth))
}

// Build describes the network; its taps are stage1, stage2, … [N,c,h,w], before their pools, and pool [N,c] of the small form,
// else hidden1 and hidden2 [N,hidden].
func (v *VGG) Build(g *graph.Graph, x *G.Node, classes int) Model {
	in, features := graph.ShapeOf(x)[1], 0
	next := func() string { features++; return fmt.Sprintf("features.%d", features-1) }
	var taps []Tap
	for i, s := range v.Stages {
		out := channels(s[0], v.Width)
		for range blocks(s[1], v.Depth) {
			x = nn.Conv{Name: next(), In: in, Out: out, Kernel: 3, Pad: 1, Bias: true, Init: nn.KaimingNormal}.Apply(g, x)
			if v.BatchNorm {
				x = nn.BatchNorm{Name: next(), Channels: out}.Apply(g, x)
			}
			x = op.Relu(x)
			next() // the ReLU's
			in = out
		}
		taps = append(taps, Tap{fmt.Sprintf("stage%d", i+1), x})
		if !v.Small || i < len(v.Stages)-2 {
			if s := graph.ShapeOf(x); s[2] > 1 && s[3] > 1 {
				x = op.MaxPool(x, op.PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}})
			}
			next() // the pool's
		}
	}
	dense := func(name string, in, out int) *G.Node {
		return nn.Linear{Name: name, In: in, Out: out, Init: nn.Normal(0.01)}.Apply(g, x)
	}
	if v.Small {
		x = op.Flatten(op.GlobalAveragePool(x))
		taps = append(taps, Tap{"pool", x})
		return Model{Logits: dense("classifier", in, classes), Taps: taps}
	}
	x = op.Flatten(nn.Resample(x, 7, 7, nn.Averaging))
	for i, in := range []int{49 * in, v.Hidden} {
		x = op.Relu(dense(fmt.Sprintf("classifier.%d", 3*i), in, v.Hidden))
		taps = append(taps, Tap{fmt.Sprintf("hidden%d", i+1), x})
		x = nn.Dropout{Name: fmt.Sprintf("classifier.%d", 3*i+2), Share: v.Dropout}.Apply(g, x)
	}
	return Model{Logits: dense("classifier.6", v.Hidden, classes), Taps: taps}
}
