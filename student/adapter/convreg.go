package adapter

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// ConvReg is the regressor of hints (Romero et al. 2015, arXiv:1412.6550, section 2.2) with the sizes that the later
// comparisons of methods gave it: a student's map [N,C,H,W] becomes the teacher's [N,C',H',W'] by
//
//	H = 2H'   a 3x3 convolution of stride 2
//	2H = H'   a 4x4 transposed convolution of stride 2
//	H ≥ H'    a convolution without padding, of kernel 1+H−H'
//
// then batch norm and ReLU. Width and height must call for the same. The result is never negative: it is for a teacher's map
// after its ReLU.
type ConvReg struct{}

// largestKernel bounds the side of the third kernel, whose weights grow with its square: it serves images of 32x32.
const largestKernel = 32

// Validate has nothing to check.
func (*ConvReg) Validate() error { return nil }

// Build describes the convolution, name.conv, and the batch norm, name.bn.
func (*ConvReg) Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node {
	p := pairOf("convreg", name, student, teacher)
	p.want(len(p.s) == 4 && len(p.t) == 4, "maps")
	h, w := p.s[2], p.s[3]
	conv := nn.Conv{Name: name + ".conv", In: p.s[1], Out: p.t[1], Bias: true}
	var x *G.Node
	switch kernel := 1 + h - p.t[2]; {
	case h == 2*p.t[2] && w == 2*p.t[3]:
		conv.Kernel, conv.Stride, conv.Pad = 3, 2, 1
		x = conv.Apply(g, student)
	case 2*h == p.t[2] && 2*w == p.t[3]:
		x = nn.ConvTranspose{Name: conv.Name, In: conv.In, Out: conv.Out, Kernel: 4, Stride: 2, Pad: 1}.Apply(g, student)
	case kernel < 1 || kernel != 1+w-p.t[3]:
		p.fail("it halves a map, doubles it, or takes as much off its height as off its width; use the adapter conv, which takes any size")
	case kernel > largestKernel:
		p.fail("it would take a kernel of %[1]dx%[1]d, above %[2]dx%[2]d; use the adapter conv, which takes any size", kernel, largestKernel)
	default:
		conv.Kernel = kernel
		x = conv.Apply(g, student)
	}
	return op.Relu(nn.BatchNorm{Name: name + ".bn", Channels: p.t[1]}.Apply(g, x))
}
