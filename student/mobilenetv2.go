package student

import (
	"cmp"
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// MobileNetV2 is the network of inverted residuals of Sandler et al. 2018 (arXiv:1801.04381, table 2), with torchvision's
// parameter names: a 3x3 stem, stages of blocks that expand the channels, filter each alone and project them back, a last 1x1
// convolution, the mean over the image and a dense layer.
type MobileNetV2 struct {
	Width      float64 `yaml:"width"`       // multiplies channels, which are rounded to multiples of 8; default 1
	Depth      float64 `yaml:"depth"`       // multiplies the blocks of each stage, rounded up; default 1
	Stem       int     `yaml:"stem"`        // channels of the stem; default 32
	StemStride int     `yaml:"stem_stride"` // 1 or 2; default 2, for small images 1
	// Settings are the stages, [t, c, n, s] each: n blocks of c channels which expand theirs t times, the first of stride s.
	Settings [][4]int `yaml:"settings"`
	Last     int      `yaml:"last"`    // channels of the last convolution, multiplied by widths above 1; 0: there is none; default 1280
	Dropout  float64  `yaml:"dropout"` // share of the dense layer's inputs that a training step leaves out; default 0.2
}

// mobileNetV2 is that of the paper, or, small, the one in use for images of 32x32 pixels: the stem and the second stage keep
// their resolution, so that the last image is a 32nd or an 8th of the first.
func mobileNetV2(small bool) *MobileNetV2 {
	stride := 2
	if small {
		stride = 1
	}
	return &MobileNetV2{Width: 1, Depth: 1, Stem: 32, StemStride: stride, Last: 1280, Dropout: 0.2, Settings: [][4]int{
		{1, 16, 1, 1}, {6, 24, 2, stride}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
	}}
}

// Validate wants at least one stage, strides of 1 or 2, and sizes that can be built.
func (m *MobileNetV2) Validate() error {
	if err := cmp.Or(multiplier("width", m.Width), multiplier("depth", m.Depth)); err != nil {
		return err
	}
	switch {
	case m.Stem < 1 || m.Stem > 4096:
		return fmt.Errorf("stem must be in 1..4096, not %d", m.Stem)
	case m.StemStride != 1 && m.StemStride != 2:
		return fmt.Errorf("stem_stride must be 1 or 2, not %d", m.StemStride)
	case len(m.Settings) < 1 || len(m.Settings) > 64:
		return fmt.Errorf("settings must be 1 to 64 stages, not %d", len(m.Settings))
	case m.Last < 0 || m.Last > 65536:
		return fmt.Errorf("last must be in 0..65536, not %d", m.Last)
	case !(m.Dropout >= 0 && m.Dropout < 1):
		return fmt.Errorf("dropout must be at least 0 and below 1, not %v", m.Dropout)
	}
	for i, s := range m.Settings {
		t, c, n, stride := s[0], s[1], s[2], s[3]
		if t < 1 || t > 64 || c < 1 || c > 4096 || n < 1 || n > 256 || stride < 1 || stride > 2 {
			return fmt.Errorf("settings.%d must be [t, c, n, s] with t in 1..64, c in 1..4096, n in 1..256, s 1 or 2, not %v", i, s)
		}
	}
	return nil
}

func relu6(x *G.Node) *G.Node { return op.Clip(x, 0, 6) }

// Build describes the network; its taps are stem, stage1, stage2, … and, where it is, last [N,c,h,w], and pool [N,c].
func (m *MobileNetV2) Build(g *graph.Graph, x *G.Node, classes int) Model {
	in, features := channels(m.Stem, m.Width), 0
	next := func() string { features++; return fmt.Sprintf("features.%d", features-1) }
	x = nn.ConvNorm{Name: next(), In: graph.ShapeOf(x)[1], Out: in, Kernel: 3, Stride: m.StemStride, Act: relu6}.Apply(g, x)
	taps := []Tap{{"stem", x}}
	for i, s := range m.Settings {
		t, out, n, stride := s[0], channels(s[1], m.Width), blocks(s[2], m.Depth), s[3]
		for range n {
			x = invertedResidual(g, next()+".conv", x, in, out, t, stride)
			in, stride = out, 1
		}
		taps = append(taps, Tap{fmt.Sprintf("stage%d", i+1), x})
	}
	if m.Last > 0 {
		last := channels(m.Last, max(1, m.Width))
		x = nn.ConvNorm{Name: next(), In: in, Out: last, Kernel: 1, Act: relu6}.Apply(g, x)
		taps = append(taps, Tap{"last", x})
		in = last
	}
	pooled := op.Flatten(op.GlobalAveragePool(x))
	taps = append(taps, Tap{"pool", pooled})
	x = nn.Dropout{Name: "classifier.0", Share: m.Dropout}.Apply(g, pooled)
	return Model{Logits: nn.Linear{Name: "classifier.1", In: in, Out: classes, Init: nn.Normal(0.01)}.Apply(g, x), Taps: taps}
}

// invertedResidual expands x to t times its channels, filters each by a 3x3 convolution and projects them to out channels,
// without an activation; x is added where it fits.
func invertedResidual(g *graph.Graph, name string, x *G.Node, in, out, t, stride int) *G.Node {
	y, wide, part := x, t*in, 0
	next := func() string { part++; return fmt.Sprintf("%s.%d", name, part-1) }
	if t != 1 {
		y = nn.ConvNorm{Name: next(), In: in, Out: wide, Kernel: 1, Act: relu6}.Apply(g, y)
	}
	y = nn.ConvNorm{Name: next(), In: wide, Out: wide, Kernel: 3, Stride: stride, Group: wide, Act: relu6}.Apply(g, y)
	y = nn.Conv{Name: next(), In: wide, Out: out, Kernel: 1, Init: nn.KaimingNormal}.Apply(g, y)
	y = nn.BatchNorm{Name: next(), Channels: out}.Apply(g, y)
	if stride == 1 && in == out {
		return op.Add(x, y)
	}
	return y
}
