package runtime

import (
	"math"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// The rows of a large matrix are reduced in two stages on ONNX Runtime, others at once; the numbers are the same.
func TestRowsOfALargeMatrixAreReducedInTwoStages(t *testing.T) {
	testInit(t)
	sum := func(axes ...int) func(x *G.Node) *G.Node {
		return func(x *G.Node) *G.Node { return op.ReduceSum(x, axes, false) }
	}
	for _, c := range []struct {
		name   string
		shape  graph.Shape
		reduce func(x *G.Node) *G.Node
		nodes  int // that reduce
	}{
		{"rows", graph.Shape{2048, 256}, sum(0), 2},
		{"rows of a batch", graph.Shape{6, 341, 257}, sum(0, 1), 2},
		{"mean", graph.Shape{2048, 256}, func(x *G.Node) *G.Node { return op.ReduceMean(x, []int{0}, false) }, 2},
		{"matrices", graph.Shape{16, 64, 512}, sum(0), 1},
		{"maximum", graph.Shape{2048, 256}, func(x *G.Node) *G.Node { return op.ReduceMax(x, []int{0}, false) }, 1},
		{"kept axes", graph.Shape{2048, 256}, func(x *G.Node) *G.Node { return op.ReduceSum(x, []int{0}, true) }, 1},
		{"columns", graph.Shape{2048, 256}, sum(1), 1},
		{"all", graph.Shape{2048, 256}, sum(0, 1), 1},
		{"a prime number of rows", graph.Shape{2053, 256}, sum(0), 1},
		{"few rows", graph.Shape{1024, 256}, sum(0), 1},
	} {
		p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("y", c.reduce(g.Input("x", graph.Float32, c.shape...)))
		})
		if err != nil {
			t.Fatal(err)
		}
		if nodes := testFused(t, c.name, p); nodes != c.nodes {
			t.Errorf("%s: %d nodes reduce, want %d", c.name, nodes, c.nodes)
		}
	}
}

// A product over the rows of tall matrices is the sum of that of each half of them on ONNX Runtime; the numbers are the same.
func TestAProductOverTallMatricesIsThatOfEachHalf(t *testing.T) {
	testInit(t)
	for _, c := range []struct {
		name   string
		a, b   graph.Shape
		ta, tb bool
		nodes  int
	}{
		{"tall", graph.Shape{4096, 96}, graph.Shape{4096, 32}, true, false, 2},
		{"an odd number of rows", graph.Shape{4097, 96}, graph.Shape{4097, 32}, true, false, 1},
		{"small", graph.Shape{4094, 96}, graph.Shape{4094, 32}, true, false, 1},
		{"wide", graph.Shape{1024, 512}, graph.Shape{1024, 512}, true, false, 1},
		{"rows by columns", graph.Shape{4096, 96}, graph.Shape{32, 4096}, true, true, 1},
		{"matrices", graph.Shape{2, 4096, 96}, graph.Shape{2, 4096, 32}, true, false, 1},
	} {
		p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("y", op.MatMulT(g.Input("a", graph.Float32, c.a...), g.Input("b", graph.Float32, c.b...), c.ta, c.tb))
		})
		if err != nil {
			t.Fatal(err)
		}
		if nodes := testFused(t, c.name, p); nodes != c.nodes {
			t.Errorf("%s: %d nodes, want %d", c.name, nodes, c.nodes)
		}
	}
}

