package onnx

import (
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// One tile of one channel: the convolution of 6 places by 3 taps gives 4.
func TestWinogradTransformsConvolve(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for range 20 {
		var d, products [tileIn]float64
		var kernel [3]float64
		for i := range d {
			d[i] = rng.NormFloat64()
		}
		for i := range kernel {
			kernel[i] = rng.NormFloat64()
		}
		for i := range products {
			u, v := 0.0, 0.0
			for k, g := range kernel {
				u += transforms.g[i][k] * g
			}
			for k, x := range d {
				v += transforms.b[i][k] * x
			}
			products[i] = u * v
		}
		for place := range tileOut {
			got, want := 0.0, 0.0
			for i, p := range products {
				got += transforms.a[place][i] * p
			}
			for k, g := range kernel {
				want += g * d[place+k]
			}
			if math.Abs(got-want) > 1e-13 {
				t.Errorf("place %d is %g, want %g", place, got, want)
			}
		}
	}
}

func TestWinogradIsChosenWhereItIsFaster(t *testing.T) {
	for _, c := range []struct {
		n, c, hw, channels int
		inTraining, given  winogradForm // of what kernels
	}{
		{64, 128, 16, 128, squares, strips},       // measured: 15 ms for 21, and 14
		{64, 128, 8, 128, squares, squares},       // strips: 3.6 for 5.2
		{64, 256, 8, 256, squares, squares},       // 10 for 21, strips 14
		{64, 64, 8, 64, notWinograd, notWinograd}, // 1.2 for 1.4, but on a faster machine 0.75 for 0.56; strips 2.0 for 1.3
		{64, 64, 16, 64, notWinograd, strips},     // strips: 4.6 for 5.6
		{16, 256, 14, 256, squares, squares},      // 10 for 16
		{16, 512, 7, 512, squares, squares},       // 9 for 17
		{64, 64, 32, 64, notWinograd, strips},     // squares: 30 for 21
		{16, 64, 56, 64, notWinograd, strips},     // squares: 30 for 17, strips 12
		{1, 64, 56, 64, notWinograd, notWinograd}, // strips: 1.2 for 1.1
		{16, 128, 28, 128, notWinograd, strips},   // squares: 15 for 17, strips 11
		{16, 256, 56, 256, notWinograd, strips},
		{1, 256, 56, 256, notWinograd, strips}, // strips: 10 for 16
		{64, 32, 16, 32, notWinograd, notWinograd},
		{1, 256, 14, 256, notWinograd, notWinograd}, // 16 rows of a product
		{64, 256, 8, 64, squares, squares},
		{64, 256, 8, 32, notWinograd, notWinograd},
	} {
		x := graph.Shape{c.n, c.c, c.hw, c.hw}
		b := newBlocker(&pb.GraphProto{}, nil, graph.Target{Fused: true, Block: 16, Winograd: graph.WinogradWhereFaster})
		n := pb.NodeProto{Attribute: ofThree(nil)}
		if got := b.winograd(&n, x, c.channels, squares); got != c.inTraining {
			t.Errorf("%+v: in training it is %v", c, got)
		}
		if got := b.winograd(&n, x, c.channels, squares, strips); got != c.given {
			t.Errorf("%+v: of given weights it is %v", c, got)
		}
	}
}

func TestLargeImagesAreStripsOfSomeSamples(t *testing.T) {
	for _, c := range []struct {
		shape graph.Shape
		want  int
	}{
		{graph.Shape{16, 64, 56, 56}, 4},
		{graph.Shape{16, 32, 48, 45}, 2},
		{graph.Shape{4, 64, 56, 56}, 1},    // 3 MiB
		{graph.Shape{6, 64, 64, 64}, 2},    // three samples are no two parts
		{graph.Shape{16, 128, 28, 28}, 1},  // too few places for so many channels
		{graph.Shape{512, 64, 56, 56}, 16}, // no more
		{graph.Shape{1, 64, 256, 256}, 1},
	} {
		if got := partsOf(c.shape); got != c.want {
			t.Errorf("%v: %d parts, want %d", c.shape, got, c.want)
		}
	}
}

// ofThree are the attributes of a convolution that keeps the size, by a kernel of 3, with some of others.
func ofThree(others map[string]any) (list []*pb.AttributeProto) {
	all := map[string]any{"kernel_shape": []int{3, 3}, "pads": []int{1, 1, 1, 1}, "strides": []int{1, 1}, "dilations": []int{1, 1}, "group": 1}
	maps.Copy(all, others)
	for name, v := range all {
		list = append(list, whole(name, v))
	}
	return list
}

func TestWinogradIsForConvolutionsThatKeepTheSizeOnWholeBlocks(t *testing.T) {
	for _, c := range []struct {
		name     string
		attr     string
		value    any
		rows     int
		channels int
		choice   graph.Winograd
		want     winogradForm
	}{
		{"squares", "group", 1, 8, 48, graph.WinogradSquares, squares},
		{"strips", "group", 1, 8, 48, graph.WinogradStrips, strips},
		{"squares of rows that are no tiles", "group", 1, 10, 48, graph.WinogradSquares, squares},
		{"strips of rows that are no tiles", "group", 1, 10, 48, graph.WinogradStrips, notWinograd},
		{"where it is not faster", "group", 1, 8, 48, graph.WinogradWhereFaster, notWinograd},
		{"not chosen", "group", 1, 8, 48, graph.WinogradNever, notWinograd},
		{"a kernel of 5", "kernel_shape", []int{5, 5}, 8, 48, graph.WinogradSquares, notWinograd},
		{"no padding", "pads", []int{0, 0, 0, 0}, 8, 48, graph.WinogradSquares, notWinograd},
		{"padding on two sides", "pads", []int{0, 0, 1, 1}, 8, 48, graph.WinogradSquares, notWinograd},
		{"a stride", "strides", []int{2, 2}, 8, 48, graph.WinogradSquares, notWinograd},
		{"a dilation", "dilations", []int{2, 2}, 8, 48, graph.WinogradSquares, notWinograd},
		{"groups", "group", 2, 8, 48, graph.WinogradSquares, notWinograd},
		{"channels that do not fill their blocks", "group", 1, 8, 40, graph.WinogradSquares, notWinograd},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := pb.NodeProto{Attribute: ofThree(map[string]any{c.attr: c.value})}
			b := newBlocker(&pb.GraphProto{}, nil, graph.Target{Fused: true, Block: 16, Winograd: c.choice})
			if got := b.winograd(&n, graph.Shape{16, 32, c.rows, 8}, c.channels, squares, strips); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestModelThatMayHaveWinogradHasALargeConvolution(t *testing.T) {
	for _, c := range []struct {
		op   string
		dims []int64
		want bool
	}{
		{"Conv", []int64{32, 32, 3, 3}, true},
		{"Conv", []int64{32, 16, 3, 3}, false},
		{"Conv", []int64{16, 32, 3, 3}, false},
		{"Conv", []int64{64, 64, 3, 1}, false},
		{"Conv", []int64{64, 64, 1, 3}, false},
		{"Conv", []int64{64, 64, 3}, false},
		{"ConvTranspose", []int64{64, 64, 3, 3}, false},
	} {
		m := Model{proto: &pb.ModelProto{Graph: &pb.GraphProto{
			Initializer: []*pb.TensorProto{{Name: proto.String("w"), Dims: c.dims}},
			Node:        []*pb.NodeProto{{OpType: proto.String(c.op), Input: []string{"x", "w"}}, {OpType: proto.String("Relu"), Input: []string{"w"}}},
		}}}
		if got := m.MayHaveWinograd(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
