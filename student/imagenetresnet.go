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

// ImageNetResNet is the network of He et al. 2016 (arXiv:1512.03385, table 1) with torchvision's parameter names: a 7x7 stem
// of stride 2, a max pool, layers of residual blocks, each from the second on at half the resolution and twice the width
// before, the mean over the image and a dense layer. A bottleneck's stride is in its 3x3 convolution, as in torchvision.
type ImageNetResNet struct {
	Blocks []int `yaml:"blocks"` // of each layer: resnet18 2, 2, 2, 2; resnet34 and resnet50 3, 4, 6, 3
	// Bottleneck makes a block of 1x1, 3x3 and 1x1 convolutions, the last four times as wide, instead of two of 3x3.
	Bottleneck bool    `yaml:"bottleneck"` // resnet50: true
	Width      float64 `yaml:"width"`      // multiplies channels, which are rounded to multiples of 8; default 1
	Depth      float64 `yaml:"depth"`      // multiplies the blocks of each layer, rounded up; default 1
	Small      bool    `yaml:"small"`      // for images of about 32x32: a 3x3 stem of stride 1 and no max pool; resnet18_cifar: true
}

// imageNetResNet is a member of the family; small, its form for images of about 32x32.
func imageNetResNet(small, bottleneck bool, blocks ...int) func([2]int) Arch {
	return func([2]int) Arch {
		return &ImageNetResNet{Blocks: slices.Clone(blocks), Bottleneck: bottleneck, Width: 1, Depth: 1, Small: small}
	}
}

// Validate wants at least one layer, and sizes that can be built.
func (r *ImageNetResNet) Validate() error {
	if len(r.Blocks) < 1 || len(r.Blocks) > 8 {
		return fmt.Errorf("blocks must be those of 1 to 8 layers, not of %d", len(r.Blocks))
	}
	for i, n := range r.Blocks {
		if n < 1 || n > 256 {
			return fmt.Errorf("blocks.%d must be in 1..256, not %d", i, n)
		}
	}
	return cmp.Or(multiplier("width", r.Width), multiplier("depth", r.Depth))
}

// Build describes the network; its taps are stem, before the max pool, and layer1, layer2, … [N,c,h,w], and pool [N,c].
func (r *ImageNetResNet) Build(g *graph.Graph, x *G.Node, classes int) Model {
	stem := nn.Conv{Name: "conv1", In: graph.ShapeOf(x)[1], Out: channels(64, r.Width), Kernel: 7, Stride: 2, Pad: 3, Init: nn.KaimingNormal}
	if r.Small {
		stem.Kernel, stem.Stride, stem.Pad = 3, 1, 1
	}
	in := stem.Out
	x = op.Relu(nn.BatchNorm{Name: "bn1", Channels: in}.Apply(g, stem.Apply(g, x)))
	taps := []Tap{{"stem", x}}
	if !r.Small {
		x = op.MaxPool(x, op.PoolAttrs{Kernel: [2]int{3, 3}, Strides: [2]int{2, 2}, Pads: [4]int{1, 1, 1, 1}})
	}
	for i, n := range r.Blocks {
		planes, layer, stride := channels(64<<i, r.Width), fmt.Sprintf("layer%d", i+1), min(i+1, 2)
		out := planes
		if r.Bottleneck {
			out = 4 * planes
		}
		for block := range blocks(n, r.Depth) {
			x = r.block(g, fmt.Sprintf("%s.%d", layer, block), x, in, planes, out, stride)
			in, stride = out, 1
		}
		taps = append(taps, Tap{layer, x})
	}
	pooled := op.Flatten(op.GlobalAveragePool(x))
	taps = append(taps, Tap{"pool", pooled})
	return Model{Logits: nn.Linear{Name: "fc", In: in, Out: classes}.Apply(g, pooled), Taps: taps}
}

// block adds to x, where the shape changes through a 1x1 convolution with batch norm, its convolutions of planes channels.
func (r *ImageNetResNet) block(g *graph.Graph, name string, x *G.Node, in, planes, out, stride int) *G.Node {
	y := x
	convs := []nn.Conv{{In: in, Out: planes, Kernel: 3, Stride: stride}, {In: planes, Out: out, Kernel: 3}}
	if r.Bottleneck {
		convs = []nn.Conv{{In: in, Out: planes, Kernel: 1}, {In: planes, Out: planes, Kernel: 3, Stride: stride}, {In: planes, Out: out, Kernel: 1}}
	}
	for i, c := range convs {
		c.Name, c.Pad, c.Init = fmt.Sprintf("%s.conv%d", name, i+1), c.Kernel/2, nn.KaimingNormal
		y = nn.BatchNorm{Name: fmt.Sprintf("%s.bn%d", name, i+1), Channels: c.Out}.Apply(g, c.Apply(g, y))
		if i < len(convs)-1 {
			y = op.Relu(y)
		}
	}
	if in != out || stride != 1 {
		x = nn.Conv{Name: name + ".downsample.0", In: in, Out: out, Kernel: 1, Stride: stride, Init: nn.KaimingNormal}.Apply(g, x)
		x = nn.BatchNorm{Name: name + ".downsample.1", Channels: out}.Apply(g, x)
	}
	return op.Relu(op.Add(y, x))
}
