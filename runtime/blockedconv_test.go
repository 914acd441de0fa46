package runtime

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func TestConvolutionsInBlocksAgreeWithTheTape(t *testing.T) {
	needBlocks(t)
	at := func(stride, pad int) op.ConvAttrs {
		return op.ConvAttrs{Strides: [2]int{stride, stride}, Pads: all(pad)}
	}
	dilated := op.ConvAttrs{Pads: all(2), Dilations: [2]int{2, 2}}
	for _, c := range []struct {
		name   string
		x      graph.Shape
		out, k int // channels of the result, and the kernel's height and width
		a      op.ConvAttrs
		plain  bool // nothing is in blocks
	}{
		{"channels of one block", graph.Shape{16, 16, 5, 5}, 16, 3, at(1, 1), false},
		{"channels of two blocks", graph.Shape{16, 32, 5, 5}, 32, 3, at(1, 1), false},
		{"channels of two blocks from one", graph.Shape{16, 16, 5, 5}, 32, 3, at(2, 1), false},
		{"channels of one block from two", graph.Shape{16, 32, 5, 5}, 16, 1, at(1, 0), false},
		{"channels that fill no whole blocks", graph.Shape{16, 20, 5, 5}, 24, 3, at(1, 1), false},
		{"channels that fill no whole blocks, kernel of 1", graph.Shape{16, 40, 5, 5}, 20, 1, at(1, 0), false},
		{"channels that fill blocks of 8 alone", graph.Shape{16, 40, 5, 5}, 24, 3, at(1, 1), false},
		{"channels that cannot be reordered", graph.Shape{16, 18, 5, 5}, 22, 3, at(1, 1), true},
		{"stem of 1", graph.Shape{16, 1, 6, 6}, 16, 3, at(1, 1), false},
		{"stem of 3", graph.Shape{16, 3, 6, 6}, 24, 3, at(2, 1), false},
		{"stem of 4", graph.Shape{16, 4, 6, 6}, 20, 5, at(2, 2), false},
		{"stem of 3, patches", graph.Shape{16, 3, 8, 8}, 16, 4, at(4, 0), false},
		{"result of few channels", graph.Shape{16, 16, 5, 5}, 4, 3, at(1, 1), false}, // its dX comes from a stem
		{"32 samples", graph.Shape{32, 16, 5, 5}, 16, 3, at(1, 1), false},
		{"3 samples", graph.Shape{3, 16, 5, 5}, 16, 3, at(1, 1), false},
		{"1 sample of one place", graph.Shape{1, 16, 1, 1}, 32, 1, at(1, 0), false},
		{"16 samples of one place", graph.Shape{16, 16, 1, 1}, 32, 1, at(1, 0), false},
		{"kernel of 1", graph.Shape{16, 16, 5, 7}, 16, 1, at(1, 0), false},
		{"kernel of 1, stride 2, even size", graph.Shape{16, 16, 6, 6}, 32, 1, at(2, 0), false},
		{"kernel of 1, padding", graph.Shape{16, 16, 4, 4}, 16, 1, at(1, 1), false},
		{"kernel of 1, places fill blocks", graph.Shape{16, 16, 4, 8}, 16, 1, at(1, 0), false},
		{"kernel of 1, places fill blocks, more channels out", graph.Shape{16, 24, 4, 8}, 40, 1, at(1, 0), false},
		{"kernel of 1, places fill blocks, more channels in", graph.Shape{16, 56, 8, 8}, 32, 1, at(1, 0), false},
		{"kernel of 1, places fill blocks, more channels than places", graph.Shape{16, 48, 4, 4}, 32, 1, at(1, 0), false},
		{"kernel of 1, places fill blocks, stride 2", graph.Shape{16, 16, 8, 8}, 32, 1, at(2, 0), false},
		{"a large gradient", graph.Shape{16, 16, 36, 32}, 64, 3, at(1, 1), false},
		{"a large gradient, two blocks", graph.Shape{16, 32, 36, 32}, 64, 3, at(1, 1), false},
		{"a large gradient, stride 2", graph.Shape{16, 16, 72, 64}, 64, 3, at(2, 1), false},
		{"a large gradient, padding on two sides", graph.Shape{16, 16, 36, 32}, 56, 3, op.ConvAttrs{Pads: [4]int{0, 2, 1, 0}}, false},
		{"kernel of 2", graph.Shape{16, 16, 5, 4}, 16, 2, at(1, 0), false},
		{"kernel of 5", graph.Shape{16, 16, 6, 5}, 16, 5, at(1, 2), false},
		{"kernel of the image's size", graph.Shape{16, 16, 5, 5}, 16, 5, at(1, 0), false},
		{"no padding", graph.Shape{16, 16, 5, 6}, 16, 3, at(1, 0), false},
		{"stride 2, nothing left over", graph.Shape{16, 16, 7, 5}, 16, 3, at(2, 0), false},
		{"stride 2, a row and a column left over", graph.Shape{16, 16, 6, 6}, 16, 3, at(2, 0), false},
		{"stride 2, padding never reached", graph.Shape{16, 16, 6, 6}, 16, 3, at(2, 1), false},
		{"stride 2, a row left over", graph.Shape{16, 16, 6, 5}, 16, 3, at(2, 0), false},
		{"stride 2, a column left over", graph.Shape{16, 16, 5, 6}, 16, 3, at(2, 0), false},
		{"stride 3, two rows left over", graph.Shape{16, 16, 8, 8}, 16, 3, at(3, 0), false},
		{"stride 3 and a kernel of 1", graph.Shape{16, 16, 7, 9}, 16, 1, at(3, 0), false},
		{"strides that differ", graph.Shape{16, 16, 6, 7}, 16, 3, op.ConvAttrs{Strides: [2]int{1, 2}, Pads: all(1)}, false},
		{"padding on two sides", graph.Shape{16, 16, 6, 5}, 16, 3, op.ConvAttrs{Pads: [4]int{0, 2, 1, 0}}, false},
		{"padding on two sides, stride 2", graph.Shape{16, 16, 6, 6}, 16, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Pads: [4]int{0, 0, 1, 1}}, false},
		{"padding beyond the kernel's reach", graph.Shape{16, 16, 4, 4}, 16, 3, at(1, 4), false},
		{"padding beyond reach, stride 2", graph.Shape{16, 16, 4, 5}, 16, 3, at(2, 3), false},
		{"dilation 2", graph.Shape{16, 16, 6, 7}, 16, 3, dilated, false},
		{"2 groups", graph.Shape{16, 32, 5, 5}, 32, 3, op.ConvAttrs{Pads: all(1), Group: 2}, true},
		{"depthwise", graph.Shape{16, 16, 5, 6}, 16, 3, op.ConvAttrs{Pads: all(1), Group: 16}, false},
		{"depthwise of 3 samples and 24 channels", graph.Shape{3, 24, 5, 5}, 24, 3, op.ConvAttrs{Pads: all(1), Group: 24}, false},
		{"depthwise of 1 sample", graph.Shape{1, 20, 5, 5}, 20, 3, op.ConvAttrs{Pads: all(1), Group: 20}, false},
		{"depthwise, stride 2", graph.Shape{4, 32, 7, 6}, 32, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Pads: all(1), Group: 32}, false},
		{"depthwise 5x5, stride 2", graph.Shape{4, 16, 8, 7}, 16, 5, op.ConvAttrs{Strides: [2]int{2, 2}, Pads: all(2), Group: 16}, false},
		{"depthwise, a row left over", graph.Shape{4, 16, 6, 5}, 16, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Group: 16}, false},
		{"depthwise, a column left over", graph.Shape{4, 16, 5, 6}, 16, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Group: 16}, false},
		{"depthwise, stride 3, left over", graph.Shape{4, 16, 8, 8}, 16, 3, op.ConvAttrs{Strides: [2]int{3, 3}, Group: 16}, false},
		{"depthwise, dilation 2", graph.Shape{4, 16, 6, 7}, 16, 3, op.ConvAttrs{Pads: all(2), Dilations: [2]int{2, 2}, Group: 16}, false},
		{"depthwise, stride and dilation 2", graph.Shape{4, 16, 8, 7}, 16, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Pads: all(2), Dilations: [2]int{2, 2}, Group: 16}, false},
		{"depthwise, padding beyond reach", graph.Shape{4, 16, 4, 4}, 16, 3, op.ConvAttrs{Pads: all(4), Group: 16}, false},
		{"depthwise, stride 2, padding beyond reach", graph.Shape{4, 16, 4, 5}, 16, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Pads: all(3), Group: 16}, false},
		{"depthwise, stride 2, of 24 channels", graph.Shape{3, 24, 5, 6}, 24, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Pads: all(1), Group: 24}, false},
		{"depthwise, padding on two sides", graph.Shape{4, 16, 6, 6}, 16, 3, op.ConvAttrs{Strides: [2]int{2, 2}, Pads: [4]int{0, 1, 2, 0}, Group: 16}, false},
		{"depthwise, two results a channel", graph.Shape{4, 16, 5, 5}, 32, 3, op.ConvAttrs{Pads: all(1), Group: 16}, true},
	} {
		for _, biased := range []bool{false, true} {
			if testing.Short() && c.x.Size() > 1<<18 {
				continue // an emulator takes minutes for each
			}
			t.Run(fmt.Sprintf("%s/bias %v", c.name, biased), func(t *testing.T) {
				var f network = func(n *net) *G.Node {
					x := n.input(0, 2, c.x...)
					w := n.filter(x, c.out, c.k, c.a)
					if !biased {
						return op.Conv(x, w, nil, c.a)
					}
					return op.Conv(x, w, n.input(0, 1, c.out), c.a)
				}
				f.check(t, 1, !c.plain)
			})
		}
	}
}

