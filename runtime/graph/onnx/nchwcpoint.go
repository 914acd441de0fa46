package onnx

import (
	"cmp"
	"slices"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// operands are the inputs of an elementwise node in blocks: twins of images that have the output's shape, and scalars as they
// are. It reports false where there is another input, or no image in blocks yet that would make blocks worth while.
func (b *blocker) operands(n *pb.NodeProto) ([]string, bool) {
	s, some := b.shapes[n.Output[0]], false
	if !b.fills(s) {
		return nil, false
	}
	for _, in := range n.Input {
		image := b.shapes[in].Equal(s)
		if !image && b.shapes[in].Size() != 1 {
			return nil, false
		}
		some = some || image && b.twins[in] != ""
	}
	if !some {
		return nil, false
	}
	in := slices.Clone(n.Input)
	for i, v := range in {
		if b.shapes[v].Equal(s) {
			in[i] = b.blocked(v)
		}
	}
	return in, true
}

// again is the twin of v for a gradient to read. Where an affine pass over another image made v, which a batch norm keeps for
// its own gradient, v is made again then, so that its memory is free from the forward pass to the backward one. ONNX Runtime
// orders nodes by what they need, so the second making must need a gradient: a zero that is computed of one.
//
// A pass that also added an image, as at the end of a residual block, is made again from that image. Of a chain of such blocks
// every second is kept, so that no making again takes more than one other.
func (b *blocker) again(v string) string {
	b.blocked(v)
	if b.remade[v] != "" || b.kept[v] {
		return cmp.Or(b.remade[v], b.twins[v])
	}
	for _, r := range b.readers[v] {
		if r != nil && r.GetDomain() == graph.BlockedDomain && r.GetOpType() == "ConvGradW" && r.Input[0] == v && b.twins[r.Input[1]] != "" {
			return b.remake(v, b.zero(b.twins[r.Input[1]]))
		}
	}
	return b.twins[v]
}

// zero is computed of an image in blocks, a vector of one element.
func (b *blocker) zero(dy string) string {
	one := b.add("Slice", "", []string{dy, b.vector(0, 0, 0, 0), b.vector(1, 1, 1, 1)})
	return b.add("Clip", "", []string{b.reshape(one, 1), b.scalar(0), b.scalar(0)})
}

// remake writes the node that made the twin of v once more, to need a zero, or keeps the twin where it cannot.
func (b *blocker) remake(v, zero string) string {
	made := b.makers[b.twins[v]]
	if !pointwise(made) || len(made.Input) < 3 || made.Input[2] == "" {
		b.kept[v] = true
		return b.twins[v]
	}
	in := []string{made.Input[0], made.Input[1], ""}
	if len(made.Input) > 3 {
		image := b.summed[made.Output[0]]
		switch other := b.makers[b.twins[image]]; {
		case b.remade[image] != "":
			in = append(in, b.remade[image])
		case pointwise(other) && len(other.Input) == 3:
			in = append(in, b.remake(image, zero))
		default:
			b.kept[image] = true
			in = append(in, made.Input[3])
		}
	}
	in[2] = b.add("Add", "", []string{made.Input[2], zero})
	b.remade[v] = b.add("Conv", nchwcDomain, in, made.Attribute...)
	b.sums[b.remade[v]] = b.shapes[v]
	return b.remade[v]
}

// pointwise reports whether a node is what affine writes.
func pointwise(n *pb.NodeProto) bool {
	return n != nil && n.GetOpType() == "Conv" && n.GetDomain() == nchwcDomain && intAttribute(n, "group", 1) > 1 &&
		slices.Equal(attribute(n, "kernel_shape").GetInts(), []int64{1, 1})
}

// step is the mask of an activation's gradient where it is steep: elementwise, on what is made again.
func (b *blocker) step(n *pb.NodeProto) bool {
	v := n.Input[0]
	if !b.fills(b.shapes[v]) || b.twins[v] == "" {
		return b.elementwise(n)
	}
	return b.pair(n.Output[0], b.add("HardSigmoid", "", []string{b.again(v)}, n.Attribute...))
}

// elementwise writes a node of elementwiseOps. Where channels do not fill the blocks it must make something finite of zeros.
func (b *blocker) elementwise(n *pb.NodeProto) bool {
	if in, ok := b.operands(n); ok {
		return b.pair(n.Output[0], b.add(n.GetOpType(), n.GetDomain(), in, n.Attribute...))
	}
	return b.elementwiseRows(n)
}

// open is the convolutions that made the twin of v, if nothing but the node being written reads it and they have no activation yet:
// then that node can become part of them.
func (b *blocker) open(v string) []*pb.NodeProto {
	twins := b.rows[v]
	if twins == nil {
		twins = []string{b.twins[v]}
	}
	if !b.owed[v] || !b.alone(v) {
		return nil
	}
	var convs []*pb.NodeProto
	for _, twin := range twins {
		ends := b.stripped[twin].ends
		if ends == nil {
			ends = []*pb.NodeProto{b.makers[twin]}
		}
		for _, n := range ends {
			if n == nil || n.GetOpType() != "Conv" || n.GetDomain() != nchwcDomain || attribute(n, "activation") != nil {
				return nil
			}
		}
		convs = append(convs, ends...)
	}
	return convs
}

// relu becomes part of the convolution before it.
func (b *blocker) relu(n *pb.NodeProto) bool {
	return b.activation(n, whole("activation", "Relu"))
}

// clip becomes part of the convolution before it.
func (b *blocker) clip(n *pb.NodeProto) bool {
	lo, some := b.floats[input(n, 1)]
	hi, both := b.floats[input(n, 2)]
	if !some || !both {
		return b.elementwise(n)
	}
	return b.activation(n, whole("activation", "Clip"), whole("activation_params", []float32{lo, hi}))
}

func (b *blocker) activation(n *pb.NodeProto, attrs ...*pb.AttributeProto) bool {
	v := n.Input[0]
	convs := b.open(v)
	if convs == nil {
		return b.elementwise(n)
	}
	for _, conv := range convs {
		conv.Attribute = append(conv.Attribute, attrs...)
	}
	if b.rows[v] != nil {
		return b.inRows(n.Output[0], b.rows[v])
	}
	return b.pair(n.Output[0], b.twins[v])
}

// addition of an image becomes part of the convolution that made the other; a number for each channel is a convolution.
func (b *blocker) addition(n *pb.NodeProto) bool {
	if b.added[n] {
		return b.addedBias(n)
	}
	if x, v, ok := b.perChannel(n); ok {
		return b.pair(n.Output[0], b.affine(b.twins[x], b.shapes[x], "", v, ""))
	}
	in, ok := b.operands(n)
	if !ok {
		return b.elementwiseRows(n)
	}
	for i, v := range n.Input {
		convs := b.open(v)
		if convs == nil {
			continue
		}
		conv := convs[0]
		if len(conv.Input) > 3 || in[0] == in[1] || !b.shapes[n.Input[1-i]].Equal(b.shapes[v]) {
			continue
		}
		if parts := b.stripped[b.twins[v]].parts; parts != nil {
			return b.pair(n.Output[0], b.addedToParts(parts, in[1-i], b.shapes[v]))
		}
		for len(conv.Input) < 3 {
			conv.Input = append(conv.Input, "")
		}
		conv.Input = append(conv.Input, in[1-i])
		b.summed[conv.Output[0]], b.sums[conv.Output[0]] = n.Input[1-i], b.shapes[v]
		// The other image may have been made after the convolution.
		b.last(conv)
		return b.pair(n.Output[0], conv.Output[0])
	}
	return b.pair(n.Output[0], b.add("Add", "", in))
}

// multiplication with a number for each channel is a convolution.
func (b *blocker) multiplication(n *pb.NodeProto) bool {
	if x, v, ok := b.perChannel(n); ok {
		return b.pair(n.Output[0], b.affine(b.twins[x], b.shapes[x], v, "", ""))
	}
	return b.elementwise(n)
}

// division is elementwise only by a number: channels that do not fill the blocks are zeros.
func (b *blocker) division(n *pb.NodeProto) bool {
	return b.shapes[n.Input[1]].Size() == 1 && b.elementwise(n)
}

// perChannel splits the inputs of a node into an image x that has a twin and a vector v in blocks, which the node broadcasts
// over x's places.
func (b *blocker) perChannel(n *pb.NodeProto) (x, v string, ok bool) {
	s := b.shapes[n.Output[0]]
	if !b.fills(s) {
		return "", "", false
	}
	for i, x := range n.Input {
		v := n.Input[1-i]
		if vs := b.shapes[v]; b.twins[x] != "" && b.shapes[x].Equal(s) && (vs.Equal(graph.Shape{s[1], 1, 1}) || vs.Equal(graph.Shape{1, s[1], 1, 1})) {
			b.plain(v)
			return x, b.widen(b.reshape(v, s[1]), s[1]), true
		}
	}
	return "", "", false
}

// affine multiplies each channel of an image in blocks by its scale, adds its bias and an image: a depthwise convolution with
// a kernel of one, for which ONNX Runtime has a kernel that reads and writes once. Scale and bias fill the blocks; no scale
// is ones, no bias and no image zeros.
func (b *blocker) affine(x string, s graph.Shape, scale, bias, image string, more ...*pb.AttributeProto) string {
	lanes := b.lanes(s[1])
	in := []string{x, ""}
	if scale == "" {
		ones := graph.NewTensor(graph.Float32, lanes, 1, 1, 1)
		for i := range ones.F {
			ones.F[i] = 1
		}
		in[1] = b.constant(encode("", ones))
	} else {
		in[1] = b.reshape(scale, lanes, 1, 1, 1)
	}
	if bias != "" || image != "" {
		in = append(in, bias)
	}
	if image != "" {
		in = append(in, image)
	}
	y := b.add("Conv", nchwcDomain, in, append(more, whole("kernel_shape", []int{1, 1}), whole("group", lanes))...)
	b.sums[y] = s
	return y
}

// globalAveragePool gives what is in blocks and plain alike, having one place for each channel.
func (b *blocker) globalAveragePool(n *pb.NodeProto) bool {
	s := b.shapes[n.Input[0]]
	if !b.fills(s) || b.twins[n.Input[0]] == "" {
		return false
	}
	b.narrow(b.add("GlobalAveragePool", nchwcDomain, []string{b.twins[n.Input[0]]}), 1, s[1])
	b.name(n.Output[0])
	return true
}

// reduceSum over the places of an image.
func (b *blocker) reduceSum(n *pb.NodeProto) bool {
	x := n.Input[0]
	s := b.shapes[x]
	if !b.fills(s) || b.twins[x] == "" || !slices.Equal(b.ints[input(n, 1)], []int64{2, 3}) {
		return false
	}
	lanes := b.lanes(s[1])
	b.reshape(b.narrow(b.reshape(b.overPlaces("ReduceSum", b.twins[x], s), s[0], lanes), 1, s[1]), b.shapes[n.Output[0]]...)
	b.name(n.Output[0])
	return true
}

// overPlaces reduces an image in blocks over its places, to [N,C/b,b].
func (b *blocker) overPlaces(reduce, x string, s graph.Shape) string {
	return b.reduce(reduce, b.reshape(x, s[0], b.lanes(s[1])/b.block, s[2]*s[3], b.block), 2)
}

// fewPlaces of an image make its reduction over them slow, which takes each block of channels by itself: 3.1 ms where samples first
// takes 0.3, for 20 of 960 channels of 2×2.
const fewPlaces = 64

// overChannels reduces an image in blocks over all but its channels, by ReduceSum or ReduceMean, to a vector that fills the blocks.
func (b *blocker) overChannels(reduce, x string, s graph.Shape) string {
	lanes, places := b.lanes(s[1]), s[2]*s[3]
	if places > fewPlaces {
		return b.reshape(b.reduce(reduce, b.overPlaces(reduce, x, s), 0), lanes)
	}
	weight := 1.0
	if reduce == "ReduceMean" {
		weight /= float64(s[0])
	}
	samples := b.reshape(b.rowSum(x, s[0], lanes*places, weight), lanes/b.block, places, b.block)
	return b.reshape(b.reduce(reduce, samples, 1), lanes)
}

// rowSum takes x for so many rows, and sums them times a weight, to [1,columns]: by a product, since a ReduceSum of a few long rows
// takes many times as long.
func (b *blocker) rowSum(x string, rows, columns int, weight float64) string {
	row := graph.NewTensor(graph.Float32, 1, rows)
	for i := range row.F {
		row.F[i] = float32(weight)
	}
	return b.add("MatMul", "", []string{b.constant(encode("", row)), b.reshape(x, rows, columns)})
}

// reduce is a reduction along an axis, which ReduceSum takes as an input since opset 13 and the others do since 18.
func (b *blocker) reduce(reduce, x string, axis int) string {
	if reduce == "ReduceSum" {
		return b.add(reduce, "", []string{x, b.vector(axis)}, whole("keepdims", 0))
	}
	return b.add(reduce, "", []string{x}, whole("axes", []int{axis}), whole("keepdims", 0))
}
