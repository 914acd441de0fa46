package onnx_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

func TestNodeWithoutWhatItNeedsIsNoPanic(t *testing.T) {
	bare := node("Identity", "y", nil)
	silent := node("Identity", "y", []string{"w"})
	silent.Output = nil
	empty := node("Constant", "y", nil, &pb.AttributeProto{Name: proto.String("value"), Type: pb.AttributeProto_TENSOR.Enum()})
	for _, nodes := range [][]*pb.NodeProto{{bare}, {silent, node("Relu", "y", []string{"x"})}, {empty}} {
		m := parsed(t, modelProto([]*pb.ValueInfoProto{info("x", "batch", 4)}, []*pb.ValueInfoProto{info("y", "batch", 4)},
			[]*pb.TensorProto{weight("w", ramp(4, 0, 1), 4)}, nodes...))
		n, err := m.Lift(onnx.Lifting{})
		if err != nil {
			continue
		}
		graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("y", n.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, 2, 4)})["y"])
		})
	}
}

func TestOperatorOfAnotherDomainIsRefusedWithAWayOut(t *testing.T) {
	const domain = "pkg.torchlib"
	for _, c := range []struct {
		functions []*pb.FunctionProto
		reason    string
	}{
		{nil, "operators of domain pkg.torchlib cannot be trained; export the network in standard operators"},
		{[]*pb.FunctionProto{{Name: proto.String("Twice"), Domain: proto.String(domain)}},
			"a function of the file cannot be trained; inline it"},
	} {
		n := node("Twice", "y", []string{"x"})
		n.Domain = proto.String(domain)
		file := modelProto([]*pb.ValueInfoProto{info("x", "batch", 4)}, []*pb.ValueInfoProto{info("y", "batch", 4)}, nil, n)
		file.OpsetImport = append(file.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String(domain), Version: proto.Int64(1)})
		file.Functions = c.functions
		network, err := parsed(t, file).Lift(onnx.Lifting{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("y", network.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, 2, 4)})["y"])
		})
		if err == nil || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), "Twice_y") {
			t.Errorf("the error is %v, want one that names the node and says %q", err, c.reason)
		}
	}
}

func TestGeluIsOneOperator(t *testing.T) {
	number := func(name string, v float32) *pb.TensorProto { return weight(name, []float32{v}) }
	numbers := []*pb.TensorProto{
		number("half", 0.5), number("quarter", 0.25), number("one", 1), number("root", 1.4142135), number("over", 0.70710677), number("two", 2),
	}
	div := node("Div", "u", []string{"x", "root"})
	erf, sum := node("Erf", "e", []string{"u"}), node("Add", "s", []string{"e", "one"})
	mul := func(out, a, b string) *pb.NodeProto { return node("Mul", out, []string{a, b}) }
	for _, c := range []struct {
		name  string
		nodes []*pb.NodeProto
		gelu  bool
	}{
		{"x·(1+erf) by ½", []*pb.NodeProto{div, erf, sum, mul("p", "x", "s"), mul("y", "p", "half")}, true},
		{"½x by 1+erf", []*pb.NodeProto{mul("u", "over", "x"), erf, node("Add", "s", []string{"one", "e"}), mul("p", "half", "x"), mul("y", "p", "s")}, true},
		{"x by ½(1+erf)", []*pb.NodeProto{mul("u", "x", "over"), erf, sum, mul("p", "s", "half"), mul("y", "x", "p")}, true},
		{"of a product", []*pb.NodeProto{mul("z", "x", "x"), node("Div", "u", []string{"z", "root"}), erf, sum, mul("p", "s", "half"), mul("y", "z", "p")}, true},
		{"¼ for ½", []*pb.NodeProto{div, erf, sum, mul("p", "x", "s"), mul("y", "p", "quarter")}, false},
		{"2 for √2", []*pb.NodeProto{node("Div", "u", []string{"x", "two"}), erf, sum, mul("p", "x", "s"), mul("y", "p", "half")}, false},
		{"2+erf", []*pb.NodeProto{div, erf, node("Add", "s", []string{"e", "two"}), mul("p", "x", "s"), mul("y", "p", "half")}, false},
		{"another x", []*pb.NodeProto{mul("z", "x", "x"), div, erf, sum, mul("p", "z", "s"), mul("y", "p", "half")}, false},
		{"√2 over x", []*pb.NodeProto{node("Div", "u", []string{"root", "x"}), erf, sum, mul("p", "x", "s"), mul("y", "p", "half")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := modelProto([]*pb.ValueInfoProto{info("x", "batch", 4)}, []*pb.ValueInfoProto{info("y", "batch", 4)}, numbers, c.nodes...)
			n, err := parsed(t, file).Lift(onnx.Lifting{})
			if err != nil {
				t.Fatal(err)
			}
			built(t, graph.Inference, func(g *graph.Graph) {
				y := n.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, 2, 4)})["y"]
				g.Output("y", y)
				if made, _ := graph.Made(y); (made.Name() == "Gelu") != c.gelu {
					t.Errorf("it is %s", made.Name())
				}
			})
		})
	}
}

