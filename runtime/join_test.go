package runtime

import (
	"math"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// What a tensor was split into gives its gradient by one Concat, where the parts make up the whole and nothing else reads what is
// padded; the numbers are those of the sum.
func TestGradientsOfPartsAreJoined(t *testing.T) {
	testInit(t)
	// Each part is bent in another way.
	bend := func(i int, x *G.Node) *G.Node {
		y := op.Scale(op.Tanh(x), float64(1+i))
		return op.ReduceSum(op.Mul(y, y), nil, false)
	}
	sum := func(parts ...*G.Node) *G.Node {
		y := bend(0, parts[0])
		for i, p := range parts[1:] {
			y = op.Add(y, bend(i+1, p))
		}
		return y
	}
	cut := func(x *G.Node, axis, from, to int) *G.Node {
		return op.Slice(x, op.Range{Axis: axis, From: from, To: to})
	}
	for _, c := range []struct {
		name   string
		cost   func(x *G.Node) *G.Node // of x [3,4,5]
		concat int
		pads   int // where there is a Concat
	}{
		{"elements", func(x *G.Node) *G.Node { return sum(op.Index(x, 0, 2), op.Index(x, 0, 0), op.Index(x, 0, 1)) }, 1, 0},
		{"parts", func(x *G.Node) *G.Node { return sum(op.Split(x, 2, 1, 3, 1)...) }, 1, 0},
		{"halves", func(x *G.Node) *G.Node { return sum(op.Split(x, -2, 2, 2)...) }, 1, 0},
		{"parts of a part", func(x *G.Node) *G.Node {
			two := op.Split(x, 1, 1, 3)
			return sum(append(op.Split(two[1], 2, 2, 3), two[0])...)
		}, 2, 0},
		{"an element twice", func(x *G.Node) *G.Node { return sum(op.Index(x, 0, 0), op.Index(x, 0, 1), op.Index(x, 0, 1)) }, 0, 0},
		{"parts that overlap", func(x *G.Node) *G.Node { return sum(cut(x, 1, 0, 3), cut(x, 1, 1, 4)) }, 0, 0},
		{"parts with a gap", func(x *G.Node) *G.Node { return sum(cut(x, 1, 0, 1), cut(x, 1, 2, 4)) }, 0, 0},
		{"parts but the last", func(x *G.Node) *G.Node { return sum(cut(x, 2, 0, 1), cut(x, 2, 1, 4)) }, 0, 0},
		{"parts of two axes", func(x *G.Node) *G.Node { return sum(cut(x, 1, 0, 2), cut(x, 2, 2, 5)) }, 0, 0},
		{"parts with a step", func(x *G.Node) *G.Node {
			return sum(op.Slice(x, op.Range{Axis: 1, Step: 2}), op.Slice(x, op.Range{Axis: 1, From: 1, Step: 2}))
		}, 0, 0},
		{"corners", func(x *G.Node) *G.Node { return sum(cut(cut(x, 1, 0, 2), 2, 0, 2), cut(cut(x, 1, 2, 4), 2, 2, 5)) }, 1, 2},
		{"parts and the whole", func(x *G.Node) *G.Node { return sum(append(op.Split(x, 1, 1, 3), x)...) }, 0, 0},
	} {
		p, err := graph.Build(graph.Training, func(g *graph.Graph) {
			x := g.Input("x", graph.Float32, 3, 4, 5)
			for _, grad := range g.GradInput(c.cost(x), x) {
				g.Output("dx", grad.Grad)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := onnx.Lower(p, onnx.Lowering{})
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		for _, tap := range m.Taps() {
			kinds[tap.Op]++
		}
		if kinds["Concat"] != c.concat || c.concat > 0 && kinds["Pad"] != c.pads {
			t.Errorf("%s: %d Concat and %d Pad, want %d and %d", c.name, kinds["Concat"], kinds["Pad"], c.concat, c.pads)
		}
		x := graph.NewTensor(graph.Float32, 3, 4, 5)
		for i := range x.F {
			x.F[i] = float32(math.Sin(float64(i)))
		}
		in := map[string]graph.Tensor{"x": x}
		got, want := inFloat32(t, p, &graph.Store{})(in)["dx"], inFloat64(t, p, &graph.Store{})(in)["dx"]
		if d := distance(got, want); !(d <= 1e-6) {
			t.Errorf("%s: the gradient is %v away", c.name, d)
		}
	}
}
