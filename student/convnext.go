package student

import (
	"cmp"
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// ConvNeXt is the network of Liu et al. 2022 (arXiv:2201.03545, figure 4 and table 9) with torchvision's parameter names: a
// stem that makes each square patch a pixel, stages of blocks with 7x7 depthwise convolutions, layer norm and GELU, between
// them 2x2 convolutions of stride 2, the mean over the image and a dense layer.
type ConvNeXt struct {
	Patch  int      `yaml:"patch"`  // side of a patch of the stem in pixels; default 4, convnext_atto_cifar 1
	Stages [][2]int `yaml:"stages"` // [c, n]: n blocks of c channels
	Width  float64  `yaml:"width"`  // multiplies channels, which are rounded to multiples of 8; default 1
	Depth  float64  `yaml:"depth"`  // multiplies the blocks of each stage, rounded up; default 1
	// LayerScale is what the blocks' outputs are first multiplied by, channel by channel; it is trained. Default 1e-6.
	LayerScale float64 `yaml:"layer_scale"`
	// StochasticDepth is the share of images for which a training step leaves out the last block; it rises from 0 at the first
	// in equal parts. Default: convnext_tiny 0.1, convnext_atto 0.
	StochasticDepth float64 `yaml:"stochastic_depth"`
}

// convNeXt is the member of the family whose stages, with these blocks, are width channels wide at first, doubled by each.
func convNeXt(patch, width int, stochasticDepth float64, blocks ...int) func([2]int) Arch {
	return func([2]int) Arch {
		c := &ConvNeXt{Patch: patch, Width: 1, Depth: 1, LayerScale: 1e-6, StochasticDepth: stochasticDepth}
		for i, n := range blocks {
			c.Stages = append(c.Stages, [2]int{width << i, n})
		}
		return c
	}
}

// Validate wants at least one stage, and sizes that can be built.
func (c *ConvNeXt) Validate() error {
	switch {
	case c.Patch < 1 || c.Patch > 256:
		return fmt.Errorf("patch must be in 1..256, not %d", c.Patch)
	case len(c.Stages) < 1 || len(c.Stages) > 8:
		return fmt.Errorf("stages must be 1 to 8, not %d", len(c.Stages))
	case !(c.LayerScale >= -1 && c.LayerScale <= 1):
		return fmt.Errorf("layer_scale must be in -1..1, not %v", c.LayerScale)
	}
	for i, s := range c.Stages {
		if ch, n := s[0], s[1]; ch < 1 || ch > 4096 || n < 1 || n > 256 {
			return fmt.Errorf("stages.%d must be [c, n] with c in 1..4096, n in 1..256, not %v", i, s)
		}
	}
	return cmp.Or(multiplier("width", c.Width), multiplier("depth", c.Depth), dropped("stochastic_depth", c.StochasticDepth))
}

// Build describes the network; its taps are stem and stage1, stage2, … [N,c,h,w], and pool [N,c], after its layer norm.
func (c *ConvNeXt) Build(g *graph.Graph, x *G.Node, classes int) Model {
	image := graph.ShapeOf(x)
	if least := c.Patch << (len(c.Stages) - 1); image[2] < least || image[3] < least {
		graph.Fail("convnext", []graph.Shape{image},
			"a stem of patch %d and %d stages need images of %[3]dx%[3]d at least; set student.patch or student.stages smaller, or preprocess.size", c.Patch, len(c.Stages), least)
	}
	conv := func(name string, in, out, side int) {
		x = nn.Conv{Name: name, In: in, Out: out, Kernel: side, Stride: side, Bias: true, Init: nn.TruncNormal(0.02)}.Apply(g, x)
	}
	in := channels(c.Stages[0][0], c.Width)
	conv("features.0.0", image[1], in, c.Patch)
	x = nchw(normed(g, "features.0.1", nhwc(x), in))
	taps := []Tap{{"stem", x}}
	total, block := 0, 0
	for _, s := range c.Stages {
		total += blocks(s[1], c.Depth)
	}
	for i, s := range c.Stages {
		out := channels(s[0], c.Width)
		if i > 0 {
			name := fmt.Sprintf("features.%d", 2*i)
			x = nchw(normed(g, name+".0", nhwc(x), in))
			conv(name+".1", in, out, 2)
		}
		for j := range blocks(s[1], c.Depth) {
			drop := c.StochasticDepth * float64(block) / float64(max(total-1, 1))
			x = c.block(g, fmt.Sprintf("features.%d.%d", 2*i+1, j), x, out, drop)
			block++
		}
		in = out
		taps = append(taps, Tap{fmt.Sprintf("stage%d", i+1), x})
	}
	pooled := normed(g, "classifier.0", op.Flatten(op.GlobalAveragePool(x)), in)
	taps = append(taps, Tap{"pool", pooled})
	return Model{Logits: nn.Linear{Name: "classifier.2", In: in, Out: classes, Init: nn.TruncNormal(0.02)}.Apply(g, pooled), Taps: taps}
}

// block adds to x [N,width,h,w] what a depthwise convolution, layer norm and a perceptron of each pixel make of it, left out
// for a share drop of the images.
func (c *ConvNeXt) block(g *graph.Graph, name string, x *G.Node, width int, drop float64) *G.Node {
	scale := g.Param(name+".layer_scale", graph.Shape{width, 1, 1}, graph.Constant(float32(c.LayerScale)))
	y := nn.Conv{
		Name: name + ".block.0", In: width, Out: width, Kernel: 7, Pad: 3, Group: width, Bias: true, Init: nn.TruncNormal(0.02),
	}.Apply(g, x)
	y = normed(g, name+".block.2", nhwc(y), width)
	y = op.Gelu(nn.Linear{Name: name + ".block.3", In: width, Out: 4 * width, Init: nn.TruncNormal(0.02)}.Apply(g, y))
	y = nn.Linear{Name: name + ".block.5", In: 4 * width, Out: width, Init: nn.TruncNormal(0.02)}.Apply(g, y)
	y = op.Mul(scale, nchw(y))
	return op.Add(nn.StochasticDepth{Name: name + ".stochastic_depth", Share: drop}.Apply(g, y), x)
}

// normed is layer norm over the last axis.
func normed(g *graph.Graph, name string, x *G.Node, features int) *G.Node {
	return nn.LayerNorm{Name: name, Features: features, Eps: lnEps}.Apply(g, x)
}

// nhwc turns x [N,C,H,W] into [N,H,W,C], whose pixels layer norm and dense layers take, and nchw turns it back.
func nhwc(x *G.Node) *G.Node { return op.Transpose(x, 0, 2, 3, 1) }
func nchw(x *G.Node) *G.Node { return op.Transpose(x, 0, 3, 1, 2) }