// testFused compares a program's output y, lowered for ONNX Runtime's own operators, with the plain reference in float64, and counts
// the nodes that are no Reshape.
func testFused(t *testing.T, name string, p *graph.Program) (nodes int) {
	t.Helper()
	target := graph.Target{Fused: true}
	m, err := onnx.Lower(p, onnx.Lowering{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	for _, tap := range m.Taps() {
		if tap.Op != "Reshape" {
			nodes++
		}
	}
	in := map[string]graph.Tensor{}
	for _, l := range p.Inputs {
		x := graph.NewTensor(graph.Float32, l.Shape...)
		for i := range x.F {
			x.F[i] = float32(1 + math.Sin(float64(i)))
		}
		in[l.Name] = x
	}
	got, err := onONNXRuntime(p, in, target)
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(doubled(got["y"].F), inFloat64(t, p, &graph.Store{})(in)["y"]); !(d <= 1e-6) {
		t.Errorf("%s: the result is %v away", name, d)
	}
	return nodes
}

// A number takes the axes of what ends in an axis of one element on ONNX Runtime, and not in an exported file.
func TestANumberHasTheAxesOfWeightsOfOneTap(t *testing.T) {
	testInit(t)
	number := graph.Shape{}
	for _, c := range []struct {
		name     string
		a, b     graph.Shape
		reshaped int
	}{
		{"weights of one tap", graph.Shape{6, 4, 1, 1}, number, 1},
		{"the number first", number, graph.Shape{6, 4, 1, 1}, 1},
		{"weights of nine", graph.Shape{6, 4, 3, 3}, number, 0},
		{"a vector of one", graph.Shape{1}, number, 0},
		{"numbers", number, number, 0},
		{"a number for each channel", graph.Shape{6, 4, 1, 1}, graph.Shape{4, 1, 1}, 0},
	} {
		p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("y", op.Add(g.Input("a", graph.Float32, c.a...), g.Input("b", graph.Float32, c.b...)))
		})
		if err != nil {
			t.Fatal(err)
		}
		testFused(t, c.name, p)
		for target, want := range map[graph.Target]int{{Fused: true}: c.reshaped, {}: 0} {
			m, err := onnx.Lower(p, onnx.Lowering{Target: target})
			if err != nil {
				t.Fatal(err)
			}
			if n := len(m.Taps()) - 1; n != want {
				t.Errorf("%s, %+v: %d Reshapes, want %d", c.name, target, n, want)
			}
		}
	}
}

// A number for each channel is stretched over an image's places by a product on ONNX Runtime: by Expand, and for a small image by what
// is elementwise. Other stretching is left to it.
func TestNumbersAreStretchedOverPlacesByAProduct(t *testing.T) {
	testInit(t)
	image := graph.Shape{3, 5, 4, 2}
	for _, c := range []struct {
		name     string
		from, to graph.Shape
		expand   bool // by a product
		multiply bool
	}{
		{"places", graph.Shape{3, 5, 1, 1}, image, true, true},
		{"columns", graph.Shape{3, 5, 4, 1}, image, true, true},
		{"rows", graph.Shape{3, 5, 1, 2}, image, false, false},
		{"channels, too", graph.Shape{3, 1, 1, 1}, image, true, false},
		{"many places", graph.Shape{3, 5, 1, 1}, graph.Shape{3, 5, 4, 5}, true, false},
		{"no image", graph.Shape{3, 1}, graph.Shape{3, 5}, true, false},
		{"too many places", graph.Shape{2, 1}, graph.Shape{2, 1<<16 + 1}, false, false},
		{"all but channels", graph.Shape{1, 5, 1, 1}, image, false, false},
		{"more axes", graph.Shape{5, 1}, graph.Shape{3, 5, 4}, false, false},
		{"one number", graph.Shape{1, 1}, graph.Shape{3, 5}, false, false},
	} {
		for name, want := range map[string]bool{"expand": c.expand, "multiply": c.multiply} {
			p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
				y := g.Input("x", graph.Float32, c.from...)
				if name == "expand" {
					y = op.Expand(y, c.to)
				} else {
					y = op.Mul(y, g.Input("image", graph.Float32, c.to...))
				}
				g.Output("y", y)
			})
			if err != nil {
				t.Fatal(err)
			}
			testFused(t, c.name, p)
			m, err := onnx.Lower(p, onnx.Lowering{Target: graph.Target{Fused: true}})
			if err != nil {
				t.Fatal(err)
			}
			got := slices.ContainsFunc(m.Taps(), func(tap onnx.Tap) bool { return tap.Op == "MatMul" })
			if got != want {
				t.Errorf("%s, %s: by a product: %v, want %v", c.name, name, got, want)
			}
		}
	}
}
