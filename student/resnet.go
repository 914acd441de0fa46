package student

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// ResNet is the CIFAR network of He et al. 2016 (arXiv:1512.03385, section 4.2): a 3x3 stem and three stages of n basic
// blocks, of widths w, 2w, 4w, the second and third at half the resolution before; 6n+2 layers.
type ResNet struct {
	Depth int `yaml:"depth"` // 6n+2: 8, 14, 20, 32, 44, 56, 110
	Width int `yaml:"width"` // channels of the first stage; default 16
	// Shortcut, where the shape changes: "A" takes every second pixel and pads the channels with zeros, without
	// parameters; "B" is a 1x1 convolution with batch norm. Default "A".
	Shortcut string `yaml:"shortcut"`
}

// Validate wants a depth of 6n+2, a positive even width and a known shortcut.
func (r *ResNet) Validate() error {
	switch {
	case r.Depth < 8 || r.Depth > 1202 || (r.Depth-2)%6 != 0:
		return fmt.Errorf("depth must be 6n+2 (8, 14, 20, …), not %d", r.Depth)
	case r.Width < 2 || r.Width > 4096 || r.Width%2 != 0:
		return fmt.Errorf("width must be even and in 2..4096, not %d", r.Width)
	case r.Shortcut != "A" && r.Shortcut != "B":
		return fmt.Errorf("shortcut must be A or B, not %q", r.Shortcut)
	}
	return nil
}

// Build describes the network; its taps are stem, layer1, layer2 and layer3 [N,c,h,w] and pool [N,4w].
func (r *ResNet) Build(g *graph.Graph, x *G.Node, classes int) Model {
	c := graph.ShapeOf(x)[1]
	x = nn.Conv{Name: "conv1", In: c, Out: r.Width, Kernel: 3, Pad: 1}.Apply(g, x)
	x = op.Relu(nn.BatchNorm{Name: "bn1", Channels: r.Width}.Apply(g, x))
	taps := []Tap{{"stem", x}}
	in := r.Width
	for stage := range 3 {
		out, stride := r.Width<<stage, min(stage+1, 2)
		for block := range (r.Depth - 2) / 6 {
			x = r.block(g, fmt.Sprintf("layer%d.%d", stage+1, block), x, in, out, stride)
			in, stride = out, 1
		}
		taps = append(taps, Tap{fmt.Sprintf("layer%d", stage+1), x})
	}
	pooled := op.Flatten(op.GlobalAveragePool(x))
	taps = append(taps, Tap{"pool", pooled})
	return Model{Logits: nn.Linear{Name: "linear", In: in, Out: classes}.Apply(g, pooled), Taps: taps}
}

func (r *ResNet) block(g *graph.Graph, name string, x *G.Node, in, out, stride int) *G.Node {
	y := nn.Conv{Name: name + ".conv1", In: in, Out: out, Kernel: 3, Stride: stride, Pad: 1}.Apply(g, x)
	y = op.Relu(nn.BatchNorm{Name: name + ".bn1", Channels: out}.Apply(g, y))
	y = nn.Conv{Name: name + ".conv2", In: out, Out: out, Kernel: 3, Pad: 1}.Apply(g, y)
	y = nn.BatchNorm{Name: name + ".bn2", Channels: out}.Apply(g, y)
	return op.Relu(op.Add(y, r.shortcut(g, name+".shortcut", x, in, out, stride)))
}

func (r *ResNet) shortcut(g *graph.Graph, name string, x *G.Node, in, out, stride int) *G.Node {
	if in == out && stride == 1 {
		return x
	}
	if r.Shortcut == "B" {
		x = nn.Conv{Name: name + ".0", In: in, Out: out, Kernel: 1, Stride: stride}.Apply(g, x)
		return nn.BatchNorm{Name: name + ".1", Channels: out}.Apply(g, x)
	}
	x = op.Slice(x, op.Range{Axis: 2, Step: stride}, op.Range{Axis: 3, Step: stride})
	before := (out - in) / 2
	return op.Pad(x, []int{0, before, 0, 0}, []int{0, out - in - before, 0, 0})
}
