package student

import (
	"cmp"
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// ShuffleNetV2 is the network of Ma et al. 2018 (arXiv:1807.11164, table 5) with torchvision's parameter names: a 3x3 stem of
// stride 2, a max pool, stages of blocks whose two branches are mixed by a shuffle of the channels, a last 1x1 convolution, the
// mean over the image and a dense layer.
type ShuffleNetV2 struct {
	Stem   int      `yaml:"stem"`   // channels of the stem; default 24
	Stages [][2]int `yaml:"stages"` // [c, n]: n blocks of c channels, c even, the first of stride 2
	Last   int      `yaml:"last"`   // channels of the last convolution; default 1024, shufflenetv2_x2_0 2048
	// Width multiplies the channels of the stages, which are rounded to even numbers; default 1. The paper's sizes x0.5, x1.5
	// and x2.0 are no such multiples and have channels of their own.
	Width float64 `yaml:"width"`
	Depth float64 `yaml:"depth"` // multiplies the blocks of each stage, rounded up; default 1
	Small bool    `yaml:"small"` // for images of about 32x32: a stem of stride 1 and no max pool; shufflenetv2_cifar: true
}

// shuffleNetV2 is the network of the paper whose first stage has these channels, doubled by the second and again by the third;
// small, its form for images of about 32x32.
func shuffleNetV2(stage, last int, small bool) func([2]int) Arch {
	return func([2]int) Arch {
		return &ShuffleNetV2{
			Stem: 24, Stages: [][2]int{{stage, 4}, {2 * stage, 8}, {4 * stage, 4}}, Last: last, Width: 1, Depth: 1, Small: small,
		}
	}
}

// Validate wants at least one stage, and sizes that can be built.
func (s *ShuffleNetV2) Validate() error {
	switch {
	case s.Stem < 1 || s.Stem > 4096:
		return fmt.Errorf("stem must be in 1..4096, not %d", s.Stem)
	case len(s.Stages) < 1 || len(s.Stages) > 8:
		return fmt.Errorf("stages must be 1 to 8, not %d", len(s.Stages))
	case s.Last < 1 || s.Last > 65536:
		return fmt.Errorf("last must be in 1..65536, not %d", s.Last)
	}
	for i, stage := range s.Stages {
		if c, n := stage[0], stage[1]; c < 2 || c > 4096 || c%2 != 0 || n < 1 || n > 256 {
			return fmt.Errorf("stages.%d must be [c, n] with c even and in 2..4096, n in 1..256, not %v", i, stage)
		}
	}
	return cmp.Or(multiplier("width", s.Width), multiplier("depth", s.Depth))
}

// Build describes the network; its taps are stem, before the max pool, stage2, stage3, … (the paper's first stage is the
// stem), and last [N,c,h,w], and pool [N,c].
func (s *ShuffleNetV2) Build(g *graph.Graph, x *G.Node, classes int) Model {
	in, stride := s.Stem, 2
	if s.Small {
		stride = 1
	}
	x = sequence(g, "conv1", x, nn.Conv{In: graph.ShapeOf(x)[1], Out: in, Kernel: 3, Stride: stride})
	taps := []Tap{{"stem", x}}
	if !s.Small {
		x = op.MaxPool(x, op.PoolAttrs{Kernel: [2]int{3, 3}, Strides: [2]int{2, 2}, Pads: [4]int{1, 1, 1, 1}})
	}
	for i, stage := range s.Stages {
		name := fmt.Sprintf("stage%d", i+2)
		out := max(2, 2*int(math.Round(float64(stage[0])*s.Width/2)))
		for block := range blocks(stage[1], s.Depth) {
			x = shuffleBlock(g, fmt.Sprintf("%s.%d", name, block), x, in, out, block == 0)
			in = out
		}
		taps = append(taps, Tap{name, x})
	}
	x = sequence(g, "conv5", x, nn.Conv{In: in, Out: s.Last, Kernel: 1})
	pooled := op.Flatten(op.GlobalAveragePool(x))
	taps = append(taps, Tap{"last", x}, Tap{"pool", pooled})
	return Model{Logits: nn.Linear{Name: "fc", In: s.Last, Out: classes}.Apply(g, pooled), Taps: taps}
}

// shuffleBlock splits the channels in two halves, of which one passes by and the other is changed, and shuffles them. The
// block that halves the resolution gives all channels to both of its branches.
func shuffleBlock(g *graph.Graph, name string, x *G.Node, in, out int, halve bool) *G.Node {
	half := out / 2
	if !halve {
		parts := op.Split(x, 1, half, half)
		return shuffle(op.Concat(1, parts[0], branch(g, name, parts[1], half, half, 1)))
	}
	left := sequence(g, name+".branch1", x,
		nn.Conv{In: in, Out: in, Kernel: 3, Stride: 2, Group: in},
		nn.Conv{In: in, Out: half, Kernel: 1})
	return shuffle(op.Concat(1, left, branch(g, name, x, in, half, 2)))
}

// branch is the second of a block: 1x1, depthwise 3x3 and 1x1 convolutions.
func branch(g *graph.Graph, name string, x *G.Node, in, half, stride int) *G.Node {
	return sequence(g, name+".branch2", x,
		nn.Conv{In: in, Out: half, Kernel: 1},
		nn.Conv{In: half, Out: half, Kernel: 3, Stride: stride, Group: half},
		nn.Conv{In: half, Out: half, Kernel: 1})
}

// sequence is torchvision's: each convolution keeps the image's size but for its stride and has batch norm, and all but the
// depthwise ones ReLU. Its parts are called name.0, name.1, …, the ReLUs counted.
func sequence(g *graph.Graph, name string, x *G.Node, convs ...nn.Conv) *G.Node {
	part := 0
	next := func() string { part++; return fmt.Sprintf("%s.%d", name, part-1) }
	for _, c := range convs {
		c.Name, c.Pad = next(), c.Kernel/2
		x = nn.BatchNorm{Name: next(), Channels: c.Out}.Apply(g, c.Apply(g, x))
		if c.Group == 0 {
			x = op.Relu(x)
			next()
		}
	}
	return x
}

// shuffle deals the channels of x [N,c,h,w], c even, alternately from the first and the second half.
func shuffle(x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	halves := op.Reshape(x, 0, 2, s[1]/2, s[2]*s[3])
	return op.Reshape(op.Transpose(halves, 0, 2, 1, 3), 0, s[1], s[2], s[3])
}
