package onnx_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph/onnx"
)

// evaluate runs the Conv (stride 1, padding 1, 3x3, no groups), Gemm (transB=1) and BatchNormalization nodes of a model in
// float64, by their definitions, on x of [N,C,S,S] or [N,C], and returns what the last node computes.
func evaluate(t *testing.T, m *onnx.Model, x []float64, n, size int) []float64 {
	t.Helper()
	weights := func(name string) []float64 {
		var v []float64
		for _, f := range initializer(t, m, name).F {
			v = append(v, float64(f))
		}
		return v
	}
	bias := func(n *pb.NodeProto, channels int) []float64 {
		if len(n.Input) < 3 {
			return make([]float64, channels)
		}
		return weights(n.Input[2])
	}
	values := map[string][]float64{"x": x}
	var last []float64
	for _, node := range decoded(t, m).Graph.Node {
		x := values[node.Input[0]]
		area := size * size
		in := len(x) / n / area
		switch node.GetOpType() {
		case "Conv":
			w := weights(node.Input[1])
			out := len(w) / in / 9
			b := bias(node, out)
			last = make([]float64, n*out*area)
			for i := range last {
				image, o, row, col := i/area/out, i/area%out, i%area/size, i%size
				last[i] = b[o]
				for c := range in {
					for k := range 9 {
						if y, z := row+k/3-1, col+k%3-1; y >= 0 && y < size && z >= 0 && z < size {
							last[i] += w[(o*in+c)*9+k] * x[(image*in+c)*area+y*size+z]
						}
					}
				}
			}
		case "Gemm":
			w := weights(node.Input[1])
			out := len(w) / in
			b := bias(node, out)
			last = make([]float64, n*out)
			for i := range last {
				last[i] = b[i%out]
				for c := range in {
					last[i] += w[i%out*in+c] * x[i/out*in+c]
				}
			}
		case "BatchNormalization":
			scale, shift, mean, variance := weights(node.Input[1]), weights(node.Input[2]), weights(node.Input[3]), weights(node.Input[4])
			epsilon := 1e-5
			if len(node.Attribute) > 0 {
				epsilon = float64(node.Attribute[0].GetF())
			}
			last = make([]float64, len(x))
			for i := range last {
				c := i / area % in
				last[i] = scale[c]*(x[i]-mean[c])/math.Sqrt(variance[c]+epsilon) + shift[c]
			}
		default:
			t.Fatalf("cannot evaluate %s", node.GetOpType())
		}
		values[node.Output[0]] = last
	}
	return last
}

// normalized is the statistics of a batch normalization over 4 channels, and its node.
func normalized(name, from string) ([]*pb.TensorProto, *pb.NodeProto) {
	part := func(s string) string { return name + "." + s }
	return []*pb.TensorProto{
			weight(part("weight"), ramp(4, 0.5, 0.3), 4), weight(part("bias"), ramp(4, -1, 0.4), 4),
			weight(part("mean"), ramp(4, 0.1, -0.2), 4), weight(part("var"), ramp(4, 0.002, 0.7), 4),
		}, node("BatchNormalization", name, []string{from, part("weight"), part("bias"), part("mean"), part("var")},
			&pb.AttributeProto{Name: proto.String("epsilon"), Type: pb.AttributeProto_FLOAT.Enum(), F: proto.Float32(1e-3)})
}

func TestFoldedModelComputesTheSame(t *testing.T) {
	bn1, norm1 := normalized("bn1", "c1")
	bn2, norm2 := normalized("bn2", "c2")
	conv := weight("conv1.weight", ramp(4*4*9, -0.7, 0.011), 4, 4, 3, 3)
	fc := weight("fc.weight", ramp(4*4, -0.3, 0.05), 4, 4)
	row := weight("fc.bias", ramp(4, -2, 1), 1, 4)
	conv1 := node("Conv", "c1", []string{"x", "conv1.weight"}, intsAttr("pads", 1, 1, 1, 1))
	conv2 := node("Conv", "c2", []string{"bn1", "conv1.weight"}, intsAttr("pads", 1, 1, 1, 1)) // shares its weight
	for _, c := range []struct {
		name    string
		size    int
		weights []*pb.TensorProto
		nodes   []*pb.NodeProto
		folded  int
		left    []string
	}{
		{"conv", 5, append(bn1, conv), []*pb.NodeProto{conv1, norm1}, 1, []string{"conv1.weight", "conv1.bias"}},
		{"conv with bias", 5, append(bn1, conv, weight("b", ramp(4, 1, 1), 4)),
			[]*pb.NodeProto{node("Conv", "c1", []string{"x", "conv1.weight", "b"}), norm1}, 1, []string{"conv1.weight", "b"}},
		{"shared weight", 5, slices.Concat(bn1, bn2, []*pb.TensorProto{conv}), []*pb.NodeProto{conv1, norm1, conv2, norm2}, 2,
			[]string{"conv1.weight", "conv1.weight_1", "conv1.bias", "conv1.bias_1"}},
		{"two in a row", 5, slices.Concat(bn1, bn2, []*pb.TensorProto{conv}),
			[]*pb.NodeProto{conv1, norm1, node("BatchNormalization", "bn2", append([]string{"bn1"}, norm2.Input[1:]...))}, 2,
			[]string{"conv1.weight", "conv1.bias"}},
		{"dense", 1, append(bn1, fc, row), []*pb.NodeProto{
			node("Gemm", "c1", []string{"x", "fc.weight", "fc.bias"}, intAttr("transB", 1)), norm1}, 1, []string{"fc.weight", "fc.bias"}},
		{"dense without bias", 1, append(bn1, fc), []*pb.NodeProto{
			node("Gemm", "c1", []string{"x", "fc.weight"}, intAttr("transB", 1)), norm1}, 1, []string{"fc.weight", "fc.bias"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			last := c.nodes[len(c.nodes)-1].Output[0]
			p := modelProto([]*pb.ValueInfoProto{info("x", "batch", 4, c.size, c.size)}, []*pb.ValueInfoProto{info(last)}, c.weights, c.nodes...)
			m := parsed(t, p)
			x := make([]float64, 2*4*c.size*c.size)
			for i := range x {
				x[i] = math.Sin(float64(3 * i))
			}
			want := evaluate(t, m, x, 2, c.size)
			folded, err := m.FoldBatchNorm()
			if err != nil || folded != c.folded {
				t.Fatalf("folded %d (%v), want %d", folded, err, c.folded)
			}
			got := evaluate(t, m, x, 2, c.size)
			for i := range want {
				if math.Abs(got[i]-want[i]) > 1e-5*max(1, math.Abs(want[i])) {
					t.Fatalf("element %d is %v, want %v", i, got[i], want[i])
				}
			}
			left := initializerNames(decoded(t, m))
			slices.Sort(left)
			slices.Sort(c.left)
			if !slices.Equal(left, c.left) {
				t.Errorf("initializers %v, want %v", left, c.left)
			}
		})
	}
}