// A mean of a hundred deviations is known to 100·2⁻²³ = 1.2e-5 of one, the unit of its last place, and all results are moved
// by what it is off. Where it is known beforehand nothing is lost; an estimate that is d deviations off costs d²·2⁻²³, as a
// variance by E[x²] − E[x]² does.
func TestBatchNormInBlocksBearsMeansFarFromZero(t *testing.T) {
	needBlocks(t)
	near := func(mean float64) func(n *net, x *G.Node) *G.Node {
		return func(n *net, x *G.Node) *G.Node {
			y, _, _ := op.BatchNormTrainingNear(x, n.input(1, 0.5, channelsOf(x)), n.input(0, 0.5, channelsOf(x)), n.fixed(mean, 0.5, channelsOf(x)), 1e-5)
			return y
		}
	}
	for _, c := range []struct {
		name string
		norm func(n *net, x *G.Node) *G.Node
		y, d float64 // bounds of the result, and of its gradients
	}{
		{"no estimate", (*net).norm, 2 * 100 * 0x1p-23, 2e-6},
		{"an estimate half a deviation off", near(100), 1e-6, 1e-6},
		{"an estimate of 0", near(0), 4 * 100 * 100 * 0x1p-23, 4 * 100 * 100 * 0x1p-23},
	} {
		for _, x := range []graph.Shape{{16, 16, 5, 5}, {64, 20, 32, 32}} {
			t.Run(fmt.Sprintf("%s/%v", c.name, x), func(t *testing.T) {
				var f network = func(n *net) *G.Node { return c.norm(n, n.input(100, math.Sqrt(3), x...)) }
				// d2 is a sum of the result's gradient, whatever x is.
				f.within(t, map[string]float64{"y": c.y, "d0": c.d, "d1": c.d})
			})
		}
	}
}

