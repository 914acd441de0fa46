package onnx

import (
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// convGradW writes the gradient of a convolution's weights as a blocked convolution itself. In
//
//	dW[k,c,i,j] = Σ dy[n,k,h,w] · x[n,c,h·s+i,w·s+j]   over n, h, w
//
// dy is the kernel, of H×W taps at a distance of the stride, and the samples are the channels that it sums over. The channels
// of x lie along the width, between its columns, so that a kernel moved by one place meets the next channel: all taps of all
// channels are places of one image, and none is copied.
//
// Where the weights are few, each half of the samples gives a sum of its own. Of two threads each then reads the half that it
// wrote, which matters where they share no cache; and of a kernel of three rows neither gets two.
//
// Where dy is large, as a kernel, so do some of its rows: see rowsAtOnce.
func (b *blocker) convGradW(n *pb.NodeProto) {
	x, dy := b.shapes[n.Input[0]], b.shapes[n.Input[1]]
	if intAttribute(n, "group", 1) > 1 {
		b.depthwiseGradW(n, x, dy)
		return
	}
	if b.winograd(n, x, dy[1], squares) == squares {
		b.winogradGradW(n)
		return
	}
	w := b.shapes[n.Output[0]]
	kh, kw, lanes := w[2], w[3], b.lanes(dy[1])
	g := b.gradGeometry(n, x, dy)
	if kh == 1 && kw == 1 && g.top == 0 && g.left == 0 && g.bottom == 0 && g.right <= 0 && b.fills(x) {
		b.pointGradW(n, x, dy, g.stride)
		return
	}
	dw, width := "", b.lanes(x[1])
	if rows := b.rowsAtOnce(x, dy, w, g); rows < dy[2] {
		dw = b.rowsGradW(n, x, dy, g, rows)
	} else {
		dw, width = b.wholeGradW(n, x, dy, g)
	}
	// [K/b,kh·kw,width,b] to [K,width,kh·kw], again as images.
	if kh*kw > 1 {
		dw = b.transpose(b.reshape(dw, lanes/b.block, kh*kw, width, b.block), 0, 2, 1, 3)
	}
	dw = b.add("ReorderOutput", nchwcDomain, []string{b.reshape(dw, lanes/b.block, b.block, width*kh*kw, 1)}, whole("channels", b.block))
	dw = b.narrow(b.reshape(dw, lanes, width, kh, kw), 0, dy[1])
	if width > x[1] {
		dw = b.narrow(dw, 1, x[1])
	}
	b.scaled(dw, n.Input[1])
	b.name(n.Output[0])
}

// wholeGradW is dW as [K/b,kh·kw,width,b], with so many channels of x, by a kernel of all of dy's rows.
func (b *blocker) wholeGradW(n *pb.NodeProto, x, dy graph.Shape, g geometry) (dw string, width int) {
	image, width := b.columns(n, x, &g)
	image = b.pad(image, []int{0, 0, 0, g.left * width}, []int{0, 0, -g.crop, g.right * width})
	image = b.add("ReorderInput", nchwcDomain, []string{image})
	parts, w := 1, b.shapes[n.Output[0]]
	if x[0]%(2*b.block) == 0 && 4*w.Size() <= dy.Size() {
		parts = 2
	}
	dw = b.add("Conv", nchwcDomain, []string{image, b.kernel(n.Input[1], dy, parts, dy[2])}, whole("kernel_shape", []int{dy[2], dy[3]}),
		whole("dilations", []int{g.stride[0], g.stride[1] * width}), whole("pads", []int{g.top, 0, g.bottom, 0}), whole("group", parts))
	if parts > 1 {
		dw = b.rowSum(dw, parts, b.lanes(dy[1])*w[2]*w[3]*width, 1)
	}
	return dw, width
}

// atOnce is how many bytes of a kernel may be gone through for each six places of a result, which the cache of a core is to hold.
const atOnce = 1 << 19

// rowsAtOnce is how many of dy's rows are to be one kernel: all, unless four blocks of its channels, which are convolved at once, have
// more than twice what the cache holds; then what it holds. But not below four, as each kernel needs some rows of x that the next
// needs, too, nor as few as give more sums than dy has elements.
func (b *blocker) rowsAtOnce(x, dy, w graph.Shape, g geometry) int {
	row := 4 * min(4*b.block, b.lanes(dy[1])) * b.block * dy[3] // of one block of samples
	rows := dy[2]
	if !b.fills(x) || g.crop > 0 || g.right < 0 || rows*row <= 2*atOnce {
		return rows
	}
	for chunks := 2; rows*row > atOnce && 4*chunks <= dy[2] && x[0]/b.block*chunks*w.Size() <= dy.Size(); chunks++ {
		if dy[2]%chunks == 0 {
			rows = dy[2] / chunks
		}
	}
	return rows
}

// rowsGradW is wholeGradW by a kernel for some rows of dy and one block of samples, each a group of its own. The rows of x that a
// kernel meets are copied for it.
func (b *blocker) rowsGradW(n *pb.NodeProto, x, dy graph.Shape, g geometry, rows int) string {
	image := b.affine(b.again(n.Input[0]), x, "", "", "", whole("pads", []int{g.top, g.left, g.bottom, g.right}))
	w, width, chunks := b.shapes[n.Output[0]], b.lanes(x[1]), dy[2]/rows
	high, wide := x[2]+g.top+g.bottom, x[3]+g.left+g.right
	met := high - (dy[2]-rows)*g.stride[0]
	var order []int
	for chunk := range chunks {
		for place := range met * wide {
			for block := range width / b.block {
				order = append(order, (block*high+chunk*rows*g.stride[0])*wide+place)
			}
		}
	}
	image = b.taken(b.reshape(image, x[0], width/b.block*high*wide, b.block), 1, order)
	image = b.add("ReorderInput", nchwcDomain, []string{b.reshape(image, 1, x[0], chunks*met, wide*width)})
	groups := x[0] / b.block * chunks
	dw := b.add("Conv", nchwcDomain, []string{b.reshape(image, 1, x[0]*chunks, met, wide*width), b.kernel(n.Input[1], dy, x[0]/b.block, rows)},
		whole("kernel_shape", []int{rows, dy[3]}), whole("dilations", []int{g.stride[0], g.stride[1] * width}), whole("group", groups))
	return b.rowSum(dw, groups, b.lanes(dy[1])*w[2]*w[3]*width, 1)
}

// pointGradW is convGradW for a kernel of one. At a stride the places that were read are picked first.
func (b *blocker) pointGradW(n *pb.NodeProto, x, dy graph.Shape, stride [2]int) {
	image := b.again(n.Input[0])
	if stride != [2]int{1, 1} {
		x = graph.Shape{x[0], x[1], dy[2], dy[3]}
		image = b.affine(image, x, "", "", "", whole("strides", stride[:]))
	}
	lanes, width := b.lanes(dy[1]), b.lanes(x[1])
	var dw string
	if places := x[2] * x[3]; places%b.block == 0 && min(lanes, width) <= places {
		dw = b.overEachSample(b.blocked(n.Input[1]), image, x[0], lanes, width, places)
	} else {
		dw = b.overSamples(b.kernel(n.Input[1], dy, 1, dy[2]), image, x, lanes)
	}
	dw = b.reshape(dw, lanes, width, 1, 1)
	b.scaled(b.narrow(b.narrow(dw, 0, dy[1]), 1, x[1]), n.Input[1])
	b.name(n.Output[0])
}

// overSamples sums dy·x to [K,C] as convGradW does. The blocks of x lie below one another, since no window crosses from one to the
// next.
func (b *blocker) overSamples(kernel, image string, x graph.Shape, lanes int) string {
	blocks := b.lanes(x[1]) / b.block
	image = b.reshape(image, 1, x[0], blocks*x[2], x[3]*b.block)
	image = b.add("ReorderInput", nchwcDomain, []string{image})
	dw := b.add("Conv", nchwcDomain, []string{image, kernel}, whole("kernel_shape", []int{x[2], x[3]}),
		whole("dilations", []int{1, b.block}), whole("strides", []int{x[2], 1}))
	// [K/b,blocks,b,b] to [K,C].
	tiles := lanes / b.block * blocks
	dw = b.add("ReorderOutput", nchwcDomain, []string{b.reshape(dw, tiles, b.block, b.block, 1)}, whole("channels", b.block))
	return b.transpose(b.reshape(dw, lanes/b.block, blocks, b.block, b.block), 0, 2, 1, 3)
}

// overEachSample sums dy·x to [K,C] over the places of each sample, then over samples. As they lie in memory, a sample's blocks of K
// channels are the filter of a convolution that takes places for channels, and gives K. Its image is C columns, for which blocks
// of x are turned: so of the two the one with more channels is the filter, and none is copied for it.
func (b *blocker) overEachSample(dy, x string, samples, k, c, places int) string {
	filter, image, to, columns := dy, x, k, c
	if k < c {
		filter, image, to, columns = x, dy, c, k
	}
	groups, blocks := places/b.block, columns/b.block
	image = b.add("ReorderInput", nchwcDomain, []string{b.reshape(image, samples*blocks*groups, b.block, b.block, 1)})
	if blocks > 1 {
		var order []int
		for group := range groups {
			for block := range blocks {
				order = append(order, block*groups+group)
			}
		}
		image = b.taken(b.reshape(image, samples, blocks*groups, b.block*b.block), 1, order)
	}
	each := b.overPlacesOf(filter, b.reshape(image, 1, samples*places, 1, columns), samples, to, places, "")
	return b.weightsOf(b.rowSum(each, samples, to*columns, 1), to, columns, k < c)
}

// overPlacesOf is filter·image for each sample, [N,to/b,columns,b], and what it is added to, if not "". The filter is in blocks
// [N,to/b,places,b]; of the image places are channels, [N,places/b,columns,b].
func (b *blocker) overPlacesOf(filter, image string, samples, to, places int, sum string) string {
	in := []string{image, b.reshape(filter, samples*to, places, 1, 1)}
	if sum != "" {
		in = append(in, "", sum)
	}
	return b.add("Conv", nchwcDomain, in, whole("kernel_shape", []int{1, 1}), whole("group", samples))
}

// weightsOf takes [to/b,columns,b] to weights, [to,columns] or, swapped, [columns,to].
func (b *blocker) weightsOf(dw string, to, columns int, swapped bool) string {
	if swapped {
		return b.transpose(b.reshape(dw, to/b.block, columns, b.block), 1, 0, 2)
	}
	return b.add("ReorderOutput", nchwcDomain, []string{b.reshape(dw, to/b.block, b.block, columns, 1)}, whole("channels", b.block))
}

// columns lays the images x out as [1,N,H,W·width], width channels between one column and the next. Zeros that g wants beside
// them are there already, if a convolution could put them there: a Pad has but one thread.
func (b *blocker) columns(n *pb.NodeProto, x graph.Shape, g *geometry) (image string, width int) {
	if !b.fills(x) {
		b.plain(n.Input[0])
		last := b.products(b.reshape(n.Input[0], x[0], x[1], x[2]*x[3]), b.unit(x[1]), true, false) // a Transpose has but one thread
		return b.reshape(last, 1, x[0], x[2], x[3]*x[1]), x[1]
	}
	width = b.lanes(x[1])
	image, w := b.again(n.Input[0]), x[3]
	if g.left+g.right > 0 && g.right >= 0 && g.crop == 0 {
		image = b.affine(image, x, "", "", "", whole("pads", []int{0, g.left, 0, g.right}))
		w += g.left + g.right
		g.left, g.right = 0, 0
	}
	if blocks := width / b.block; blocks > 1 {
		var order []int
		for place := range x[2] * w {
			for block := range blocks {
				order = append(order, block*x[2]*w+place)
			}
		}
		image = b.taken(b.reshape(image, x[0], len(order), b.block), 1, order)
	}
	return b.reshape(image, 1, x[0], x[2], w*width), width
}

// unit is the unit matrix.
func (b *blocker) unit(n int) string {
	t := graph.NewTensor(graph.Float32, n, n)
	for i := range n {
		t.F[i*n+i] = 1
	}
	return b.constant(encode("", t))
}

// kernel lays dy [N,K,H,W] out as a filter from N channels to K; in parts, from as many groups of the channels to K each; and of each
// some rows after the other.
func (b *blocker) kernel(name string, dy graph.Shape, parts, rows int) string {
	blocks, places := b.lanes(dy[1])/b.block, dy[2]*dy[3]
	samples, taps := dy[0]/parts, rows*dy[3]
	var order []int
	for part := range parts {
		for first := 0; first < places; first += taps {
			for k := range blocks {
				for sample := part * samples; sample < (part+1)*samples; sample += b.block {
					for p := range taps {
						for i := range b.block {
							order = append(order, ((sample+i)*blocks+k)*places+first+p)
						}
					}
				}
			}
		}
	}
	filter := b.taken(b.reshape(b.blocked(name), dy[0]*blocks*places, b.block), 0, order)
	return b.reshape(filter, parts*dy[2]/rows*blocks*b.block, samples, rows, dy[3])
}

// depthwiseGradW takes each sample and channel for a channel of one image, which dy convolves by itself, and sums over samples.
func (b *blocker) depthwiseGradW(n *pb.NodeProto, x, dy graph.Shape) {
	k := attribute(n, "kernel_shape").GetInts()
	taps, lanes := int(k[0]*k[1]), b.lanes(x[1])
	g := b.gradGeometry(n, x, dy)
	dilations := attribute(n, "dilations").GetInts()
	image := b.reshape(b.again(n.Input[0]), 1, x[0]*lanes, x[2], x[3])
	pads := []int{g.top, g.left, g.bottom, g.right}
	if g.right < 0 || g.crop > 0 {
		flat := b.reshape(image, x[0]*lanes/b.block, x[2], x[3]*b.block)
		flat = b.pad(flat, []int{0, 0, 0}, []int{0, -g.crop, min(g.right, 0) * b.block})
		image = b.reshape(flat, 1, x[0]*lanes, x[2]-g.crop, x[3]+min(g.right, 0))
		pads[3] = max(g.right, 0)
	}
	filter := b.reshape(b.blocked(n.Input[1]), x[0]*lanes, 1, dy[2], dy[3])
	dw := b.add("Conv", nchwcDomain, []string{image, filter}, whole("kernel_shape", []int{dy[2], dy[3]}), whole("group", x[0]*lanes),
		whole("dilations", g.stride[:]), whole("strides", []int{int(dilations[0]), int(dilations[1])}), whole("pads", pads))
	dw = b.reshape(b.rowSum(dw, x[0], lanes*taps, 1), lanes/b.block, taps, b.block)
	dw = b.reshape(b.transpose(dw, 0, 2, 1), lanes, 1, int(k[0]), int(k[1]))
	b.scaled(b.narrow(dw, 0, x[1]), n.Input[1])
	b.name(n.Output[0])
}

// geometry is how an image must be padded so that dy, taken for a kernel, has as many places on it as there were taps.
type geometry struct {
	top, left, bottom, right int // right may be negative
	crop                     int // rows at the bottom that no window of the convolution reached
	stride                   [2]int
}

func (b *blocker) gradGeometry(n *pb.NodeProto, x, dy graph.Shape) geometry {
	ints := func(name string, i int) int { return int(attribute(n, name).GetInts()[i]) }
	g := geometry{top: ints("pads", 0), left: ints("pads", 1)}
	var after [2]int
	for i := range 2 {
		g.stride[i] = ints("strides", i)
		need := (dy[2+i]-1)*g.stride[i] + (ints("kernel_shape", i)-1)*ints("dilations", i) + 1
		after[i] = need - x[2+i] - ints("pads", i)
	}
	g.bottom, g.crop, g.right = max(after[0], 0), max(-after[0], 0), after[1]
	return g
}