func TestDenseLayerOfALayerNormIsOneOperator(t *testing.T) {
	weights := []*pb.TensorProto{
		weight("scale", ramp(4, 0.5, 0.3), 4), weight("shift", ramp(4, -1, 0.7), 4), weight("w", ramp(12, -2, 0.4), 4, 3),
		weight("turned", ramp(12, -2, 0.4), 3, 4), weight("b", ramp(3, 1, 0.1), 3), weight("row", ramp(3, 1, 0.1), 1, 3),
		weight("quadratic", ramp(16, -2, 0.4), 4, 4), weight("wide", ramp(4, 1, 0.1), 4), weight("column", ramp(4, 1, 0.1), 4, 1),
		weight("each", ramp(12, -2, 0.4), 1, 4, 3), weight("scales", ramp(20, 1, 0.1), 5, 4),
	}
	norm := func(x string, attrs ...*pb.AttributeProto) *pb.NodeProto {
		return node("LayerNormalization", "n", []string{x, "scale", "shift"}, attrs...)
	}
	product, sum := node("MatMul", "p", []string{"n", "w"}), node("Add", "y", []string{"p", "b"})
	gemm := func(w string, attrs ...*pb.AttributeProto) *pb.NodeProto {
		return node("Gemm", "y", []string{"n", w, "b"}, attrs...)
	}
	also := func(v string) *pb.NodeProto { return node("Neg", "also", []string{v}) }
	row, rows, square := graph.Shape{2, 4}, graph.Shape{2, 5, 4}, graph.Shape{4, 4} // the last for no other batch
	for _, c := range []struct {
		name    string
		x       graph.Shape
		dropout float64
		nodes   []*pb.NodeProto
		one     bool
	}{
		{"product and bias", rows, 0, []*pb.NodeProto{norm("x"), product, sum}, true},
		{"bias and product", row, 0, []*pb.NodeProto{norm("x"), product, node("Add", "y", []string{"b", "p"})}, true},
		{"Gemm", row, 0, []*pb.NodeProto{norm("x"), gemm("w")}, true},
		{"Gemm of weights that are turned", row, 0, []*pb.NodeProto{norm("x"), gemm("turned", intAttr("transB", 1))}, true},
		{"Gemm of twice", row, 0, []*pb.NodeProto{norm("x"), gemm("w", floatAttr("alpha", 2))}, false},
		{"Gemm with twice the bias", row, 0, []*pb.NodeProto{norm("x"), gemm("w", floatAttr("beta", 2))}, false},
		{"a bias of two axes", row, 0, []*pb.NodeProto{norm("x"), product, node("Add", "y", []string{"p", "row"})}, false},
		{"norm of two axes", rows, 0, []*pb.NodeProto{node("LayerNormalization", "n", []string{"x", "scales"}, intAttr("axis", -2)), product, sum}, false},
		{"norm without a bias", row, 0, []*pb.NodeProto{node("LayerNormalization", "n", []string{"x", "scale"}), product, sum}, false},
		{"norm read elsewhere", rows, 0, []*pb.NodeProto{norm("x"), product, sum, also("n")}, false},
		{"norm read elsewhere, of a Gemm", row, 0, []*pb.NodeProto{norm("x"), gemm("w"), also("n")}, false},
		{"product read elsewhere", rows, 0, []*pb.NodeProto{norm("x"), product, sum, also("p")}, false},
		{"dropout between", row, 0.5, []*pb.NodeProto{norm("x"), product, sum}, false},
		{"an attribute of another operator", square, 0, []*pb.NodeProto{
			norm("x"), node("MatMul", "p", []string{"n", "quadratic"}), node("Add", "y", []string{"p", "wide"}, intAttr("transB", 1))}, true},
		{"a bias wider than the product", row, 0, []*pb.NodeProto{norm("x"), node("MatMul", "p", []string{"n", "column"}), sum}, false},
		{"weights that are computed", row, 0, []*pb.NodeProto{
			node("Transpose", "t", []string{"turned"}), norm("x"), node("MatMul", "p", []string{"n", "t"}), sum}, false},
		{"Gemm of columns", square, 0, []*pb.NodeProto{norm("x"), gemm("w", intAttr("transA", 1))}, false},
		{"product with some weights of each", rows, 0, []*pb.NodeProto{norm("x"), node("MatMul", "p", []string{"n", "each"}), sum}, false},
		{"the batch second", rows, 0, []*pb.NodeProto{node("Transpose", "t", []string{"x"}, intsAttr("perm", 1, 0, 2)), norm("t"), product, sum}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dims := []any{"batch"}
			for _, d := range c.x[1:] {
				dims = append(dims, d)
			}
			if c.x.Equal(square) {
				dims[0] = 4
			}
			lifted := func(nodes ...*pb.NodeProto) (y []float64, ops []string) {
				outputs := []*pb.ValueInfoProto{info("y", "batch", 3)}
				if nodes[len(nodes)-1].Output[0] == "also" {
					outputs = append(outputs, info("also", "batch", 3))
				}
				n, err := parsed(t, modelProto([]*pb.ValueInfoProto{info("x", dims...)}, outputs, weights, nodes...)).Lift(onnx.Lifting{Dropout: c.dropout})
				if err != nil {
					t.Fatal(err)
				}
				p := built(t, graph.Inference, func(g *graph.Graph) {
					g.Output("y", n.Build(g, map[string]*G.Node{"x": g.Input("x", graph.Float32, c.x...)})["y"])
				})
				store := &graph.Store{}
				if err := p.Fill(store, 1); err != nil {
					t.Fatal(err)
				}
				tape, err := graph.NewTape(p)
				if err != nil {
					t.Fatal(err)
				}
				defer tape.Close()
				out, err := tape.Run(map[string]graph.Tensor{"x": graph.Floats(ramp(c.x.Size(), -3, 0.17), c.x...)}, store)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range out["y"].F {
					y = append(y, float64(v))
				}
				steps, err := p.Steps()
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range steps {
					if s.Op != nil {
						ops = append(ops, s.Op.Name())
					}
				}
				return y, ops
			}
			y, ops := lifted(c.nodes...)
			if slices.Contains(ops, "LayerNormGemm") != c.one {
				t.Errorf("it is %v", ops)
			}
			if !c.one {
				return
			}
			want, ops := lifted(append(c.nodes, also("n"))...)
			if slices.Contains(ops, "LayerNormGemm") {
				t.Fatalf("what is read elsewhere is %v", ops)
			}
			for i := range want {
				if math.Abs(y[i]-want[i]) > 1e-6*math.Abs(want[i]) {
					t.Fatalf("y is %v, want %v", y, want)
				}
			}
		})
	}
}