func TestOldModelIsFoldedWithItsInputs(t *testing.T) {
	p := network()
	p.IrVersion = proto.Int64(3)
	for _, w := range p.Graph.Initializer {
		p.Graph.Input = append(p.Graph.Input, info(w.GetName()))
	}
	m := parsed(t, p)
	if folded, err := m.FoldBatchNorm(); err != nil || folded != 1 {
		t.Fatalf("folded %d: %v", folded, err)
	}
	var names []string
	for _, in := range decoded(t, m).Graph.Input {
		names = append(names, in.GetName())
	}
	if want := []string{"image", "conv1.weight", "fc.weight", "fc.bias", "conv1.bias"}; !slices.Equal(names, want) {
		t.Errorf("inputs %v, want %v", names, want)
	}
}

func TestBatchNormThatCannotBeFoldedStays(t *testing.T) {
	for name, edit := range map[string]func(*pb.ModelProto){
		"output read elsewhere": func(p *pb.ModelProto) { p.Graph.Node[2].Input[0] = "/layer1/conv" },
		"output of the graph":   func(p *pb.ModelProto) { p.Graph.Output = append(p.Graph.Output, info("/layer1/conv")) },
		"training": func(p *pb.ModelProto) {
			p.Graph.Node[1].Attribute = append(p.Graph.Node[1].Attribute, intAttr("training_mode", 1))
		},
		"statistics":          func(p *pb.ModelProto) { p.Graph.Node[1].Output = append(p.Graph.Node[1].Output, "", "mean") },
		"old operator set":    func(p *pb.ModelProto) { p.OpsetImport[0].Version = proto.Int64(6) },
		"after the input":     func(p *pb.ModelProto) { p.Graph.Node[1].Input[0] = "image" },
		"a missing parameter": func(p *pb.ModelProto) { p.Graph.Node[1].Input = p.Graph.Node[1].Input[:4] },
		"a fed parameter": func(p *pb.ModelProto) {
			p.Graph.Input = append(p.Graph.Input, info("mean", 4))
			p.Graph.Node[1].Input[3] = "mean"
		},
		"after another operator":         func(p *pb.ModelProto) { p.Graph.Node[0].OpType = proto.String("ConvTranspose") },
		"after a Gemm of another layout": func(p *pb.ModelProto) { p.Graph.Node[0].OpType = proto.String("Gemm") },
		"half precision": func(p *pb.ModelProto) {
			w := p.Graph.Initializer[0]
			w.DataType, w.Int32Data, w.FloatData = proto.Int32(int32(pb.TensorProto_FLOAT16)), make([]int32, 72), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := network()
			edit(p)
			m := parsed(t, p)
			folded, err := m.FoldBatchNorm()
			if err != nil || folded != 0 {
				t.Fatalf("folded %d (%v), want none", folded, err)
			}
			if !proto.Equal(decoded(t, m), p) {
				t.Error("the model changed")
			}
		})
	}
}

func TestUnsoundParametersAreNotFolded(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*pb.ModelProto)
		want string
	}{
		"variance": {func(p *pb.ModelProto) { p.Graph.Initializer[4].FloatData[2] = -1 },
			`node "BatchNormalization_/layer1/bn" (BatchNormalization): initializer "bn1.running_var": the variance of channel 2 is -1`},
		"size": {func(p *pb.ModelProto) { p.Graph.Initializer[1] = weight("bn1.weight", ramp(3, 1, 1), 3) },
			`initializer "bn1.weight" has 3 elements for 4 channels`},
		"scalar": {func(p *pb.ModelProto) { p.Graph.Initializer[0] = weight("conv1.weight", ramp(1, 1, 1)) },
			`initializer "conv1.weight" is a scalar`},
	} {
		t.Run(name, func(t *testing.T) {
			p := network()
			c.edit(p)
			m := parsed(t, p)
			if _, err := m.FoldBatchNorm(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if !proto.Equal(decoded(t, m), p) {
				t.Error("the model changed")
			}
		})
	}
}
