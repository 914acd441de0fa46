package onnx_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

const nchwc = "com.microsoft.nchwc"

// weigh declares parameters in the order in which a network asks for them.
func weigh(g *graph.Graph) func(shape ...int) *G.Node {
	count := 0
	return func(shape ...int) *G.Node {
		count++
		return g.Param(fmt.Sprintf("w%d", count), shape, graph.Constant(0.1))
	}
}

// byBatch and byGiven are batch norms of 32 channels.
func byBatch(x *G.Node, w func(shape ...int) *G.Node) *G.Node {
	y, _, _ := op.BatchNormTraining(x, w(32), w(32), 1e-5)
	return y
}

func byGiven(x *G.Node, w func(shape ...int) *G.Node) *G.Node {
	return op.BatchNorm(x, w(32), w(32), w(32), w(32), 1e-5)
}

// residual is He et al.'s block (2015, arXiv:1512.03385) on x of 32 channels.
func residual(x *G.Node, w func(shape ...int) *G.Node, norm func(*G.Node, func(shape ...int) *G.Node) *G.Node) *G.Node {
	y := op.Relu(norm(op.Conv(x, w(32, 32, 3, 3), nil, pad1), w))
	return op.Relu(op.Add(norm(op.Conv(y, w(32, 32, 3, 3), nil, pad1), w), x))
}

