package student

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// CNN is a plain convolutional network: a stage for each width of 3x3 convolution, batch norm, ReLU and 2x2 max pool (left
// out once the image is one pixel wide), then the mean over the image and a dense layer.
type CNN struct {
	Widths []int `yaml:"widths"` // channels of each stage; default 32, 64, 128
}

// Validate wants at least one width, all positive.
func (c *CNN) Validate() error { return positive("widths", c.Widths) }

// Build describes the network; its taps are stage1, stage2, … [N,c,h,w] and pool [N,c].
func (c *CNN) Build(g *graph.Graph, x *G.Node, classes int) Model {
	var taps []Tap
	in := graph.ShapeOf(x)[1]
	for i, out := range c.Widths {
		x = nn.Conv{Name: fmt.Sprintf("conv%d", i+1), In: in, Out: out, Kernel: 3, Pad: 1}.Apply(g, x)
		x = op.Relu(nn.BatchNorm{Name: fmt.Sprintf("bn%d", i+1), Channels: out}.Apply(g, x))
		if s := graph.ShapeOf(x); s[2] > 1 && s[3] > 1 {
			x = op.MaxPool(x, op.PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}})
		}
		taps = append(taps, Tap{fmt.Sprintf("stage%d", i+1), x})
		in = out
	}
	pooled := op.Flatten(op.GlobalAveragePool(x))
	taps = append(taps, Tap{"pool", pooled})
	return Model{Logits: nn.Linear{Name: "linear", In: in, Out: classes}.Apply(g, pooled), Taps: taps}
}
