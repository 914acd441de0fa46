package onnx_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// halved is a program lowered for float16, as a file.
func halved(t *testing.T, p *graph.Program) *pb.ModelProto {
	t.Helper()
	_, b := lowered(t, p, onnx.Lowering{Target: graph.Target{Half: true}})
	var file pb.ModelProto
	if err := proto.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return &file
}

// Element types, as a walk through the graph finds them.
const (
	f32 = pb.TensorProto_FLOAT
	f16 = pb.TensorProto_FLOAT16
	i64 = pb.TensorProto_INT64
	yes = pb.TensorProto_BOOL
)

// typed finds the type of every value, and fails on a node whose inputs have both float types.
func typed(t *testing.T, file *pb.ModelProto) map[string]pb.TensorProto_DataType {
	t.Helper()
	types := map[string]pb.TensorProto_DataType{}
	for _, in := range file.Graph.Input {
		types[in.GetName()] = pb.TensorProto_DataType(in.GetType().GetTensorType().GetElemType())
	}
	for _, c := range file.Graph.Initializer {
		types[c.GetName()] = pb.TensorProto_DataType(c.GetDataType())
	}
	for _, n := range file.Graph.Node {
		of, ints := pb.TensorProto_UNDEFINED, 0
		for i, in := range n.Input {
			typ, ok := types[in]
			switch {
			case !ok:
				t.Fatalf("%s reads %s before it is made", n.GetName(), in)
			case typ != f32 && typ != f16:
				ints++
			case of != pb.TensorProto_UNDEFINED && of != typ:
				t.Errorf("%s reads %v and, input %d, %v", n.GetName(), of, i, typ)
			default:
				of = typ
			}
		}
		for i, out := range n.Output {
			switch kind := n.GetOpType(); {
			case kind == "Cast":
				for _, a := range n.Attribute {
					types[out] = pb.TensorProto_DataType(a.GetI())
				}
			case kind == "Greater" || kind == "GreaterOrEqual" || kind == "Less" || kind == "LessOrEqual" || kind == "Equal":
				types[out] = yes
			case kind == "Shape" || kind == "MaxPool" && i > 0 || of == pb.TensorProto_UNDEFINED && ints > 0 && kind != "ConstantOfShape":
				types[out] = i64
			case kind == "ConstantOfShape":
				types[out] = f32
			default:
				types[out] = of
			}
		}
	}
	return types
}

// byPrecision lists the operators that compute in float16, and those in float32, casts left out.
func byPrecision(t *testing.T, file *pb.ModelProto) (half, single []string) {
	t.Helper()
	types := typed(t, file)
	for _, n := range file.Graph.Node {
		if n.GetOpType() == "Cast" {
			continue
		}
		if slices.ContainsFunc(n.Input, func(in string) bool { return types[in] == f16 }) {
			half = append(half, n.GetOpType())
		} else {
			single = append(single, n.GetOpType())
		}
	}
	for _, out := range file.Graph.Output {
		if types[out.GetName()] != f32 {
			t.Errorf("output %s is %v", out.GetName(), types[out.GetName()])
		}
	}
	return half, single
}

// casts counts those between the two precisions; others are a comparison's.
func casts(t *testing.T, file *pb.ModelProto) (n int) {
	t.Helper()
	types := typed(t, file)
	for _, node := range file.Graph.Node {
		if node.GetOpType() == "Cast" && types[node.Input[0]] != yes {
			n++
		}
	}
	return n
}

// float32Only must not be given float16.
var float32Only = []string{"AveragePool", "BatchNormalization", "Div", "Exp", "GlobalAveragePool", "LayerNormalization", "Log",
	"LogSoftmax", "OneHot", "Pow", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "ScatterElements", "Softmax", "Sqrt"}

func TestHalfKeepsReductionsNormsAndResultsInFloat32(t *testing.T) {
	for _, c := range []struct {
		name     string
		program  *graph.Program
		products []string // in float32 all the same
	}{
		{"convolutions", trained(t), []string{"MatMul"}}, // the classifier's gradient, of features that the loss reads too
		{"attention", attentive(t), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := halved(t, c.program)
			half, single := byPrecision(t, file)
			for _, op := range float32Only {
				if slices.Contains(half, op) {
					t.Errorf("%s computes in float16", op)
				}
			}
			products := slices.DeleteFunc(slices.Clone(single), func(op string) bool {
				return !slices.Contains([]string{"Conv", "ConvTranspose", "Gemm", "MatMul"}, op)
			})
			if !slices.Equal(products, c.products) {
				t.Errorf("%v compute in float32, want %v", products, c.products)
			}
			t.Logf("%d nodes in float16, %d in float32, %d casts", len(half), len(single), casts(t, file))
		})
	}
}

// attentive is a step of a transformer's block on 3 tokens and its classifier.
func attentive(t *testing.T) *graph.Program {
	return built(t, graph.Training, func(g *graph.Graph) {
		w := weigh(g)
		x := op.MatMul(g.Input("x", graph.Float32, 2, 3, 8), w(8, 8))
		x = op.Add(x, w(1, 3, 8))
		h := op.LayerNorm(x, w(8), w(8), 2, 1e-5)
		scores := op.Scale(op.MatMulT(op.MatMul(h, w(8, 8)), op.MatMul(h, w(8, 8)), false, true), 0.25)
		x = op.Add(x, op.MatMul(op.Softmax(scores, 2), op.MatMul(h, w(8, 8))))
		x = op.Add(x, op.MatMul(op.Gelu(op.MatMul(x, w(8, 16))), w(16, 8)))
		logits := op.Gemm(op.Reshape(op.Slice(x, op.Range{Axis: 1, To: 1}), 2, 8), w(5, 8), w(5))
		g.Output("logits", logits)
		loss := op.Neg(op.ReduceMean(op.Mul(op.OneHot(g.Input("labels", graph.Int64, 2), 5), op.LogSoftmax(logits, 1)), nil, false))
		g.Output("loss", loss)
		for _, d := range g.Grad(loss) {
			g.Update(d.Name, op.Sub(d.Param, op.Scale(d.Grad, 0.1)))
		}
	})
}

