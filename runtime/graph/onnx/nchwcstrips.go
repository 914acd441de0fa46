package onnx

import (
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// Winograd's algorithm along the rows alone, F(4×1, 3×1): a kernel of 3×3 is three columns of three taps, which meet strips of six
// rows at any column of the image,
//
//	y = Aᵀ [Σ (G g) ⊙ (Bᵀ d)]   over channels and the kernel's columns
//
// takes half the multiply-adds of the plain sum, where squares take a quarter. But images stay in blocks, and each step is a
// convolution of them: Bᵀ and Aᵀ are depthwise, for what becomes one row of each strip at a time, and the products are groups of one
// of 1×3. So it pays for fewer channels. In training it would not: the passes between the steps there wait for memory. A value that is
// not finite makes its strips so.

// stripped is an image some samples at a time, for which a cache holds what lies between the steps. Strips, activations and sums of it
// are in the same parts; another reader has the parts put together.
type stripped struct {
	parts []string
	ends  []*pb.NodeProto // the convolutions that made the parts; nil where an image was split
}

const (
	maxParts = 16
	// stripPlaces is the least number of places of a part's products for each channel: each part reads the filters anew, and the more
	// channels, the less time lies between the steps.
	stripPlaces = 16
)

// partsOf is how many parts an image is to be in, for a cache to hold one.
func partsOf(s graph.Shape) int {
	parts := 1
	for s.Size()/parts > cached && parts < maxParts && s[0]%(2*parts) == 0 && s[0]/(2*parts)*s[2]/tileOut*s[3] >= stripPlaces*s[1] {
		parts *= 2
	}
	return parts
}

// inParts is an image in blocks in so many parts: as it was made, or split.
func (b *blocker) inParts(x string, samples, parts int) []string {
	if len(b.stripped[x].parts) != parts {
		b.stripped[x] = stripped{parts: b.split(x, 0, samples, parts)}
	}
	return b.stripped[x].parts
}

// together is an image of its parts.
func (b *blocker) together(of stripped) string {
	y := of.parts[0]
	if len(of.parts) > 1 {
		y = b.add("Concat", "", of.parts, whole("axis", 0))
	}
	b.stripped[y] = of
	return y
}

// strips convolves an image in blocks, of shape s, by weights [K,C,3,3] that are given, and adds a bias, if not "".
func (b *blocker) strips(x string, s graph.Shape, w graph.Tensor, bias string) string {
	kernels := stripKernels(w)
	filters := b.layOut(filterOf(kernels, kernels.Shape, b.block, true))
	if bias != "" {
		bias = b.biasOfStrips(bias)
	}
	var y stripped
	parts := b.inParts(x, s[0], partsOf(s))
	for _, part := range parts {
		out, ends := b.stripsOf(part, graph.Shape{s[0] / len(parts), s[1], s[2], s[3]}, filters, bias, w.Shape[0])
		y.parts, y.ends = append(y.parts, out), append(y.ends, ends...)
	}
	return b.together(y)
}

// stripsOf is strips of some samples, to so many channels, and the convolutions that end it.
func (b *blocker) stripsOf(x string, s graph.Shape, filters, bias string, to int) (y string, ends []*pb.NodeProto) {
	var in, out []string
	for _, row := range transforms.b {
		in = append(in, b.add("Conv", nchwcDomain, []string{x, b.column(row[:], s[1])}, whole("kernel_shape", []int{tileIn, 1}),
			whole("strides", []int{tileOut, 1}), whole("pads", []int{1, 0, 1, 0}), whole("group", s[1])))
	}
	operands := []string{b.add("Concat", "", in, whole("axis", 1)), filters}
	if bias != "" {
		operands = append(operands, bias)
	}
	products := b.add("Conv", nchwcDomain, operands,
		whole("kernel_shape", []int{1, 3}), whole("pads", []int{0, 1, 0, 1}), whole("group", tileIn))
	high := to / b.block * s[2] / tileOut // rows of all blocks of a product
	products = b.reshape(products, s[0], b.block, tileIn, high*s[3])
	for _, row := range transforms.a {
		each := b.add("Conv", nchwcDomain, []string{products, b.column(row[:], b.block)},
			whole("kernel_shape", []int{tileIn, 1}), whole("group", b.block))
		ends = append(ends, b.makers[each])
		out = append(out, b.reshape(each, s[0]*high, 1, s[3]*b.block))
	}
	return b.reshape(b.add("Concat", "", out, whole("axis", 1)), s[0], to, s[2], s[3]), ends
}

// addedToParts is the sum of an image in parts and another, both in blocks and of shape s.
func (b *blocker) addedToParts(parts []string, image string, s graph.Shape) string {
	var y stripped
	each := graph.Shape{s[0] / len(parts), s[1], s[2], s[3]}
	for i, other := range b.inParts(image, s[0], len(parts)) {
		sum := b.affine(parts[i], each, "", "", other)
		y.parts, y.ends = append(y.parts, sum), append(y.ends, b.makers[sum])
	}
	return b.together(y)
}

// column is the filter of a depthwise convolution by one column, the same for each of so many channels.
func (b *blocker) column(taps []float64, channels int) string {
	t := graph.NewTensor(graph.Float32, channels, 1, len(taps), 1)
	for i := range t.F {
		t.F[i] = float32(taps[i%len(taps)])
	}
	return b.constant(encode("", filterOf(t, t.Shape, b.block, false)))
}

// biasOfStrips is what each of the products, one after the other, must take for all places of a strip to take a bias [K]. Place i is
// the sum of products times the i-th powers of their points, of which the Lagrange polynomials' values at 1 make 1.
func (b *blocker) biasOfStrips(bias string) string {
	at := graph.NewTensor(graph.Float32, tileIn, 1)
	for i, p := range points {
		value := 1.0
		for j, q := range points {
			if i != j {
				value *= (1 - q) / (p - q)
			}
		}
		at.F[i] = float32(value)
	}
	return b.reshape(b.add("MatMul", "", []string{b.constant(encode("", at)), b.reshape(bias, 1, -1)}), -1)
}

// stripKernels are G g of the columns of weights [K,C,3,3], as [6·K,C,1,3].
func stripKernels(w graph.Tensor) graph.Tensor {
	pairs := w.Shape[0] * w.Shape[1]
	out := graph.NewTensor(graph.Float32, tileIn*w.Shape[0], w.Shape[1], 1, 3)
	for i, row := range transforms.g {
		for at := range pairs {
			for column := range 3 {
				sum := 0.0
				for tap, g := range row {
					sum += g * float64(w.F[at*9+tap*3+column])
				}
				out.F[(i*pairs+at)*3+column] = float32(sum)
			}
		}
	}
	return out
}
