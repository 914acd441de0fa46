package nn

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// ConvNorm is torchvision's Conv2dNormActivation: an odd square convolution that keeps the image's size but for its stride,
// batch norm and an activation. Its parts are called Name.0 and Name.1.
type ConvNorm struct {
	Name            string
	In, Out, Kernel int
	Stride, Group   int                     // zero: 1
	Act             func(x *G.Node) *G.Node // nil: none
}

// Apply turns x [N,In,H,W] into [N,Out,⌈H/Stride⌉,⌈W/Stride⌉].
func (l ConvNorm) Apply(g *graph.Graph, x *G.Node) *G.Node {
	x = Conv{
		Name: l.Name + ".0", In: l.In, Out: l.Out, Kernel: l.Kernel, Stride: l.Stride, Pad: l.Kernel / 2, Group: l.Group,
		Init: KaimingNormal,
	}.Apply(g, x)
	x = BatchNorm{Name: l.Name + ".1", Channels: l.Out}.Apply(g, x)
	if l.Act == nil {
		return x
	}
	return l.Act(x)
}
