package onnx

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// FoldBatchNorm merges each inference-mode BatchNormalization into the Conv, or Gemm with transB=1, whose output it alone
// reads, and returns how many it merged. With s = scale/√(variance+ε) per output channel, in float64:
//
//	W' = s·W    b' = s·(b−mean) + shift
//
// Initializers keep their names; a convolution over "conv1.weight" without a bias gets "conv1.bias". Initializers that
// nothing reads any more are dropped. A node stays where its parameters are not float32 initializers of the graph, or the
// operator set is older than 7. Parameters of the wrong size, a variance that is not positive and external data are errors,
// which leave the model as it was.
func (m *Model) FoldBatchNorm() (folded int, err error) {
	if m.Opset() < 7 { // there an attribute of another meaning tells training from inference
		return 0, nil
	}
	f := newFolder(m.copy())
	g := f.m.proto.Graph
	for i, bn := range g.Node {
		j, ok := f.partner(bn)
		if !ok {
			continue
		}
		if g.Node[j], err = f.merge(g.Node[j], bn); err != nil {
			return 0, fmt.Errorf("onnx: fold %s: node %s: %w", m.name, describe(bn), err)
		}
		f.at[bn.Output[0]] = j
		g.Node[i] = nil
		folded++
	}
	g.Node = slices.DeleteFunc(g.Node, func(n *pb.NodeProto) bool { return n == nil })
	f.m.prune(func(name string) bool { return !f.freed[name] || f.readers[name] > 0 })
	m.proto = f.m.proto
	return folded, nil
}

type folder struct {
	m         *Model
	constants map[string]*pb.TensorProto
	at        map[string]int  // index of the node that defines a name
	readers   map[string]int  // how often a name is read; being an input or output of the graph counts too
	freed     map[string]bool // names that a merge read or defined, and no longer does
}

func newFolder(m *Model) *folder {
	f := &folder{m, map[string]*pb.TensorProto{}, map[string]int{}, map[string]int{}, map[string]bool{}}
	for _, t := range m.proto.Graph.Initializer {
		f.constants[t.GetName()] = t
	}
	for i, n := range m.proto.Graph.Node {
		for _, out := range n.Output {
			f.at[out] = i
		}
		reads(n, func(name string) { f.readers[name]++ })
	}
	for _, in := range m.Inputs() { // their names are taken
		f.readers[in.Name]++
	}
	for _, out := range m.proto.Graph.Output {
		f.readers[out.GetName()]++
	}
	return f
}

// partner is the index of the node that bn can be merged into.
func (f *folder) partner(bn *pb.NodeProto) (int, bool) {
	if !is(bn, "BatchNormalization") || intAttribute(bn, "training_mode", 0) != 0 || intAttribute(bn, "spatial", 1) != 1 {
		return 0, false
	}
	statistics := len(bn.Output) > 1 && slices.Max(bn.Output[1:]) != "" // as outputs: training mode, before operator set 14
	j, ok := f.at[input(bn, 0)]
	if !ok || statistics || output(bn, 0) == "" || len(bn.Input) != 5 || f.readers[bn.Input[0]] != 1 {
		return 0, false
	}
	n := f.m.proto.Graph.Node[j]
	weights := append([]string{input(n, 1)}, bn.Input[1:]...)
	if bias := input(n, 2); bias != "" {
		weights = append(weights, bias)
	}
	for _, name := range weights {
		if f.constants[name].GetDataType() != int32(pb.TensorProto_FLOAT) {
			return 0, false
		}
	}
	return j, is(n, "Conv") || is(n, "Gemm") && f.plain(n)
}

// plain reports whether a Gemm is a dense layer: x·Wᵀ + b, with one bias per output, if any.
func (f *folder) plain(gemm *pb.NodeProto) bool {
	bias, w := f.constants[input(gemm, 2)], f.constants[input(gemm, 1)]
	row := bias == nil || len(w.Dims) == 2 && bias.Dims != nil && bias.Dims[len(bias.Dims)-1] == w.Dims[0] &&
		(len(bias.Dims) == 1 || bias.Dims[0] == 1)
	return row && intAttribute(gemm, "transB", 0) == 1 && floatAttribute(gemm, "beta", 1) == 1
}

// merge returns the node that computes bn after n, and stores its weights.
func (f *folder) merge(n, bn *pb.NodeProto) (*pb.NodeProto, error) {
	w, err := decode(f.constants[n.Input[1]])
	if err != nil {
		return nil, fmt.Errorf("initializer %q: %w", n.Input[1], err)
	}
	if len(w.Shape) == 0 {
		return nil, fmt.Errorf("initializer %q is a scalar, not the weight of a layer", n.Input[1])
	}
	channels := w.Shape[0]
	vector := func(name string) ([]float32, error) {
		if name == "" { // the bias left out
			return make([]float32, channels), nil
		}
		t, err := decode(f.constants[name])
		if err != nil {
			return nil, fmt.Errorf("initializer %q: %w", name, err)
		}
		if len(t.F) != channels {
			return nil, fmt.Errorf("initializer %q has %d elements for %d channels", name, len(t.F), channels)
		}
		return t.F, nil
	}
	var params [5][]float32 // bias, scale, shift, mean, variance
	for i, name := range []string{input(n, 2), input(bn, 1), input(bn, 2), input(bn, 3), input(bn, 4)} {
		if params[i], err = vector(name); err != nil {
			return nil, err
		}
	}
	bias, scale, shift, mean, variance := params[0], params[1], params[2], params[3], params[4]
	epsilon := float64(floatAttribute(bn, "epsilon", 1e-5))
	for c := range channels {
		v := float64(variance[c]) + epsilon
		if !(v > 0) { // NaN too
			return nil, fmt.Errorf("initializer %q: the variance of channel %d is %v", input(bn, 4), c, variance[c])
		}
		s := float64(scale[c]) / math.Sqrt(v)
		row := w.F[c*len(w.F)/channels : (c+1)*len(w.F)/channels]
		for i := range row {
			row[i] = float32(s * float64(row[i]))
		}
		bias[c] = float32(s*(float64(bias[c])-float64(mean[c])) + float64(shift[c]))
	}

	merged := proto.CloneOf(n)
	merged.Input = []string{n.Input[0], f.store(n.Input[1], n.Input[1], w), ""}
	merged.Input[2] = f.store(input(n, 2), biasName(n.Input[1]), graph.Floats(bias, channels))
	merged.Output = bn.Output[:1]
	for _, name := range bn.Input {
		f.readers[name]--
		f.freed[name] = true
	}
	return merged, nil
}

// store puts a merged weight in the place of the old one, or, where others read that or there is none, under a new name made
// from the wanted one. It returns the name.
func (f *folder) store(old, wanted string, t graph.Tensor) string {
	name := old
	if old == "" || f.readers[old] > 1 {
		name = wanted
		for i := 1; f.taken(name); i++ {
			name = fmt.Sprintf("%s_%d", wanted, i)
		}
		f.readers[old]--
		f.readers[name] = 1
	}
	f.m.SetInitializer(name, t)
	f.constants[name] = f.m.initializer(name)
	return name
}

func (f *folder) taken(name string) bool {
	_, defined := f.at[name]
	return defined || f.constants[name] != nil || f.readers[name] > 0
}

// biasName is the usual name of the bias beside a weight.
func biasName(weight string) string {
	if stem, ok := strings.CutSuffix(weight, "weight"); ok {
		return stem + "bias"
	}
	return weight + "_bias"
}
