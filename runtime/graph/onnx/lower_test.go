package onnx_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// lowered is the program's model and its bytes.
func lowered(t *testing.T, p *graph.Program, l onnx.Lowering) (*onnx.Model, []byte) {
	t.Helper()
	m, err := onnx.Lower(p, l)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return m, b
}

func built(t *testing.T, mode graph.Mode, describe func(g *graph.Graph)) *graph.Program {
	t.Helper()
	p, err := graph.Build(mode, describe)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// small fills a parameter with values around 0.1, so that as a variance they do.
func small(values []float32, _ graph.Shape, rng *rand.Rand) {
	for i := range values {
		values[i] = 0.05 + 0.1*rng.Float32()
	}
}

// trained is a step of a network in which features, weights and gradients have several readers: two stages share a
// convolution's weights, each stage adds its input to its result, and the loss sees the features twice.
func trained(t *testing.T) *graph.Program {
	return built(t, graph.Training, func(g *graph.Graph) {
		x := g.Input("x", graph.Float32, 4, 16, 6, 6)
		labels := g.Input("labels", graph.Int64, 4)
		lr := g.Knob("lr", 0.1)
		shared := g.Param("shared.weight", graph.Shape{16, 16, 3, 3}, small)
		h := x
		for i := range 2 {
			gamma := g.Param(fmt.Sprintf("bn%d.weight", i), graph.Shape{16}, graph.Constant(1))
			beta := g.Param(fmt.Sprintf("bn%d.bias", i), graph.Shape{16}, graph.Constant(0))
			y, mean, variance := op.BatchNormTraining(op.Conv(h, shared, nil, pad1), gamma, beta, 1e-5)
			g.Output(fmt.Sprintf("mean%d", i), mean)
			g.Output(fmt.Sprintf("variance%d", i), variance)
			h = op.Relu(op.Add(y, h))
		}
		features := op.Flatten(op.GlobalAveragePool(h))
		weight := g.Param("linear.weight", graph.Shape{5, 16}, small)
		bias := g.Param("linear.bias", graph.Shape{5}, graph.Constant(0))
		logits := op.Gemm(features, weight, bias)
		target := op.OneHot(labels, 5)
		loss := op.Neg(op.ReduceMean(op.Mul(target, op.LogSoftmax(logits, 1)), nil, false))
		loss = op.Add(loss, op.ReduceMean(op.Mul(features, features), nil, false))
		g.Output("loss", loss)
		for _, d := range g.Grad(loss) {
			g.Update(d.Name, op.Sub(d.Param, op.Mul(lr, d.Grad)))
		}
	})
}

var pad1 = op.ConvAttrs{Pads: [4]int{1, 1, 1, 1}}

func TestProgramBuiltAgainLowersToTheSameBytes(t *testing.T) {
	for name, target := range map[string]graph.Target{"plain": {}, "portable": {Portable: true}, "fused": {Fused: true}, "blocked": {Fused: true, Block: 16}} {
		t.Run(name, func(t *testing.T) {
			_, want := lowered(t, trained(t), onnx.Lowering{Target: target})
			for i := range 20 {
				if _, got := lowered(t, trained(t), onnx.Lowering{Target: target}); !bytes.Equal(got, want) {
					t.Fatalf("build %d gives %d other bytes, of %d", i+1, differing(got, want), len(want))
				}
			}
		})
	}
}

// differing counts the places at which two files differ.
func differing(a, b []byte) int {
	n := max(len(a), len(b)) - min(len(a), len(b))
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// inference is a small classifier with batch norm, as it is exported.
func inference(t *testing.T, batch int) *graph.Program {
	return built(t, graph.Inference, func(g *graph.Graph) {
		x := g.Input("x", graph.Float32, batch, 3, 8, 8)
		h := op.Conv(x, g.Param("conv.weight", graph.Shape{4, 3, 3, 3}, small), nil, pad1)
		h = op.BatchNorm(h,
			g.Param("bn.weight", graph.Shape{4}, small),
			g.Param("bn.bias", graph.Shape{4}, small),
			g.State("bn.running_mean", graph.State, graph.Shape{4}, small),
			g.State("bn.running_var", graph.State, graph.Shape{4}, small), 1e-5)
		h = op.Flatten(op.GlobalAveragePool(op.Relu(h)))
		weight := g.Param("linear.weight", graph.Shape{10, 4}, small)
		g.Output("logits", op.Gemm(h, weight, g.Param("linear.bias", graph.Shape{10}, small)))
	})
}

func TestExportDependsOnNoBatchSize(t *testing.T) {
	store := &graph.Store{}
	export := func(batch int) (*onnx.Model, []byte) {
		p := inference(t, batch)
		if err := p.Fill(store, 1); err != nil {
			t.Fatal(err)
		}
		return lowered(t, p, onnx.Lowering{Store: store, Batch: "batch"})
	}
	m, two := export(2)
	if _, three := export(3); !bytes.Equal(two, three) {
		t.Errorf("batches of 2 and of 3 give models that differ in %d of %d bytes", differing(two, three), len(two))
	}
	for _, v := range []onnx.Value{m.Inputs()[0], m.Outputs()[0]} {
		if len(m.Inputs()) != 1 || v.Shape[0].String() != "batch" || v.Shape[1].Dynamic() {
			t.Errorf("%s is %v among %d inputs, want a dynamic batch first and nothing else to feed", v.Name, v.Shape, len(m.Inputs()))
		}
	}
}

func TestExportedBatchNormFoldsAway(t *testing.T) {
	p := inference(t, 2)
	store := &graph.Store{}
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	m, _ := lowered(t, p, onnx.Lowering{Store: store, Batch: "batch"})
	if folded, err := m.FoldBatchNorm(); folded != 1 || err != nil {
		t.Fatalf("folded %d, %v, want 1 batch norm", folded, err)
	}
	file := decoded(t, m)
	if got, want := nodeOps(file), []string{"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}; !slices.Equal(got, want) {
		t.Errorf("folded, the model has nodes %v, want %v", got, want)
	}
	names := initializerNames(file)
	slices.Sort(names)
	if want := []string{"conv.bias", "conv.weight", "linear.bias", "linear.weight"}; !slices.Equal(names, want) {
		t.Errorf("folded, the model has weights %v, want %v", names, want)
	}
	tensor := func(name string) graph.Tensor { stored, _ := store.Tensor(name); return stored }
	s := float64(tensor("bn.weight").F[1]) / math.Sqrt(float64(tensor("bn.running_var").F[1])+1e-5)
	want := float64(tensor("bn.bias").F[1]) - s*float64(tensor("bn.running_mean").F[1])
	if got := float64(initializer(t, m, "conv.bias").F[1]); math.Abs(got-want) > 1e-6 {
		t.Errorf("the folded bias is %v, want shift − s·mean = %v", got, want)
	}
	if got := initializer(t, m, "conv.weight"); got.F[27] == tensor("conv.weight").F[27] {
		t.Error("the folded weight is the stored one")
	}
}

func TestFoldingLeavesTheStoreAsItWas(t *testing.T) {
	p := inference(t, 2)
	store := &graph.Store{}
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	before := store.Clone()
	m, _ := lowered(t, p, onnx.Lowering{Store: store})
	if _, err := m.FoldBatchNorm(); err != nil {
		t.Fatal(err)
	}
	for _, name := range store.Names() {
		got, _ := store.Tensor(name)
		if want, _ := before.Tensor(name); !slices.Equal(got.F, want.F) {
			t.Errorf("%s changed", name)
		}
	}
}

// composite reports whether plain ONNX writes an example in several operators or under another name: batch norm in training
// mode, which is never exported, the products of which an operand is transposed, padding by x's own elements, and what is
// made of other operators.
func composite(row string, example int) bool {
	return slices.Contains(composites, row) || row == "MatMul" && example >= 3 || row == "Pad" && example >= 2
}

func TestExportHasNothingForTheGradient(t *testing.T) {
	for name, c := range map[string]struct {
		want []string
		f    func(w func(shape ...int) *G.Node, x *G.Node) *G.Node
	}{
		"LayerNormGemm": {[]string{"LayerNormalization", "Gemm"}, func(w func(shape ...int) *G.Node, x *G.Node) *G.Node {
			return op.LayerNormGemm(x, w(4), w(4), w(3, 4), w(3), 1e-5)
		}},
		"LayerNormGemm of three axes": {[]string{"Reshape", "LayerNormalization", "Reshape", "Gemm", "Reshape"}, func(w func(shape ...int) *G.Node, x *G.Node) *G.Node {
			return op.LayerNormGemm(op.Reshape(x, 1, 2, 4), w(4), w(4), w(3, 4), w(3), 1e-5)
		}},
		"LayerNormMatMul": {[]string{"LayerNormalization", "MatMul", "Add"}, func(w func(shape ...int) *G.Node, x *G.Node) *G.Node {
			return op.LayerNormMatMul(x, w(4), w(4), w(4, 3), w(3), 1e-5)
		}},
		"Gelu": {[]string{"Mul", "Erf", "Add", "Mul", "Mul"}, func(_ func(shape ...int) *G.Node, x *G.Node) *G.Node { return op.Gelu(x) }},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := lowered(t, built(t, graph.Inference, func(g *graph.Graph) {
				g.Output("y", c.f(weigh(g), g.Input("x", graph.Float32, 2, 4)))
			}), onnx.Lowering{})
			if got := nodeOps(decoded(t, m)); !slices.Equal(got, c.want) {
				t.Errorf("lowers to %v, want %v", got, c.want)
			}
		})
	}
}