func TestHalfKeepsATransformersStreamInFloat16(t *testing.T) {
	file := halved(t, attentive(t))
	types := typed(t, file)
	var sums []pb.TensorProto_DataType
	for _, n := range file.Graph.Node {
		if n.GetOpType() == "Add" {
			sums = append(sums, types[n.Output[0]])
		}
	}
	// Forward, in order: positions, attention, MLP.
	if want := []pb.TensorProto_DataType{f16, f16, f16}; len(sums) < 3 || !slices.Equal(sums[:3], want) {
		t.Errorf("sums are of %v", sums)
	}
}

// TestHalfKeepsLossesInFloat32 has a loss that multiplies matrices: each image's features by every other's.
func TestHalfKeepsLossesInFloat32(t *testing.T) {
	file := halved(t, built(t, graph.Training, func(g *graph.Graph) {
		w := weigh(g)
		x := g.Input("x", graph.Float32, 4, 8)
		f := op.Relu(op.MatMul(op.Relu(op.MatMul(x, w(8, 8))), w(8, 6)))
		given := g.Input("given", graph.Float32, 4, 6)
		gram := func(f *G.Node) *G.Node { return op.MatMulT(f, f, false, true) }
		miss := op.Sub(gram(f), gram(given))
		loss := op.ReduceMean(op.Mul(miss, miss), nil, false)
		g.Output("loss", loss)
		for _, d := range g.Grad(op.Scale(loss, 1024)) {
			g.Update(d.Name, op.Sub(d.Param, op.Div(d.Grad, op.Scalar(d.Grad, 1024))))
		}
	}))
	half, single := byPrecision(t, file)
	count := func(list []string) (n int) {
		for _, kind := range list {
			if kind == "MatMul" {
				n++
			}
		}
		return n
	}
	// Forward two and two Grams; backward a Gram's two gradients, two weights' and one layer's input's.
	if count(half) != 5 || count(single) != 4 {
		t.Errorf("%d products in float16, %d in float32: want 5 and 4", count(half), count(single))
	}
}

// TestHalfSumsNoTermsOfFloat16: dy·x, which batch norm and layer norm sum for their gradients, would overflow.
func TestHalfSumsNoTermsOfFloat16(t *testing.T) {
	for _, p := range []*graph.Program{trained(t), attentive(t)} {
		file := halved(t, p)
		makers := map[string]*pb.NodeProto{}
		for _, n := range file.Graph.Node {
			for _, out := range n.Output {
				makers[out] = n
			}
			if n.GetOpType() != "ReduceSum" && n.GetOpType() != "ReduceMean" {
				continue
			}
			if m := makers[n.Input[0]]; m != nil && m.GetOpType() == "Cast" {
				if m = makers[m.Input[0]]; m.GetOpType() == "Mul" && !slices.ContainsFunc(m.Input, func(in string) bool {
					return makers[in] == nil || makers[in].GetOpType() == "Cast"
				}) {
					t.Errorf("%s sums %s of float16, a product of %v", n.GetName(), n.Input[0], m.Input)
				}
			}
		}
	}
}

func TestHalfCastsNothingTwice(t *testing.T) {
	file := halved(t, trained(t))
	seen := map[string]bool{}
	for _, n := range file.Graph.Node {
		if n.GetOpType() != "Cast" {
			continue
		}
		if strings.Count(n.Output[0], ":float16") > 1 {
			t.Errorf("%s is cast to and fro", n.Output[0])
		}
		key := n.Input[0] + n.Attribute[0].String()
		if seen[key] {
			t.Errorf("%s is cast twice", n.Input[0])
		}
		seen[key] = true
	}
}

// TestHalfStepOfAResNetCastsLittle: a residual block has two convolutions between batch norms, which compute in float32. Each has its image
// cast forward and back, its weights, its gradient, and what the gradient makes of image and weights.
func TestHalfStepOfAResNetCastsLittle(t *testing.T) {
	count := func(blocks int) int {
		return casts(t, halved(t, built(t, graph.Training, func(g *graph.Graph) {
			w := weigh(g)
			x := op.Conv(g.Input("x", graph.Float32, 2, 3, 8, 8), w(32, 3, 3, 3), nil, pad1)
			for range blocks {
				x = residual(x, w, byBatch)
			}
			loss := op.ReduceMean(op.Mul(x, x), nil, false)
			g.Output("loss", loss)
			for _, d := range g.Grad(loss) {
				g.Update(d.Name, op.Sub(d.Param, d.Grad))
			}
		})))
	}
	one, three := count(1), count(3)
	t.Logf("%d casts in a step with one block, %d with three", one, three)
	if block := (three - one) / 2; block > 13 {
		t.Errorf("a block takes %d casts, want 13 at most", block)
	}
}