// A weight's gradient is a sum of 65536 products of either sign, which the convolution adds one by one in float32.
func TestWeightGradientInBlocksOfManyPlacesIsExact(t *testing.T) {
	needBlocks(t)
	var f network = func(n *net) *G.Node { return n.same(n.fixed(0, 2, 64, 16, 32, 32), 16, 3) }
	f.within(t, map[string]float64{"y": 1e-6, "d1": 5e-6})
}

// within wants results no further, by relative L2, from the tape's in float64.
func (f network) within(t *testing.T, bounds map[string]float64) {
	t.Helper()
	p, n, err := f.build(trained)
	if err != nil {
		t.Fatal(err)
	}
	in, err := f.values(n, rand.New(rand.NewPCG(1, 0)))
	if err != nil {
		t.Fatal(err)
	}
	want, err := onTape(p, in)
	if err != nil {
		t.Fatal(err)
	}
	target, err := Probe(Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := onONNXRuntime(p, tensorsOf(in), target)
	if err != nil {
		t.Fatal(err)
	}
	for name, bound := range bounds {
		if d := distance(doubled(got[name].F), want[name].F); !(d <= bound) {
			t.Errorf("%s of images %v is %.2g from float64, want at most %.2g", name, graph.ShapeOf(n.inputs[0].node), d, bound)
		}
	}
}

// Winograd's sums pass through numbers some times larger than the result. It comes within 9e-7 of float64 here, the plain
// convolution in blocks within 2e-7.
func TestWinogradRoundsLittle(t *testing.T) {
	needBlocks(t)
	var f network = func(n *net) *G.Node { return n.same(n.input(0, 1, 16, 64, 8, 8), 64, 3) }
	f.within(t, map[string]float64{"y": 1.5e-6, "d0": 1e-6, "d1": 1e-6})
}

// What is not finite is a matter for whoever looks at the loss, no reason for a step to fail.
func TestWinogradPassesOnWhatIsNotFinite(t *testing.T) {
	needBlocks(t)
	target, err := Probe(Options{})
	if err != nil {
		t.Fatal(err)
	}
	target.Winograd = graph.WinogradSquares
	var f network = func(n *net) *G.Node { return n.relu(n.same(n.norm(n.same(n.input(0, 1, 16, 16, 5, 5), 32, 3)), 16, 3)) }
	p, n, err := f.build(trained)
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]graph.Tensor{}
	for i, v := range n.inputs {
		in[fmt.Sprint(i)] = graph.NewTensor(graph.Float32, graph.ShapeOf(v.node)...)
		for k := range in[fmt.Sprint(i)].F {
			in[fmt.Sprint(i)].F[k] = float32(math.NaN())
		}
	}
	out, err := onONNXRuntime(p, in, target)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range out {
		if name != "y" && !math.IsNaN(float64(v.F[0])) { // a ReLU may make 0 of NaN
			t.Errorf("%s begins with %g", name, v.F[0])
		}
	}
}
