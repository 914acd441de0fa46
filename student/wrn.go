package student

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// WRN is the wide residual network of Zagoruyko and Komodakis 2016 (arXiv:1605.07146, table 1) in the form in which the
// distillation literature trains it: a 3x3 stem and three stages of n blocks, k, 2k and 4k times as wide, the second and third
// at half the resolution before; 6n+4 layers. Batch norm and ReLU come before each convolution of a block. Parameter names are
// those of github.com/xternalz/WideResNet-pytorch.
type WRN struct {
	Depth   int     `yaml:"depth"`   // 6n+4: 10, 16, 22, 28, 40; default 16
	Widen   int     `yaml:"widen"`   // k, the channels of the first stage over those of the stem; default 2
	Width   int     `yaml:"width"`   // channels of the stem; default 16
	Dropout float64 `yaml:"dropout"` // share of the elements between a block's convolutions that a training step leaves out; default 0
}

// wrn is the member of a depth and a widening, 0 for the defaults.
func wrn(size [2]int) Arch {
	w := &WRN{Depth: 16, Widen: 2, Width: 16}
	if size != [2]int{} {
		w.Depth, w.Widen = size[0], size[1]
	}
	return w
}

// Validate wants a depth of 6n+4 and sizes that can be built.
func (w *WRN) Validate() error {
	switch {
	case w.Depth < 10 || w.Depth > 1204 || (w.Depth-4)%6 != 0:
		return fmt.Errorf("depth must be 6n+4 (10, 16, 22, 28, 40, …), not %d", w.Depth)
	case w.Widen < 1 || w.Widen > 64:
		return fmt.Errorf("widen must be in 1..64, not %d", w.Widen)
	case w.Width < 1 || w.Width > 4096:
		return fmt.Errorf("width must be in 1..4096, not %d", w.Width)
	case !(w.Dropout >= 0 && w.Dropout < 1):
		return fmt.Errorf("dropout must be at least 0 and below 1, not %v", w.Dropout)
	}
	return nil
}

// Build describes the network; its taps are stem, stage1, stage2 and stage3 [N,c,h,w], sums without an activation after them,
// last, the third after batch norm and ReLU, and pool [N,4·k·width].
func (w *WRN) Build(g *graph.Graph, x *G.Node, classes int) Model {
	in := w.Width
	x = nn.Conv{Name: "conv1", In: graph.ShapeOf(x)[1], Out: in, Kernel: 3, Pad: 1, Init: nn.KaimingNormal}.Apply(g, x)
	taps := []Tap{{"stem", x}}
	for stage := range 3 {
		out, stride := w.Widen*w.Width<<stage, min(stage+1, 2)
		for block := range (w.Depth - 4) / 6 {
			x = w.block(g, fmt.Sprintf("block%d.layer.%d", stage+1, block), x, in, out, stride)
			in, stride = out, 1
		}
		taps = append(taps, Tap{fmt.Sprintf("stage%d", stage+1), x})
	}
	x = op.Relu(nn.BatchNorm{Name: "bn1", Channels: in}.Apply(g, x))
	pooled := op.Flatten(op.GlobalAveragePool(x))
	taps = append(taps, Tap{"last", x}, Tap{"pool", pooled})
	return Model{Logits: nn.Linear{Name: "fc", In: in, Out: classes, Init: nn.Uniform(in)}.Apply(g, pooled), Taps: taps}
}

// block adds to x its convolutions. Where the width changes, x is normalised first for both, and a 1x1 convolution brings it
// to the new width.
func (w *WRN) block(g *graph.Graph, name string, x *G.Node, in, out, stride int) *G.Node {
	y := op.Relu(nn.BatchNorm{Name: name + ".bn1", Channels: in}.Apply(g, x))
	normed := y
	y = nn.Conv{Name: name + ".conv1", In: in, Out: out, Kernel: 3, Stride: stride, Pad: 1, Init: nn.KaimingNormal}.Apply(g, y)
	y = op.Relu(nn.BatchNorm{Name: name + ".bn2", Channels: out}.Apply(g, y))
	y = nn.Dropout{Name: name + ".dropout", Share: w.Dropout}.Apply(g, y)
	y = nn.Conv{Name: name + ".conv2", In: out, Out: out, Kernel: 3, Pad: 1, Init: nn.KaimingNormal}.Apply(g, y)
	if in != out {
		x = nn.Conv{Name: name + ".convShortcut", In: in, Out: out, Kernel: 1, Stride: stride, Init: nn.KaimingNormal}.Apply(g, normed)
	}
	return op.Add(x, y)
}
