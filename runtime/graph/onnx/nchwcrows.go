package onnx

import (
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// A matrix of many rows, one for each token of each image, is images of its columns for channels, whose places are the rows: a
// product with weights is then a convolution of one place. Only the wide values between two products have twins, which elementwise
// operators pass on; what is narrow is laid out in blocks for a product, and comes plain out of it.

// areRows reports whether values of a shape may have twins as rows, [R,D] or [N,T,D].
func (b *blocker) areRows(s graph.Shape) bool {
	if len(s) != 2 && len(s) != 3 {
		return false
	}
	width := s[len(s)-1]
	return width%b.block == 0 && s.Size()/width%b.block == 0
}

// sampleRows is how many rows a sample has at most. A convolution reads a sample once for each few blocks of channels that it
// makes, which the cache then still holds.
const sampleRows = 512

// imageOf is the shape [N,D,H,W] of the images that rows of a shape are.
func (b *blocker) imageOf(s graph.Shape) graph.Shape {
	width := s[len(s)-1]
	samples, rows := 1, s.Size()/width
	for rows > sampleRows && rows%(2*b.block) == 0 {
		samples, rows = 2*samples, rows/2
	}
	return graph.Shape{samples, width, b.block, rows / b.block}
}

// rowsInBlocks lays out rows in blocks.
func (b *blocker) rowsInBlocks(v string) string {
	s := b.imageOf(b.shapes[v])
	if p := b.piecesOf(v); !p.inOrder() {
		order := permutation([]int{s[0], s[2] * s[3], s[1] / b.block}, 0, 2, 1)
		return b.reshape(b.gathered(p.picked(order)), s...)
	}
	b.plain(v)
	return b.add("ReorderInput", nchwcDomain, []string{b.reshape(v, s[0], s[2], s[3], s[1])}, whole("channels_last", 1))
}

// rowsPlain undoes rowsInBlocks, to a shape. A ReorderOutput would have but one thread.
func (b *blocker) rowsPlain(twin string, to graph.Shape) string {
	s := b.imageOf(to)
	pieces := b.reshape(twin, s.Size()/b.block, b.block)
	return b.reshape(b.permuted(pieces, []int{s[0], s[1] / b.block, s[2] * s[3]}, 0, 2, 1), to...)
}

// reshaping keeps rows of the same width in blocks.
func (b *blocker) reshaping(n *pb.NodeProto) bool {
	from, to := b.shapes[n.Input[0]], b.shapes[n.Output[0]]
	if b.twins[n.Input[0]] == "" || !b.areRows(from) || !b.areRows(to) || from[len(from)-1] != to[len(to)-1] {
		return false
	}
	return b.pair(n.Output[0], b.twins[n.Input[0]])
}

// rowsMatMul writes x·w, or x·wᵀ + bias.
func (b *blocker) rowsMatMul(n *pb.NodeProto) {
	x, w, out := n.Input[0], n.Input[1], b.shapes[n.Output[0]]
	in, co := b.shapes[x][1], out[1]
	image := b.twins[x]
	switch {
	case image != "":
	case in > co: // a wide one: the gradient of w reads it, too
		image = b.blocked(x)
	default:
		image = b.rowsInBlocks(x)
	}
	b.plain(w)
	var filter string
	if intAttribute(n, "transB", 0) == 1 {
		filter = b.filter(w, graph.Shape{co, in, 1, 1}, true)
	} else {
		turned := b.permuted(b.reshape(w, in*co/b.block, b.block), []int{in, co / b.block}, 1, 0)
		filter = b.reshape(turned, co, in, 1, 1)
	}
	inputs := []string{image, filter}
	if bias := input(n, 2); bias != "" {
		b.plain(bias)
		inputs = append(inputs, bias)
	}
	y := b.add("Conv", nchwcDomain, inputs, whole("kernel_shape", []int{1, 1}))
	if co > in {
		b.pair(n.Output[0], y)
		return
	}
	b.rowsPlain(y, out)
	b.name(n.Output[0])
}

// rowsWeights writes aᵀ·b. As it lies in memory, a sample of the wide one is the filter of a convolution that takes rows for
// channels; its image is the narrow one, whose rows are turned, a block at a time.
func (b *blocker) rowsWeights(n *pb.NodeProto) {
	filter, image := n.Input[0], n.Input[1]
	out := b.shapes[n.Output[0]]
	swapped := out[0] < out[1]
	if swapped {
		filter, image = image, filter
	}
	b.plain(image)
	s, to, columns := b.imageOf(b.shapes[filter]), b.shapes[filter][1], b.shapes[image][1]
	places := s[2] * s[3]
	turned := b.add("ReorderInput", nchwcDomain, []string{b.reshape(image, s[0]*places/b.block, b.block, columns, 1)})
	dw := b.sumOfEach(b.blocked(filter), turned, s[0], to, columns, places, swapped)
	b.reshape(dw, out...)
	b.name(n.Output[0])
}

// sumRows sums rows, where they are in blocks; else in two stages, of which the first sums so many parts of them.
func (b *blocker) sumRows(n *pb.NodeProto) {
	x := n.Input[0]
	s := b.shapes[x]
	if b.twins[x] != "" && b.areRows(s) {
		b.overChannels("ReduceSum", b.twins[x], b.imageOf(s))
	} else {
		b.plain(x)
		width := s[len(s)-1]
		rows := s.Size() / width
		parts := int(intAttribute(n, "parts", 1))
		b.reduce("ReduceSum", b.reduce("ReduceSum", b.reshape(x, parts, rows/parts, width), 1), 0)
	}
	b.name(n.Output[0])
}