// onImages lists the nodes that compute in blocks on what is made of x, the reorderings, and what is computed plain: "Conv",
// or "Scale" where it only scales and shifts each channel, with what became part of it. Weights are reordered too, but not
// listed.
func onImages(file *pb.ModelProto) []string {
	var list []string
	ofX := map[string]bool{"x": true}
	for _, n := range file.Graph.Node {
		if !slices.ContainsFunc(n.Input, func(in string) bool { return ofX[in] }) {
			continue
		}
		for _, out := range n.Output {
			ofX[out] = true
		}
		switch kind := n.GetOpType(); {
		case n.GetDomain() == nchwc:
			list = append(list, inBlocks(n))
		case slices.Contains([]string{"BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "MaxPool", "Relu"}, kind):
			list = append(list, "plain "+kind)
		}
	}
	return list
}

func inBlocks(n *pb.NodeProto) string {
	name := n.GetOpType()
	var activation string
	for _, a := range n.Attribute {
		switch {
		case a.GetName() == "kernel_shape" && name == "Conv" && slices.Equal(a.GetInts(), []int64{1, 1}):
			name = "Scale" // no other convolution of these tests has a kernel of one place
		case a.GetName() == "activation":
			activation = "+" + string(a.GetS())
		}
	}
	if len(n.Input) > 3 {
		name += "+Sum"
	}
	return name + activation
}

func TestImagesStayInBlocksBetweenOperators(t *testing.T) {
	for _, c := range []struct {
		name     string
		channels int
		describe func(x *G.Node, w func(shape ...int) *G.Node) *G.Node
		want     string
	}{
		{"batch norm scales, and takes in a sum and a ReLU", 32, func(x *G.Node, w func(shape ...int) *G.Node) *G.Node {
			return residual(x, w, byGiven)
		}, "ReorderInput Conv Scale+Relu Conv Scale+Sum+Relu ReorderOutput"},
		{"a stem reads plain images", 3, func(x *G.Node, w func(shape ...int) *G.Node) *G.Node {
			x = op.Relu(op.Conv(x, w(32, 3, 3, 3), w(32), pad1))
			return op.GlobalAveragePool(op.MaxPool(x, op.PoolAttrs{Kernel: [2]int{2, 2}, Strides: [2]int{2, 2}}))
		}, "Conv+Relu MaxPool GlobalAveragePool"},
		{"a ReLU whose input is read by another stays one", 32, func(x *G.Node, w func(shape ...int) *G.Node) *G.Node {
			x = op.Conv(x, w(32, 32, 3, 3), nil, pad1)
			return op.Conv(op.Concat(1, op.Relu(x), x), w(32, 64, 3, 3), nil, pad1)
		}, "ReorderInput Conv plain Relu ReorderOutput ReorderOutput ReorderInput Conv ReorderOutput"},
		{"what is read plain twice is reordered once", 32, func(x *G.Node, w func(shape ...int) *G.Node) *G.Node {
			x = op.Conv(x, w(32, 32, 3, 3), nil, pad1)
			return op.Conv(op.Concat(1, op.Transpose(x, 0, 1, 3, 2), op.Transpose(op.Sin(x), 0, 1, 3, 2)), w(32, 64, 3, 3), nil, pad1)
		}, "ReorderInput Conv ReorderOutput ReorderInput Conv ReorderOutput"},
		{"channels that cannot be reordered stay plain", 18, func(x *G.Node, w func(shape ...int) *G.Node) *G.Node {
			return op.Relu(op.Conv(x, w(18, 18, 3, 3), nil, pad1))
		}, "plain Conv plain Relu"},
	} {
		for _, block := range []int{8, 16} {
			t.Run(fmt.Sprintf("%s/blocks of %d", c.name, block), func(t *testing.T) {
				p := built(t, graph.Training, func(g *graph.Graph) {
					g.Output("y", c.describe(g.Input("x", graph.Float32, 16, c.channels, 6, 6), weigh(g)))
				})
				m, _ := lowered(t, p, onnx.Lowering{Target: graph.Target{Fused: true, Block: block}})
				if got := strings.Join(onImages(decoded(t, m)), " "); got != c.want {
					t.Errorf("the nodes are %s,\nwant %s", got, c.want)
				}
			})
		}
	}
}

// All that a step reorders is, for the gradient of each kernel, the images it is taken of and the gradient itself: no image on
// its way through the network and back.
func TestTrainingStepReordersNoImageBetweenOperators(t *testing.T) {
	const blocks = 3
	p := built(t, graph.Training, func(g *graph.Graph) {
		x, w := g.Input("x", graph.Float32, 16, 3, 6, 6), weigh(g)
		x = op.Conv(x, w(32, 3, 3, 3), nil, pad1)
		for range blocks {
			x = residual(x, w, byBatch)
		}
		loss := op.ReduceMean(op.Mul(x, x), nil, false)
		for _, d := range g.Grad(loss) {
			g.Update(d.Name, op.Sub(d.Param, d.Grad))
		}
	})
	m, _ := lowered(t, p, onnx.Lowering{Target: graph.Target{Fused: true, Block: 16}})
	count := map[string]int{}
	for _, name := range onImages(decoded(t, m)) {
		count[name]++
		if strings.HasPrefix(name, "plain") {
			t.Errorf("there is a %s", name)
		}
	}
	for name, want := range map[string]int{
		"ReorderInput":   1 + 2*blocks, // as many as kernels
		"ReorderOutput":  1 + 2*blocks,
		"Scale+Relu":     2 * blocks, // once more for the gradient
		"Scale+Sum+Relu": blocks + 1, // of the sums that a gradient reads every second is made once more
		"Conv+Sum":       blocks,     // the gradient of a block's input: what came by the shortcut is added
	} {
		if count[name] != want {
			t.Errorf("%d nodes are %s, want %d", count[name], name, want)
		}
	}
}

// ofWeightsAlone are the nodes that lay something out and do not depend on x.
func ofWeightsAlone(file *pb.ModelProto) (kinds []string) {
	ofX := map[string]bool{"x": true}
	for _, n := range file.Graph.Node {
		if slices.ContainsFunc(n.Input, func(in string) bool { return ofX[in] }) {
			for _, out := range n.Output {
				ofX[out] = true
			}
		} else if slices.Contains([]string{"FusedMatMul", "Gather", "ReorderInput", "Transpose"}, n.GetOpType()) {
			kinds = append(kinds, n.GetOpType())
		}
	}
	return kinds
}

func TestGivenWeightsAreLaidOutBeforehand(t *testing.T) {
	p := built(t, graph.Inference, func(g *graph.Graph) {
		w := weigh(g)
		x := op.Conv(g.Input("x", graph.Float32, 16, 3, 8, 8), w(32, 3, 3, 3), w(32), pad1)
		x = residual(x, w, byGiven)
		x = op.Conv(x, w(32, 1, 3, 3), nil, op.ConvAttrs{Pads: [4]int{1, 1, 1, 1}, Group: 32})
		g.Output("y", op.GlobalAveragePool(op.Conv(x, w(20, 32, 1, 1), nil, op.ConvAttrs{})))
	})
	s := &graph.Store{}
	if err := p.Fill(s, 1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		winograd graph.Winograd
		count    int
	}{{graph.WinogradNever, 0}, {graph.WinogradSquares, 2}} {
		l := onnx.Lowering{Target: graph.Target{Fused: true, Block: 16, Winograd: c.winograd}}
		m, _ := lowered(t, p, l)
		if len(m.LaidOut()) > 0 || len(ofWeightsAlone(decoded(t, m))) == 0 {
			t.Errorf("%+v: weights that are not given are laid out beforehand", l.Target)
		}
		l.Store = s
		m, _ = lowered(t, p, l)
		file := decoded(t, m)
		if left := ofWeightsAlone(file); len(left) > 0 || m.Winograd() != c.count {
			t.Errorf("%+v: %q lay weights out in each run, and %d convolutions are Winograd's, want %d", l.Target, left, m.Winograd(), c.count)
		}
		if len(m.LaidOut()) != 5 || len(file.Graph.Input) != 6 {
			t.Errorf("%+v: %d weights in another layout and %d inputs, want 5 and 6", l.Target, len(m.LaidOut()), len(file.Graph.Input))
		}
		for _, kept := range file.Graph.Initializer {
			if strings.HasPrefix(kept.GetName(), "w") && len(kept.Dims) == 4 {
				t.Errorf("%+v: %s is there as it was, too", l.Target, kept.GetName())
			}
		}
	}
}

// Each sum in parts has readers of its own to copy for, so a file could ask for very many.
func TestOnlyTheFirstSumAfterStripsIsInParts(t *testing.T) {
	p := built(t, graph.Inference, func(g *graph.Graph) {
		w := weigh(g)
		a := op.Conv(g.Input("x", graph.Float32, 16, 32, 48, 48), w(32, 32, 1, 1), nil, op.ConvAttrs{})
		y := op.Conv(a, w(32, 32, 3, 3), nil, pad1)
		for range 100 {
			y = op.Add(y, a)
		}
		g.Output("y", y)
	})
	s := &graph.Store{}
	if err := p.Fill(s, 1); err != nil {
		t.Fatal(err)
	}
	m, _ := lowered(t, p, onnx.Lowering{Target: graph.Target{Fused: true, Block: 16, Winograd: graph.WinogradStrips}, Store: s})
	count := map[string]int{}
	for _, n := range decoded(t, m).Graph.Node {
		count[n.GetOpType()]++
	}
	const ofStrips, parts = 11, 2
	if count["Conv"] > 1+parts*(ofStrips+1) || count["Add"] != 99 {
		t.Errorf("%v, want 99 Adds, and a convolution for the first in each of two parts", count)
	}
}

// Without a limit the paths back through what is read twice double with each operator.
func TestLoweringMovesTakesNoTimeThatDoubles(t *testing.T) {
	p := built(t, graph.Inference, func(g *graph.Graph) {
		x := g.Input("x", graph.Float32, 4, 32)
		for range 60 {
			x = op.Slice(op.Concat(0, x, x), op.Range{Axis: 0, From: 2, To: 6})
		}
		g.Output("y", x)
	})
	lowered(t, p, onnx.Lowering{Target: graph.Target{Fused: true, Block: 16}})
}

func TestPartsOfAnAxisAreOneSplit(t *testing.T) {
	cut := func(x *G.Node, axis, from, to int) *G.Node {
		return op.Slice(x, op.Range{Axis: axis, From: from, To: to})
	}
	beside := func(parts ...*G.Node) *G.Node { return op.Concat(1, parts...) }
	for _, c := range []struct {
		name           string
		describe       func(x *G.Node) *G.Node
		splits, slices int
	}{
		{"all, in order", func(x *G.Node) *G.Node { return beside(op.Split(x, 1, 4, 20, 8)...) }, 1, 0},
		{"all, the last first", func(x *G.Node) *G.Node { return beside(op.Sin(cut(x, 1, 12, 32)), cut(x, 1, 0, 12)) }, 1, 0},
		{"all, and one of them twice", func(x *G.Node) *G.Node {
			return beside(op.Sin(cut(x, 1, 12, 32)), cut(x, 1, 0, 12), op.Neg(cut(x, 1, 0, 12)))
		}, 1, 0},
		{"of each of two axes", func(x *G.Node) *G.Node {
			return op.Mul(beside(op.Split(op.Sin(x), 1, 16, 16)...), op.Concat(2, op.Split(op.Sin(x), 2, 2, 4)...))
		}, 2, 0},
		{"none after the last", func(x *G.Node) *G.Node { return beside(cut(x, 1, 0, 12), cut(x, 1, 12, 31)) }, 0, 2},
		{"none before the first", func(x *G.Node) *G.Node { return beside(cut(x, 1, 1, 12), cut(x, 1, 12, 32)) }, 0, 2},
		{"a gap", func(x *G.Node) *G.Node { return beside(cut(x, 1, 0, 12), cut(x, 1, 13, 32)) }, 0, 2},
		{"an overlap", func(x *G.Node) *G.Node { return beside(cut(x, 1, 0, 13), cut(x, 1, 12, 32)) }, 0, 2},
		{"by steps of two", func(x *G.Node) *G.Node {
			return beside(op.Slice(x, op.Range{Axis: 1, To: 16, Step: 2}), cut(x, 1, 16, 32))
		}, 0, 2},
		{"of two axes at once", func(x *G.Node) *G.Node {
			half := func(from, to int) *G.Node {
				return op.Slice(x, op.Range{Axis: 1, From: from, To: to}, op.Range{Axis: 2, To: 3})
			}
			return beside(half(0, 16), half(16, 32))
		}, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := built(t, graph.Training, func(g *graph.Graph) {
				g.Output("y", c.describe(g.Input("x", graph.Float32, 16, 32, 6, 6)))
			})
			m, _ := lowered(t, p, onnx.Lowering{Target: graph.Target{Fused: true, Block: 16}})
			count := map[string]int{}
			for _, n := range decoded(t, m).Graph.Node {
				count[n.GetOpType()]++
			}
			if count["Split"] != c.splits || count["Slice"] != c.slices {
				t.Errorf("%d Splits and %d Slices, want %d and %d", count["Split"], count["Slice"], c.splits, c.slices)
			}
		})
	}
}

func TestPartsThatAreGivenOutKeepTheirNames(t *testing.T) {
	p := built(t, graph.Training, func(g *graph.Graph) {
		parts := op.Split(g.Input("x", graph.Float32, 16, 32, 6, 6), 1, 12, 20)
		g.Output("y", op.Neg(parts[1]))
		g.Output("second", parts[1])
		g.Output("first", parts[0])
	})
	m, _ := lowered(t, p, onnx.Lowering{Target: graph.Target{Fused: true, Block: 16}})
	n := decoded(t, m).Graph.Node[0]
	if want := []string{"first", "second"}; n.GetOpType() != "Split" || !slices.Equal(n.Output, want) {
		t.Errorf("the first node is a %s of %q, want a Split of %q", n.GetOpType(), n.Output, want)
	}
}

func TestWhatIsComputedTwiceIsSharedUnlessBothAreGivenOut(t *testing.T) {
	for _, c := range []struct {
		name     string
		describe func(g *graph.Graph, x *G.Node)
		want     int // nodes of one input
	}{
		{"read", func(g *graph.Graph, x *G.Node) { g.Output("y", op.Mul(op.Exp(op.Sin(x)), op.Exp(op.Sin(x)))) }, 2},
		{"given out under two names", func(g *graph.Graph, x *G.Node) { g.Output("y", op.Sin(x)); g.Output("z", op.Sin(x)) }, 2},
		{"read, and given out", func(g *graph.Graph, x *G.Node) {
			y := op.Exp(op.Sin(x))
			z := op.Sin(x)
			g.Output("y", op.Mul(y, op.Exp(z)))
			g.Output("z", z)
		}, 3},
		{"of two images", func(g *graph.Graph, x *G.Node) { g.Output("y", op.Mul(op.Sin(x), op.Sin(op.Neg(x)))) }, 3},
		{"with another attribute", func(g *graph.Graph, x *G.Node) { g.Output("y", op.Mul(op.LeakyRelu(x, 0.1), op.LeakyRelu(x, 0.2))) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := built(t, graph.Training, func(g *graph.Graph) { c.describe(g, g.Input("x", graph.Float32, 16, 32, 6, 6)) })
			m, _ := lowered(t, p, onnx.Lowering{Target: graph.Target{Fused: true, Block: 16}})
			var left []string
			for _, n := range decoded(t, m).Graph.Node {
				if len(n.Input) == 1 {
					left = append(left, n.GetOpType())
				}
			}
			if len(left) != c.want {
				t.Errorf("there are %q, want %d operators", left, c.want)
			}
		})
	}
}
