package onnx

import (
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
		want               bool
	}{
		{64, 128, 16, 128, true},  // measured: 15 ms for 21
		{64, 256, 8, 256, true},   // 10 for 21
		{64, 64, 8, 64, false},    // 1.2 for 1.4, but on a faster machine 0.75 for 0.56
		{16, 256, 14, 256, true},  // 10 for 16
		{16, 512, 7, 512, true},   // 9 for 17
		{64, 64, 32, 64, false},   // 30 for 21
		{16, 64, 56, 64, false},   // 30 for 17
		{16, 128, 28, 128, false}, // 15 for 17
		{16, 256, 56, 256, false},
		{64, 32, 16, 32, false},
		{1, 256, 14, 256, false}, // 16 rows of a product
		{64, 256, 8, 64, true},
		{64, 256, 8, 32, false},
	} {
		if got := winogradIsFaster(graph.Shape{c.n, c.c, c.hw, c.hw}, c.channels); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestWinogradIsForConvolutionsThatKeepTheSizeOnWholeBlocks(t *testing.T) {
	plain := func() map[string]any {
		return map[string]any{"kernel_shape": []int{3, 3}, "pads": []int{1, 1, 1, 1}, "strides": []int{1, 1}, "dilations": []int{1, 1}, "group": 1}
	}
	x := graph.Shape{16, 32, 8, 8}
	for _, c := range []struct {
		name     string
		attr     string
		value    any
		channels int
		choice   graph.Winograd
		want     bool
	}{
		{"itself", "group", 1, 48, graph.WinogradAlways, true},
		{"where it is not faster", "group", 1, 48, graph.WinogradWhereFaster, false},
		{"not chosen", "group", 1, 48, graph.WinogradNever, false},
		{"a kernel of 5", "kernel_shape", []int{5, 5}, 48, graph.WinogradAlways, false},
		{"no padding", "pads", []int{0, 0, 0, 0}, 48, graph.WinogradAlways, false},
		{"padding on two sides", "pads", []int{0, 0, 1, 1}, 48, graph.WinogradAlways, false},
		{"a stride", "strides", []int{2, 2}, 48, graph.WinogradAlways, false},
		{"a dilation", "dilations", []int{2, 2}, 48, graph.WinogradAlways, false},
		{"groups", "group", 2, 48, graph.WinogradAlways, false},
		{"channels that do not fill their blocks", "group", 1, 40, graph.WinogradAlways, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			attrs := plain()
			attrs[c.attr] = c.value
			var n pb.NodeProto
			for name, v := range attrs {
				n.Attribute = append(n.Attribute, whole(name, v))
			}
			b := newBlocker(&pb.GraphProto{}, nil, graph.Target{Fused: true, Block: 16, Winograd: c.choice})
			if got := b.winograd(&n, x, c.channels); got != c.want {
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
