package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Conv is a square convolution from In to Out channels.
type Conv struct {
	Name            string
	In, Out, Kernel int
	Stride          int // zero: 1
	Pad             int // zeros on every side
	Group           int // zero: 1
	Bias            bool
	Init            graph.Init // of the weight, the bias then starting at 0; nil: PyTorch's default for both
}

// Apply convolves x [N,In,H,W] into [N,Out,H',W'].
func (l Conv) Apply(g *graph.Graph, x *G.Node) *G.Node {
	group := max(l.Group, 1)
	weight, bias := initials(l.Init, l.In/group*l.Kernel*l.Kernel)
	w := g.Param(l.Name+".weight", graph.Shape{l.Out, l.In / group, l.Kernel, l.Kernel}, weight)
	var b *G.Node
	if l.Bias {
		b = g.Param(l.Name+".bias", graph.Shape{l.Out}, bias)
	}
	return op.Conv(x, w, b, op.ConvAttrs{
		Strides: [2]int{l.Stride, l.Stride}, Pads: [4]int{l.Pad, l.Pad, l.Pad, l.Pad}, Group: group,
	})
}
