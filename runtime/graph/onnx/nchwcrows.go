package onnx

import (
	"fmt"
	"slices"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// A matrix of many rows, one for each token of each image, is images of its columns for channels, whose places are the rows: a
// product with weights is then a convolution of one place. Only the wide values between two products are kept so, which elementwise
// operators pass on; what is narrow is laid out in blocks for a product, and comes plain out of it.
//
// Some rows are a sample. What elementwise operators read or make is in a value for each sample, small enough for a cache to hold it
// from one operator to the next; what only products read is in one.

// areRows reports whether values of a shape may be in blocks as rows: [R,D], [N,T,D] or [N,H,W,D].
func (b *blocker) areRows(s graph.Shape) bool {
	if len(s) < 2 || len(s) > 4 {
		return false
	}
	width := s[len(s)-1]
	return width%b.block == 0 && s.Size()/width%b.block == 0
}

// A convolution reads a sample once for each few blocks of channels that it makes, from a cache if the sample has few rows.
const (
	sampleRows = 64 // at most so many times a block, unless there were more samples then than maxSamples: with wide vectors comes more cache
	maxSamples = 16
)

// imageOf is the shape [N,D,H,W] of the images that rows of a shape are.
func (b *blocker) imageOf(s graph.Shape) graph.Shape {
	width := s[len(s)-1]
	samples, rows := 1, s.Size()/width
	for rows > sampleRows*b.block && samples < maxSamples && rows%(2*b.block) == 0 {
		samples, rows = 2*samples, rows/2
	}
	return graph.Shape{samples, width, b.block, rows / b.block}
}

// values is how many values v is to be in: one for each sample if an elementwise operator reads it, else one.
func (b *blocker) values(v string) int {
	for _, n := range b.readers[v] {
		switch {
		case n == nil:
		case b.added[n] || b.keepsRows(n):
			if k := b.values(n.Output[0]); k > 1 {
				return k
			}
		case elementwiseOps[n.GetOpType()] && b.shapes[n.Output[0]].Equal(b.shapes[v]):
			return b.imageOf(b.shapes[v])[0]
		}
	}
	return 1
}

// keepsRows reports whether a node is a Reshape from rows to rows of the same width.
func (b *blocker) keepsRows(n *pb.NodeProto) bool {
	if n.GetOpType() != "Reshape" {
		return false
	}
	from, to := b.shapes[n.Input[0]], b.shapes[n.Output[0]]
	return b.areRows(from) && b.areRows(to) && from[len(from)-1] == to[len(to)-1]
}

// source is the value whose twins v shares: what a Reshape keeps as rows, or a bias was added to before; "" where there is none.
func (b *blocker) source(v string) string {
	switch n := b.origins[v]; {
	case n == nil:
		return ""
	case b.added[n]:
		return b.unbiased(n)
	case b.keepsRows(n):
		return n.Input[0]
	}
	return ""
}

// alone reports whether v has one reader, and nothing else reads what shares its twins.
func (b *blocker) alone(v string) bool {
	for ; v != ""; v = b.source(v) {
		if len(b.readers[v]) != 1 {
			return false
		}
	}
	return true
}

// held is v in blocks as far as it is laid out.
func (b *blocker) held(v string) []string {
	if from := b.source(v); b.rows[v] == nil && from != "" {
		return b.held(from)
	}
	return b.rows[v]
}

// inRows makes values hold v, which is written plain only if something asks for it.
func (b *blocker) inRows(v string, values []string) bool {
	b.rows[v], b.owed[v] = values, true
	return true
}

// rowsOf is v in blocks, in so many values, or in more if it is held in more. It is laid out now if it was not.
func (b *blocker) rowsOf(v string, values int) []string {
	switch list := b.rows[v]; {
	case list == nil && b.source(v) != "":
		b.rows[v] = b.rowsOf(b.source(v), values)
	case list == nil:
		b.rows[v] = b.rowsInBlocks(v, values)
	case len(list) < values:
		b.rows[v] = b.split(list[0], 0, values, values)
	}
	return b.rows[v]
}

// rowsInBlocks lays out rows in blocks, in so many values.
func (b *blocker) rowsInBlocks(v string, values int) []string {
	s := b.imageOf(b.shapes[v])
	var all string
	if p := b.piecesOf(v); p.inOrder() {
		b.plain(v)
		all = b.add("ReorderInput", nchwcDomain, []string{b.reshape(v, s[0], s[2], s[3], s[1])}, whole("channels_last", 1))
	} else {
		order := permutation([]int{s[0], s[2] * s[3], s[1] / b.block}, 0, 2, 1)
		all = b.imageOfPieces(p.picked(order), s)
	}
	return b.split(all, 0, s[0], values)
}

// split cuts an axis of so many elements into parts.
func (b *blocker) split(v string, axis, size, parts int) []string {
	if parts == 1 {
		return []string{v}
	}
	first := b.add("Split", "", []string{v, b.vector(slices.Repeat([]int{size / parts}, parts)...)}, whole("axis", axis))
	n := b.makers[first]
	for i := 1; i < parts; i++ {
		n.Output = append(n.Output, fmt.Sprintf("%s_output_%d", n.GetName(), i))
	}
	for _, out := range n.Output {
		b.makers[out] = n
	}
	return n.Output
}

// joined is the rows of v in one value.
func (b *blocker) joined(v string) string {
	list := b.rows[v]
	if len(list) == 1 {
		return list[0]
	}
	if b.joins[list[0]] == "" {
		b.joins[list[0]] = b.add("Concat", "", list, whole("axis", 0))
	}
	return b.joins[list[0]]
}

// rowsPlain undoes rowsInBlocks. A ReorderOutput would have but one thread.
func (b *blocker) rowsPlain(v string) {
	s := b.imageOf(b.shapes[v])
	all := b.reshape(b.joined(v), s.Size()/b.block, b.block)
	b.reshape(b.permuted(all, []int{s[0], s[1] / b.block, s[2] * s[3]}, 0, 2, 1), b.shapes[v]...)
}

// reshaping keeps rows of the same width in blocks.
func (b *blocker) reshaping(n *pb.NodeProto) bool {
	list := b.rows[n.Input[0]]
	return list != nil && b.keepsRows(n) && b.inRows(n.Output[0], list)
}

// elementwiseRows writes an elementwise node on rows of the output's shape and scalars, each sample by itself.
func (b *blocker) elementwiseRows(n *pb.NodeProto) bool {
	s, values := b.shapes[n.Output[0]], 0
	if !b.areRows(s) {
		return false
	}
	for _, v := range n.Input {
		if b.shapes[v].Equal(s) {
			values = max(values, len(b.rows[v]))
		} else if b.shapes[v].Size() != 1 {
			return false
		}
	}
	if values == 0 {
		return false
	}
	for _, v := range n.Input {
		if b.shapes[v].Equal(s) {
			values = max(values, len(b.held(v)))
		}
	}
	list := make([]string, values)
	for i := range list {
		in := slices.Clone(n.Input)
		for k, v := range in {
			if b.shapes[v].Equal(s) {
				in[k] = b.rowsOf(v, values)[i]
			}
		}
		list[i] = b.add(n.GetOpType(), n.GetDomain(), in, n.Attribute...)
	}
	return b.inRows(n.Output[0], list)
}

// rowsMatMul writes x·w or x·wᵀ, with a bias if there is one.
func (b *blocker) rowsMatMul(n *pb.NodeProto) {
	x, w, y := n.Input[0], n.Input[1], n.Output[0]
	in, co := b.shapes[x][1], b.shapes[y][1]
	bias := input(n, 2)
	if add, v := b.biasAfter(y); bias == "" && add != nil {
		b.added[add], bias = true, v
	}
	list := b.rows[x]
	switch {
	case list != nil:
	case in > co: // a wide one: the gradient of w reads it, too
		list = b.rowsOf(x, b.values(x))
	default:
		list = b.rowsInBlocks(x, b.values(y))
	}
	b.plain(w)
	var filter string
	if intAttribute(n, "transB", 0) == 1 {
		filter = b.filter(w, graph.Shape{co, in, 1, 1}, true)
	} else {
		turned := b.permuted(b.reshape(w, in*co/b.block, b.block), []int{in, co / b.block}, 1, 0)
		filter = b.reshape(turned, co, in, 1, 1)
	}
	inputs := []string{"", filter}
	if bias != "" {
		b.plain(bias)
		inputs = append(inputs, bias)
	}
	var out []string
	for _, image := range list {
		in := slices.Clone(inputs)
		in[0] = image
		out = append(out, b.add("Conv", nchwcDomain, in, whole("kernel_shape", []int{1, 1})))
	}
	b.inRows(y, out)
	if co < in {
		b.plain(y)
		delete(b.rows, y)
	}
}

// biasAfter is the node that adds one number for each column to rows that nothing else reads, and the name of these, which no node
// makes; nil where there is none.
func (b *blocker) biasAfter(rows string) (add *pb.NodeProto, bias string) {
	if len(b.readers[rows]) != 1 || b.readers[rows][0] == nil {
		return nil, ""
	}
	n, s := b.readers[rows][0], b.shapes[rows]
	if b.keepsRows(n) {
		return b.biasAfter(n.Output[0])
	}
	for _, v := range n.Input {
		if is(n, "Add") && b.shapes[v].Equal(s[len(s)-1:]) && b.origins[v] == nil {
			return n, v
		}
	}
	return nil, ""
}

// unbiased is the input of a bias's addition that is not the bias.
func (b *blocker) unbiased(add *pb.NodeProto) string {
	if len(b.shapes[add.Input[0]]) == 1 {
		return add.Input[1]
	}
	return add.Input[0]
}

// addedBias passes on rows to which the product before has added the bias already.
func (b *blocker) addedBias(n *pb.NodeProto) bool {
	x := b.unbiased(n)
	if list := b.rows[x]; list != nil {
		return b.inRows(n.Output[0], list)
	}
	b.reshape(x, b.shapes[x]...)
	b.name(n.Output[0])
	return true
}

// rowsWeights writes aᵀ·b. As it lies in memory, a sample of the wide one is the filter of a convolution that takes rows for
// channels; its image is the narrow one, whose rows are turned, a block at a time.
func (b *blocker) rowsWeights(n *pb.NodeProto) {
	wide, narrow := n.Input[0], n.Input[1]
	out := b.shapes[n.Output[0]]
	swapped := out[0] < out[1]
	if swapped {
		wide, narrow = narrow, wide
	}
	filters := b.rowsOf(wide, b.values(wide))
	s, to, columns := b.imageOf(b.shapes[wide]), b.shapes[wide][1], b.shapes[narrow][1]
	samples, places, rows := s[0]/len(filters), s[2]*s[3], b.shapes[narrow][0]
	b.plain(narrow)
	image := b.add("ReorderInput", nchwcDomain, []string{b.reshape(narrow, rows/b.block, b.block, columns, 1)})
	images := b.split(b.reshape(image, 1, rows, 1, columns), 1, rows, len(filters))
	var dw string
	for i, filter := range filters {
		dw = b.overPlacesOf(filter, images[i], samples, to, places, dw)
	}
	if samples > 1 {
		dw = b.rowSum(dw, samples, to*columns, 1)
	}
	b.reshape(b.weightsOf(dw, to, columns, swapped), out...)
	b.name(n.Output[0])
}

// sumRows sums rows, where they are in blocks; else in two stages, of which the first sums so many parts of them.
func (b *blocker) sumRows(n *pb.NodeProto) {
	x := n.Input[0]
	s := b.shapes[x]
	width := s[len(s)-1]
	if b.rows[x] == nil && b.willBeRows(x) {
		b.rowsOf(x, b.values(x))
	}
	if list := b.rows[x]; list != nil {
		image := b.imageOf(s)
		samples := image[0] / len(list)
		var sums []string
		for _, v := range list {
			sum := b.overPlaces("ReduceSum", v, graph.Shape{samples, width, image[2], image[3]})
			sums = append(sums, b.reshape(sum, samples, width))
		}
		all := sums[0]
		if len(sums) > 1 {
			all = b.add("Concat", "", sums, whole("axis", 0))
		}
		b.reduce("ReduceSum", all, 0)
	} else {
		b.plain(x)
		rows := s.Size() / width
		parts := int(intAttribute(n, "parts", 1))
		b.reduce("ReduceSum", b.reduce("ReduceSum", b.reshape(x, parts, rows/parts, width), 1), 0)
	}
	b.name(n.Output[0])
}

// willBeRows reports whether a product is to read v, a wide one, in blocks.
func (b *blocker) willBeRows(v string) bool {
	return slices.ContainsFunc(b.readers[v], func(n *pb.NodeProto) bool {
		switch {
		case n == nil:
			return false
		case n.GetOpType() == "RowsMatMul":
			return n.Input[0] == v && b.shapes[v][1] > b.shapes[n.Output[0]][1]
		}
		return b.keepsRows(n) && b.willBeRows(n.Output[0])
	})
}
