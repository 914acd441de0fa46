package onnx

import (
	"math"
	"slices"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// Winograd's convolution F(4×4, 3×3), of Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", eq. 8: with
// tiles d of 6×6 places, which overlap, and a kernel g,
//
//	y = Aᵀ [Σ (G g Gᵀ) ⊙ (Bᵀ d B)] A   over channels
//
// takes 36 products for each pair of channels and 16 places of the result, where the sum over taps takes 144.
//
// Tiles are never gathered. An image [H,W,N,C] is a matrix of H rows, and one product with the Bᵀ of every tile below one
// another, [6·tiles,H], transforms all its columns; so do W's. The zeros in these matrices stand for what a tile does not reach,
// the padding among it. They are multiplied in vain, which costs less than another pass over memory would.
//
// Gradients are the transposed forms: with dY = A dy Aᵀ, which both need,
//
//	dd = B [(G g Gᵀ) ⊙ dY] Bᵀ,  dg = Gᵀ [Σ dY ⊙ (Bᵀ d B)] G   over tiles
//
// A value that is not finite makes its whole image so, and not its neighbourhood alone.
//
// There is a form for fewer channels, in nchwcstrips.go.

const (
	tileOut = 4 // places of a result that a tile gives along an axis
	tileIn  = 6 // places that it takes for them, and products
)

// points are where the polynomials are taken that the algorithm multiplies, beside infinity. These lose half of what the usual 0,
// ±1, ±2 lose to rounding; on how much the choice matters: Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of
// Winograd Convolution for Deep Neural Networks".
var points = [tileIn - 1]float64{0, 0.625, -0.625, 1.5, -1.5}

// transforms are Aᵀ, G and Bᵀ, by Toom and Cook.
var transforms = func() (m struct {
	a [tileOut][tileIn]float64
	g [tileIn][3]float64
	b [tileIn][tileIn]float64
}) {
	for j, p := range points {
		polynomial, scale := []float64{1}, 1.0
		for _, q := range points {
			if q != p {
				polynomial, scale = times(polynomial, q), scale*(p-q)
			}
		}
		copy(m.b[j][:], polynomial)
		for i, power := 0, 1.0; i < tileOut; i, power = i+1, power*p {
			m.a[i][j] = power
			if i < 3 {
				m.g[j][i] = power / scale
			}
		}
	}
	all := []float64{1}
	for _, q := range points {
		all = times(all, q)
	}
	copy(m.b[tileIn-1][:], all)
	m.a[tileOut-1][tileIn-1], m.g[tileIn-1][2] = 1, 1
	return m
}()

// times is a polynomial, lowest power first, times x − q.
func times(polynomial []float64, q float64) []float64 {
	out := make([]float64, len(polynomial)+1)
	for i, c := range polynomial {
		out[i] -= q * c
		out[i+1] += c
	}
	return out
}

// winogradForm is one of Winograd's algorithms for kernels of 3×3.
type winogradForm uint8

const (
	notWinograd winogradForm = iota
	squares                  // F(4×4, 3×3)
	strips                   // F(4×1, 3×1): see nchwcstrips.go
)

// winograd says in which of these forms a convolution from images x to channels, or its gradient, is to be Winograd's.
func (b *blocker) winograd(n *pb.NodeProto, x graph.Shape, channels int, forms ...winogradForm) winogradForm {
	for name, want := range map[string][]int64{"kernel_shape": {3, 3}, "pads": {1, 1, 1, 1}, "strides": {1, 1}, "dilations": {1, 1}} {
		if !slices.Equal(attribute(n, name).GetInts(), want) {
			return notWinograd
		}
	}
	if !b.fills(x) || x[1]%b.block+channels%b.block > 0 || intAttribute(n, "group", 1) > 1 {
		return notWinograd
	}
	best, form := math.Inf(1), notWinograd
	for _, f := range forms {
		if f == strips && x[2]%tileOut > 0 {
			continue
		}
		share := 0.0
		switch choice := b.target.Winograd; {
		case choice == graph.WinogradNever, choice == graph.WinogradSquares && f != squares, choice == graph.WinogradStrips && f != strips:
			continue
		case choice == graph.WinogradWhereFaster:
			if share = timeOf[f](x, channels); share > worthWhile[f] {
				continue
			}
		}
		if share < best {
			best, form = share, f
		}
	}
	return form
}

// maxKernels bounds the elements of given kernels that are kept transformed, at four times their size or two: 256 MiB.
const maxKernels = 1 << 26

// MayHaveWinograd reports whether the model has a convolution that could be Winograd's on images of some size: one of 3×3 from 32
// channels or more to as many. Lower tells, but at the cost of lifting all weights.
func (m *Model) MayHaveWinograd() bool {
	large := map[string]bool{}
	for _, t := range m.proto.Graph.Initializer {
		large[t.GetName()] = len(t.Dims) == 4 && t.Dims[0] >= 32 && t.Dims[1] >= 32 && t.Dims[2] == 3 && t.Dims[3] == 3
	}
	return slices.ContainsFunc(m.proto.Graph.Node, func(n *pb.NodeProto) bool { return is(n, "Conv") && large[input(n, 1)] })
}

// timeOf estimates the time of a form as a share of the plain one's, from what was measured, in multiply-adds of a convolution in
// blocks. Of squares, one of the products takes 1.4 times as long, one of the transforms 2.5 times, and the changes of layout as
// long as 50 for each element. Of strips, one of the products takes as long, and transforms and layout as long as 90 for each element.
var timeOf = map[winogradForm]func(x graph.Shape, channels int) float64{
	squares: func(x graph.Shape, channels int) float64 {
		th, tw := tiles(x[2]), tiles(x[3])
		if x[0]*th*tw < 64 { // rows of a product, too few to make up for laying out its weights
			return 1
		}
		places, both := x[2]*x[3], x[1]+channels
		product := tileIn * tileIn * th * tw * x[1] * channels
		transform := tileIn * th * x[3] * (x[2] + tileIn*tw) * both
		return (1.4*float64(product) + 2.5*float64(transform) + 50*float64(places*both)) / float64(9*places*x[1]*channels)
	},
	strips: func(x graph.Shape, channels int) float64 {
		if x.Size() < cached/2 { // for which so many nodes take no less than they save
			return 1
		}
		return 0.5 + 90*float64(x[1]+channels)/float64(9*x[1]*channels)
	},
}

// worthWhile is the largest share of the plain time for which a form is a good exchange: what is transformed takes 2.25 times the
// image's memory as squares, 1.5 times as strips. Nor does every machine save as much as the one that was measured.
var worthWhile = map[winogradForm]float64{squares: 0.75, strips: 0.85}

// tiles is the number of tiles along an axis.
func tiles(places int) int { return (places + tileOut - 1) / tileOut }

// winogradConv writes a convolution, or reports that it is none for Winograd's algorithm. Kernels in strips are only of weights that
// are given.
func (b *blocker) winogradConv(n *pb.NodeProto) bool {
	in, s := b.shapes[n.Input[0]], b.shapes[n.Output[0]]
	w, given := b.weights(n.Input[1])
	forms := []winogradForm{squares, strips}
	if !given {
		forms = forms[:1]
	}
	form := b.winograd(n, in, s[1], forms...)
	if form == notWinograd {
		return false
	}
	if given {
		elements := tileIn * 3 * in[1] * s[1]
		if form == squares {
			elements *= tileIn / 3
		}
		if b.kernels+elements > maxKernels {
			return false
		}
		b.kernels += elements
	}
	b.winograds++
	x, bias := b.blocked(n.Input[0]), input(n, 2)
	if form == strips {
		return b.pair(n.Output[0], b.strips(x, in, w, bias))
	}
	var y string
	if given {
		y = b.winogradOfGiven(x, in, s, w)
	} else {
		zero := b.wholeZero(x)
		in := b.transformed(b.rowsFirst(x, in, zero), in, tileInputs)
		y = b.blocksFirst(b.restored(b.products(in, b.transformedWeights(n.Input[1], "", zero), false, true), s, tileOutputs), s)
	}
	if bias != "" {
		y = b.affine(y, s, "", bias, "")
	}
	return b.pair(n.Output[0], y)
}

// winogradOfGiven convolves with weights that are given. The products are convolutions of one place then, in a group for each, for
// which the weights are laid out beforehand: ONNX Runtime's product would lay them out in every run, which for few rows takes as
// long as the product. Images stay in blocks, as [H,W,C/b,N,b], and of the tiles of a row each is an image of its own.
func (b *blocker) winogradOfGiven(x string, in, out graph.Shape, w graph.Tensor) string {
	n, h, v, th, tw := in[0], in[2], in[3], tiles(in[2]), tiles(in[3])
	from, to := in[1]/b.block, out[1]/b.block
	x = b.permuted(b.reshape(x, -1, b.block), []int{n, from, h, v}, 2, 3, 1, 0)
	x = b.add("MatMul", "", []string{b.along(tileInputs, h, productsFirst, false), b.reshape(x, h, -1)})
	x = b.permuted(b.reshape(x, -1, n*b.block), []int{tileIn, th, v, from}, 2, 0, 3, 1)
	x = b.add("MatMul", "", []string{b.along(tileInputs, v, tilesFirst, false), b.reshape(x, v, -1)})
	y := b.add("Conv", nchwcDomain, []string{b.reshape(x, tw, tileIn*tileIn*in[1], th, n), b.layOut(kernelFilters(w, b.block))},
		whole("kernel_shape", []int{1, 1}), whole("group", tileIn*tileIn))
	y = b.add("MatMul", "", []string{b.along(tileOutputs, v, tilesFirst, true), b.reshape(y, tw*tileIn, -1)})
	y = b.permuted(b.reshape(y, -1, n*b.block), []int{v, tileIn, to, th}, 1, 3, 0, 2)
	y = b.add("MatMul", "", []string{b.along(tileOutputs, h, productsFirst, true), b.reshape(y, tileIn*th, -1)})
	return b.reshape(b.permuted(b.reshape(y, -1, b.block), []int{h, v, to, n}, 3, 2, 0, 1), out...)
}

// winogradGradX writes the gradient of the convolution's input.
func (b *blocker) winogradGradX(n *pb.NodeProto) {
	w, dy, s := n.Input[0], n.Input[1], b.shapes[n.Output[0]]
	products := b.products(b.transformedGradient(dy), b.transformedWeights(w, dy, b.wholeZero(b.blocked(dy))), false, false)
	b.pair(n.Output[0], b.blocksFirst(b.restored(products, s, tileInputs), s))
}

// winogradGradW writes the gradient of the convolution's weights.
func (b *blocker) winogradGradW(n *pb.NodeProto) {
	x, dy, w := b.shapes[n.Input[0]], n.Input[1], b.shapes[n.Output[0]]
	in := b.transformed(b.rowsFirst(b.again(n.Input[0]), x, b.wholeZero(b.blocked(dy))), x, tileInputs)
	products := b.products(b.transformedGradient(dy), in, true, false)
	dw := b.products(b.reshape(products, tileIn*tileIn, w[0]*w[1]), b.kernelTransform(), true, false)
	b.scaled(b.reshape(dw, w...), dy)
	b.name(n.Output[0])
}

// transformedGradient is A dy Aᵀ, which both gradients need.
func (b *blocker) transformedGradient(dy string) string {
	if b.tiled[dy] == "" {
		s, twin := b.shapes[dy], b.blocked(dy)
		b.tiled[dy] = b.transformed(b.rowsFirst(twin, s, b.wholeZero(twin)), s, tileOutputs)
	}
	return b.tiled[dy]
}

// transformedWeights are G g Gᵀ of weights [K,C,3,3], as [36,K,C], times the factor that dy was left without; made when the zero
// is there.
func (b *blocker) transformedWeights(w, dy, zero string) string {
	b.plain(w)
	s := b.shapes[w]
	flat := b.reshapeWith(zero, b.scaled(w, dy), s[0]*s[1], 9)
	return b.reshape(b.products(b.kernelTransform(), flat, false, true), tileIn*tileIn, s[0], s[1])
}

// kernelFilters are G g Gᵀ of weights [K,C,3,3] as filters of a convolution in blocks, [36·K/b,C/b,b,b], the last axis of the kernel
// first.
func kernelFilters(w graph.Tensor, block int) graph.Tensor {
	k, c := w.Shape[0], w.Shape[1]
	out := graph.NewTensor(graph.Float32, tileIn*tileIn*k, c, 1, 1)
	for at := range k * c {
		g := w.F[at*9:][:9]
		place := ((at/c/block*c+at%c)*block + at/c%block)
		for i, row := range transforms.g {
			var rows [3]float64 // of G g
			for j := range rows {
				rows[j] = row[0]*float64(g[j]) + row[1]*float64(g[3+j]) + row[2]*float64(g[6+j])
			}
			for j, column := range transforms.g {
				out.F[(j*tileIn+i)*k*c+place] = float32(rows[0]*column[0] + rows[1]*column[1] + rows[2]*column[2])
			}
		}
	}
	return out
}

// products multiplies matrices, or as many as there are, each transposed or not.
func (b *blocker) products(x, y string, transX, transY bool) string {
	flag := map[bool]int{true: 1}
	return b.add("FusedMatMul", "com.microsoft", []string{x, y}, whole("transA", flag[transX]), whole("transB", flag[transY]))
}

// wholeZero is the zero, a vector of one whole number, that is computed of an image in blocks.
func (b *blocker) wholeZero(image string) string {
	if b.zeros[image] == "" {
		one := b.add("Slice", "", []string{image, b.vector(0, 0, 0, 0), b.vector(1, 1, 1, 1)})
		less := b.add("Less", "", []string{one, one}) // which not even NaN is
		b.zeros[image] = b.add("Cast", "", []string{b.reshape(less, 1)}, whole("to", int(pb.TensorProto_INT64)))
	}
	return b.zeros[image]
}

// reshapeWith reshapes when the zero is there, and to what ONNX Runtime cannot foresee. For a shape that it foresees it keeps
// the memory until the last value of that shape in the whole step, and gives it to no other.
func (b *blocker) reshapeWith(zero, v string, to ...int) string {
	return b.add("Reshape", "", []string{v, b.add("Add", "", []string{b.vector(to...), zero})})
}

// rowsFirst lays an image in blocks out as [H,W,N,C], when the zero is there. With a zero of the backward pass, what the forward
// pass has laid out already is made again and not kept in between: see again.
func (b *blocker) rowsFirst(v string, s graph.Shape, zero string) string {
	rows := b.reshapeWith(zero, v, s.Size()/b.block, b.block)
	return b.permuted(rows, []int{s[0] * s[1] / b.block, s[2] * s[3]}, 1, 0)
}

// blocksFirst undoes rowsFirst.
func (b *blocker) blocksFirst(v string, s graph.Shape) string {
	return b.reshape(b.permuted(b.reshape(v, -1, b.block), []int{s[2] * s[3], s[0] * s[1] / b.block}, 1, 0), s...)
}

// matrix is the transform of an axis: [6·tiles,places].
type matrix func(i, place int) float64

// tileInputs takes a tile's places, which begin one before the image, to its products: Bᵀ.
func tileInputs(i, place int) float64 { return transforms.b[i][place] }

// tileOutputs takes the places that a tile gives to its products: A.
func tileOutputs(i, place int) float64 {
	if place < 1 || place > tileOut {
		return 0
	}
	return transforms.a[place-1][i]
}

// rowOf is where the transform of all the tiles of an axis has a product of a tile.
type rowOf func(product, tile, tiles int) int

func productsFirst(product, tile, tiles int) int { return product*tiles + tile }
func tilesFirst(product, tile, _ int) int        { return tile*tileIn + product }

// along is the transform of all the tiles of an axis, [6·tiles,places], or transposed.
func (b *blocker) along(m matrix, places int, row rowOf, transposed bool) string {
	n := tileIn * tiles(places)
	shape := graph.Shape{n, places}
	if transposed {
		shape = graph.Shape{places, n}
	}
	t := graph.NewTensor(graph.Float32, shape...)
	for i := range tileIn {
		for at := range tiles(places) {
			for k := range tileIn {
				place := at*tileOut + k - 1
				if place < 0 || place >= places {
					continue
				}
				to := row(i, at, tiles(places))
				if transposed {
					t.F[place*n+to] = float32(m(i, k))
				} else {
					t.F[to*places+place] = float32(m(i, k))
				}
			}
		}
	}
	return b.constant(encode("", t))
}

// transformed takes an image [H,W,N,C] to its tiles' products, [36,tiles·N,C].
func (b *blocker) transformed(v string, s graph.Shape, m matrix) string {
	th := tiles(s[2])
	v = b.add("MatMul", "", []string{b.along(m, s[2], productsFirst, false), b.reshape(v, s[2], -1)})
	v = b.swapped(v, th, s[3])
	v = b.add("MatMul", "", []string{b.along(m, s[3], productsFirst, false), b.reshape(v, tileIn, s[3], -1)})
	return b.reshape(v, tileIn*tileIn, -1, s[1])
}

// restored takes products [36,tiles·N,C] to an image [H,W,N,C], by the transposed transform.
func (b *blocker) restored(v string, s graph.Shape, m matrix) string {
	th, tw := tiles(s[2]), tiles(s[3])
	v = b.add("MatMul", "", []string{b.along(m, s[3], productsFirst, true), b.reshape(v, tileIn, tileIn*tw, -1)})
	v = b.swapped(v, s[3], th)
	return b.add("MatMul", "", []string{b.along(m, s[2], productsFirst, true), b.reshape(v, tileIn*th, -1)})
}

// swapped exchanges two axes of an array [6,rows,columns,any].
func (b *blocker) swapped(v string, rows, columns int) string {
	return b.permuted(b.reshape(v, tileIn*rows*columns, -1), []int{tileIn, rows, columns}, 0, 2, 1)
}

// kernelTransform takes a kernel's taps to its products: G ⊗ G, [36,9].
func (b *blocker) kernelTransform() string {
	t := graph.NewTensor(graph.Float32, tileIn*tileIn, 9)
	for i := range tileIn * tileIn {
		for j := range 9 {
			t.F[i*9+j] = float32(transforms.g[i/tileIn][j/3] * transforms.g[i%tileIn][j%3])
		}
	}
	return b.constant(encode("", t))
}
