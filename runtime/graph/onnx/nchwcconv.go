package onnx

import (
	"slices"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// convolution writes the blocked form of a Conv.
func (b *blocker) convolution(n *pb.NodeProto) bool {
	x, w := b.shapes[n.Input[0]], b.shapes[n.Input[1]]
	group := int(intAttribute(n, "group", 1))
	co, ci := w[0], w[1]
	depthwise := group > 1 && group == x[1] && co == x[1]
	few := group == 1 && ci < b.block // channels: read plain, written in blocks
	if !b.fills(graph.Shape{x[0], co, 1, 1}) || group > 1 && !depthwise || !few && !b.fills(x) {
		return false
	}
	if b.winogradConv(n) {
		return true
	}
	in := []string{n.Input[0]}
	if few {
		b.plain(in[0])
	} else {
		in[0] = b.blocked(in[0])
	}
	b.plain(n.Input[1])
	filter := b.filter(n.Input[1], w, group == 1 && !few)
	in = append(in, filter)
	if bias := input(n, 2); bias != "" {
		in = append(in, b.widen(bias, w[0]))
	}
	attrs := n.Attribute
	if group > 1 {
		attrs = replaced(attrs, whole("group", b.lanes(co)))
	}
	return b.pair(n.Output[0], b.add("Conv", nchwcDomain, in, attrs...))
}

// replaced is a list of attributes with one of another value.
func replaced(list []*pb.AttributeProto, with *pb.AttributeProto) []*pb.AttributeProto {
	var out []*pb.AttributeProto
	for _, a := range list {
		if a.GetName() != with.GetName() {
			out = append(out, a)
		}
	}
	return append(out, with)
}

// convGradX writes the gradient of a convolution's input at stride 1: the convolution of dy with the weights turned.
func (b *blocker) convGradX(n *pb.NodeProto) {
	w, dy := b.shapes[n.Input[0]], n.Input[1]
	if b.winograd(n, b.shapes[dy], w[1], squares) == squares {
		b.winogradGradX(n)
		return
	}
	b.plain(n.Input[0])
	if intAttribute(n, "group", 1) == 1 {
		filter := b.turned(b.taps(b.scaled(n.Input[0], dy), w), w, backwards(w[2]), backwards(w[3]))
		b.pair(n.Output[0], b.add("Conv", nchwcDomain, []string{b.blocked(dy), filter}, n.Attribute...))
		return
	}
	b.pair(n.Output[0], b.add("Conv", nchwcDomain, []string{b.blocked(dy), b.turnedEach(b.scaled(n.Input[0], dy), w)},
		replaced(n.Attribute, whole("group", b.lanes(w[0])))...))
}

// convGradXPhases writes the gradient of a convolution's input at a stride: each phase is a convolution of dy, and a Gather
// puts their places side by side.
func (b *blocker) convGradXPhases(n *pb.NodeProto) {
	w, dy, x := b.shapes[n.Input[0]], b.shapes[n.Input[1]], b.shapes[n.Output[0]]
	b.plain(n.Input[0])
	pads, strides := attribute(n, "pads").GetInts(), attribute(n, "strides").GetInts()
	axis := func(i int) []op.Phase {
		phases, _ := op.Phases(w[2+i], int(strides[i]), int(pads[i]), x[2+i], dy[2+i])
		return phases
	}
	taps := b.taps(b.scaled(n.Input[0], n.Input[1]), w)
	var phases []string
	for _, r := range axis(0) {
		for _, c := range axis(1) {
			if len(r.Taps) == 0 || len(c.Taps) == 0 {
				phases = append(phases, "")
				continue
			}
			phases = append(phases, b.add("Conv", nchwcDomain, []string{b.blocked(n.Input[1]), b.turned(taps, w, r.Taps, c.Taps)},
				whole("kernel_shape", []int{len(r.Taps), len(c.Taps)}), whole("pads", []int{r.Before, c.Before, r.After, c.After})))
		}
	}
	b.pair(n.Output[0], b.interleaved(phases, int(strides[0]), int(strides[1]), x))
}

// interleaved puts phases of an image of shape s side by side: so many rows and columns of phases, each in blocks, "" for one of
// zeros. A place h, v of the image is in the phase of row h%rows and column v%columns.
func (b *blocker) interleaved(phases []string, rows, columns int, s graph.Shape) string {
	lanes, height, width := b.lanes(s[1]), s[2]/rows, s[3]/columns
	size := lanes / b.block * height * width // places of a phase
	var parts []string
	var starts []int // of each phase among the places, −1 for one of zeros
	for _, phase := range phases {
		if phase == "" {
			starts = append(starts, -1)
			continue
		}
		starts = append(starts, len(parts)*size)
		parts = append(parts, b.reshape(phase, s[0], size, b.block))
	}
	zero := len(parts) * size
	if slices.Contains(starts, -1) {
		parts = append(parts, b.constant(encode("", graph.NewTensor(graph.Float32, s[0], 1, b.block))))
	}
	var order []int
	for block := range lanes / b.block {
		for h := range s[2] {
			for v := range s[3] {
				start := starts[h%rows*columns+v%columns]
				if start < 0 {
					order = append(order, zero)
					continue
				}
				order = append(order, start+(block*height+h/rows)*width+v/columns)
			}
		}
	}
	joined := parts[0]
	if len(parts) > 1 {
		joined = b.add("Concat", "", parts, whole("axis", 1))
	}
	return b.reshape(b.taken(joined, 1, order), s[0], lanes, s[2], s[3])
}

// convGradXApart writes the gradient of a depthwise convolution's input at a stride: dy's places are set apart among zeros, and
// convolved with the weights turned.
func (b *blocker) convGradXApart(n *pb.NodeProto) {
	w, dy, x := b.shapes[n.Input[0]], b.shapes[n.Input[1]], b.shapes[n.Output[0]]
	b.plain(n.Input[0])
	pads, strides := attribute(n, "pads").GetInts(), attribute(n, "strides").GetInts()
	lanes, places := b.lanes(x[1]), dy[2]*dy[3]
	images := x[0] * lanes / b.block
	at := func(axis, u int) int { // the place of dy along an axis, or −1 for a zero
		u += int(pads[axis]) - w[2+axis] + 1
		if s := int(strides[axis]); u >= 0 && u%s == 0 && u/s < dy[2+axis] {
			return u / s
		}
		return -1
	}
	var order []int
	for h := range x[2] + w[2] - 1 {
		for v := range x[3] + w[3] - 1 {
			if i, j := at(0, h), at(1, v); i >= 0 && j >= 0 {
				order = append(order, i*dy[3]+j)
			} else {
				order = append(order, places)
			}
		}
	}
	zeros := b.constant(encode("", graph.NewTensor(graph.Float32, images, 1, b.block)))
	rows := b.add("Concat", "", []string{b.reshape(b.blocked(n.Input[1]), images, places, b.block), zeros}, whole("axis", 1))
	apart := b.reshape(b.taken(rows, 1, order), x[0], lanes, x[2]+w[2]-1, x[3]+w[3]-1)
	b.pair(n.Output[0], b.add("Conv", nchwcDomain, []string{apart, b.turnedEach(b.scaled(n.Input[0], n.Input[1]), w)},
		whole("kernel_shape", []int{w[2], w[3]}), whole("group", lanes)))
}