var composites = []string{
	"And", "BatchNormalizationTraining", "Cast", "DepthToSpace", "Dropout", "Einsum", "Equal", "ExpandBatch", "Gelu", "GlobalMaxPool",
	"Greater", "GreaterOrEqual", "GroupNormalization", "InstanceNormalization", "LayerNormGemm", "Less", "LessOrEqual", "LpNormalization",
	"Mean", "Mish", "Not", "Or", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMin",
	"ReduceSumSquare", "SpaceToDepth", "Split", "Sum", "Where",
}

func TestCompositeHoldsNoBatchSize(t *testing.T) {
	for name, f := range map[string]func(x *G.Node) *G.Node{
		"DepthToSpace": func(x *G.Node) *G.Node { return op.DepthToSpace(x, 2, true) },
		"SpaceToDepth": func(x *G.Node) *G.Node { return op.SpaceToDepth(x, 2) },
		"GroupNormalization": func(x *G.Node) *G.Node {
			per := graph.Const(x, graph.Array{Shape: graph.Shape{4}, F: []float64{1, 2, 3, 4}})
			return op.GroupNorm(x, per, per, 2, 1e-5)
		},
		"Einsum": func(x *G.Node) *G.Node {
			return op.Einsum("nchw,nghw->ncg", x, op.Slice(x, op.Range{Axis: 1, From: 1}))
		},
		"Expand":          func(x *G.Node) *G.Node { return op.Expand(op.ReduceMean(x, []int{1, 2}, true), graph.ShapeOf(x)) },
		"Pad":             func(x *G.Node) *G.Node { return op.PadFrom(x, "reflect", []int{0, 0, 1, 1}, []int{0, 0, 1, 1}) },
		"ReduceLogSumExp": func(x *G.Node) *G.Node { return op.ReduceLogSumExp(x, []int{1, 3}, false) },
		"LayerNormGemm": func(x *G.Node) *G.Node {
			two := graph.Const(x, graph.Array{Shape: graph.Shape{2}, F: []float64{1, 2}})
			w := graph.Const(x, graph.Array{Shape: graph.Shape{2, 2}, F: []float64{1, 2, 3, 4}})
			return op.LayerNormMatMul(op.LayerNormGemm(x, two, two, w, two, 1e-5), two, two, w, two, 1e-5)
		},
		"Split": func(x *G.Node) *G.Node { return op.Split(x, 1, 1, 3)[1] },
		"Where": func(x *G.Node) *G.Node { return op.Where(op.Greater(x, op.Scalar(x, 0)), x, op.Scalar(x, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			export := func(batch int) []byte {
				p := built(t, graph.Inference, func(g *graph.Graph) {
					g.Output("y", f(g.Input("x", graph.Float32, batch, 4, 6, 2)))
				})
				_, b := lowered(t, p, onnx.Lowering{Batch: "batch"})
				return b
			}
			if !bytes.Equal(export(2), export(3)) {
				t.Error("batches of 2 and of 3 give other models")
			}
		})
	}
}

func TestForwardOperatorLowersToOneNodeOfItsName(t *testing.T) {
	for _, row := range op.Table {
		for i, e := range row.Examples {
			if composite(row.Name, i) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", row.Name, i), func(t *testing.T) {
				p := built(t, graph.Inference, func(g *graph.Graph) {
					in := make([]*G.Node, len(e.In))
					for k, s := range e.In {
						in[k] = g.Input(fmt.Sprint(k), graph.Float32, s...)
					}
					g.Output("y", e.Build(in))
				})
				m, _ := lowered(t, p, onnx.Lowering{})
				file := decoded(t, m)
				if got := nodeOps(file); !slices.Equal(got, []string{row.Name}) {
					t.Fatalf("lowers to %v, want one %s", got, row.Name)
				}
				n := file.Graph.Node[0]
				if n.GetDomain() != "" || len(n.Output) != 1 {
					t.Errorf("the node is of domain %q and has %d outputs, want the default domain and one", n.GetDomain(), len(n.Output))
				}
				if len(file.OpsetImport) != 1 || file.OpsetImport[0].GetVersion() != onnx.Opset {
					t.Errorf("the model imports %v, want the default domain at opset %d alone", file.OpsetImport, onnx.Opset)
				}
			})
		}
	}
}
