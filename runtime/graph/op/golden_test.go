package op_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// golden is what PyTorch computes for an example, in float64; testdata/goldens/ops.py says how.
type golden struct {
	Inputs []graph.Shape
	Shape  graph.Shape // of y
	Values map[string][]float64
}

const goldens = "../../../testdata/goldens/ops.json"

func readGoldens(t *testing.T) map[string]golden {
	t.Helper()
	b, err := os.ReadFile(goldens)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]golden
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatalf("%s: %v", goldens, err)
	}
	return all
}

func TestOperatorsEqualPyTorch(t *testing.T) {
	all := readGoldens(t)
	for _, row := range op.Table {
		for i, e := range row.Examples {
			key := fmt.Sprintf("%s/%d", row.Name, i)
			t.Run(key, func(t *testing.T) {
				g, ok := all[key]
				if !ok {
					t.Fatal("no golden: add the example to testdata/goldens/ops.py and run it")
				}
				equalsGolden(t, e, g)
			})
			delete(all, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		t.Errorf("golden %s has no example: take it out of testdata/goldens/ops.py and run that", key)
	}
}

func equalsGolden(t *testing.T, e op.Example, g golden) {
	if !slices.EqualFunc(e.In, g.Inputs, graph.Shape.Equal) {
		t.Fatalf("the example has inputs %v, the golden %v", e.In, g.Inputs)
	}
	got := results(t, e)
	if names, want := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(g.Values)); !slices.Equal(names, want) {
		t.Fatalf("the example gives %v, the golden %v", names, want)
	}
	if s := got["y"].Shape; !s.Equal(g.Shape) {
		t.Fatalf("y is %v, in PyTorch %v", s, g.Shape)
	}
	for name, want := range g.Values {
		near(t, name, got[name].F, want)
	}
}

// results are all that the example's program gives, by name.
func results(t *testing.T, e op.Example) map[string]graph.Array {
	t.Helper()
	p, err := e.Program()
	if err != nil {
		t.Fatal(err)
	}
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	return eval(t, tape, e.Inputs())
}

// near allows for the order of sums and for sines that differ in their last bit: |Δ| ≤ 1e-10·max(1,|want|).
func near(t *testing.T, name string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d elements, want %d", name, len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(got[i] - w); !(d <= 1e-10*math.Max(1, math.Abs(w))) {
			t.Fatalf("%s[%d] is %.17g, want %.17g", name, i, got[i], w)
		}
	}
}

func TestNodeReadThreeTimesGetsTheSumOfThreeGradients(t *testing.T) {
	square := func(h *G.Node) *G.Node { return op.Mul(h, h) } // reads its input twice itself
	readers := []func(*G.Node) *G.Node{op.Exp, square, op.Sigmoid}
	reading := func(readers ...func(*G.Node) *G.Node) op.Example {
		return op.Example{In: []graph.Shape{{2, 3}}, Build: func(in []*G.Node) *G.Node {
			h := op.Tanh(in[0])
			y := readers[0](h)
			for _, read := range readers[1:] {
				y = op.Add(y, read(h))
			}
			return y
		}}
	}
	sum := make([]float64, 6)
	for _, r := range readers {
		for i, d := range results(t, reading(r))["d0"].F {
			sum[i] += d
		}
	}
	near(t, "d0", results(t, reading(readers...))["d0"].F, sum)
}
