package onnx

import (
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// pool has a blocked form, but none that says where a maximum was.
func (b *blocker) pool(n *pb.NodeProto) bool {
	x := n.Input[0]
	if len(n.Output) > 1 && len(b.readers[n.Output[1]]) > 0 || !b.fills(b.shapes[x]) || b.twins[x] == "" {
		return false
	}
	return b.pair(n.Output[0], b.add(n.GetOpType(), nchwcDomain, []string{b.twins[x]}, n.Attribute...))
}

// maxPoolGrad writes the gradient of the maximum of windows that lie side by side. The elements of a window, in turn, take dy if
// they are its maximum, and else leave it to the next, of which the last takes what is left. Where an element is not finite, no
// gradient of its window is.
func (b *blocker) maxPoolGrad(n *pb.NodeProto) {
	dy, x := n.Input[0], n.Input[1]
	s, kernel := b.shapes[x], attribute(n, "kernel_shape").GetInts()
	rows, columns := int(kernel[0]), int(kernel[1])
	image, left := b.again(x), b.blocked(dy)
	largest := b.add("MaxPool", nchwcDomain, []string{image}, n.Attribute...)
	phases := make([]string, rows*columns)
	for i := range len(phases) - 1 {
		below := b.add("Sub", "", []string{b.phase(image, s, rows, columns, i), largest})
		is := b.add("HardSigmoid", "", []string{below}, whole("alpha", float32(op.Steep)), whole("beta", float32(1)))
		phases[i] = b.add("Mul", "", []string{is, left})
		left = b.add("Sub", "", []string{left, phases[i]})
	}
	phases[len(phases)-1] = left
	b.pair(n.Output[0], b.interleaved(phases, rows, columns, s))
}

// phase is every place of an image in blocks at strides of so many rows and columns, from the i-th on: by a depthwise convolution.
func (b *blocker) phase(image string, s graph.Shape, rows, columns, i int) string {
	lanes := b.lanes(s[1])
	one := graph.NewTensor(graph.Float32, lanes, 1, rows, columns)
	for at := i; at < len(one.F); at += rows * columns {
		one.F[at] = 1
	}
	filter := b.constant(encode("", filterOf(one, one.Shape, b.block, false)))
	return b.add("Conv", nchwcDomain, []string{image, filter},
		whole("kernel_shape", []int{rows, columns}), whole("strides", []int{rows, columns}), whole("group", lanes))
}