// An export must write the Transpose again that the product took in.
func TestTransposedFactorIsPartOfTheProduct(t *testing.T) {
	for _, c := range []struct {
		perm *pb.AttributeProto
		part bool
	}{
		{intsAttr("perm", 0, 1, 3, 2), true},
		{intsAttr("perm", 0, 2, 3, 1), false},
	} {
		file := modelProto([]*pb.ValueInfoProto{info("x", "batch", 4, 4, 4)}, []*pb.ValueInfoProto{info("y", "batch", 4, 4, 4)}, nil,
			node("Transpose", "t", []string{"x"}, c.perm), node("MatMul", "y", []string{"x", "t"}))
		n, err := parsed(t, file).Lift(onnx.Lifting{})
		if err != nil {
			t.Fatal(err)
		}
		p := built(t, graph.Inference, func(g *graph.Graph) {
			x := g.Input("x", graph.Float32, 2, 4, 4, 4)
			y := n.Build(g, map[string]*G.Node{"x": x})["y"]
			g.Output("y", y)
			if _, in := graph.Made(y); (in[1] == x) != c.part {
				t.Errorf("with %v the product is of %v", c.perm.Ints, in[1])
			}
		})
		m, _ := lowered(t, p, onnx.Lowering{})
		if ops := nodeOps(decoded(t, m)); !slices.Equal(ops, []string{"Transpose", "MatMul"}) {
			t.Errorf("%v is exported as %v", c.perm.Ints, ops)
		}
	}
}
