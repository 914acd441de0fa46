package onnx

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"distill/internal/hint"
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
)

// Lifting says how a model becomes trainable. The zero Lifting trains every floating-point tensor of rank 1 or more that a
// node reads, but for the running statistics of batch norm.
type Lifting struct {
	Freeze []string // names or globs of tensors that are not trained, as in Model.Glob
	// Fresh gives weights that start anew, by PyTorch's default for dense layers and convolutions, instead of the file's.
	Fresh bool
	// Classes, where it differs from what the model has, gives its last dense layer, or each where the output is a sum or a
	// mean of several, a new weight and bias of so many rows.
	Classes int
	// BatchNorm puts a new batch norm after each convolution: what to train with where the export folded it away.
	BatchNorm bool
	// Dropout, in 0..1, is the share of the last dense layer's inputs that each training step leaves out. Dropout nodes of the
	// file drop their own share in training.
	Dropout float64
}

// Network is a model as a description: it can be built into graphs, for training and for inference.
type Network struct {
	model     *Model
	opset     int
	weights   map[string]*weight // the file's floating-point tensors of rank 1 or more
	order     []string           // of their names, as in the file
	consts    map[string]graph.Array
	attrs     []map[string]any // of each node
	producers map[string]*pb.NodeProto
	reads     map[string]int // how often nodes read a tensor, or it is an output
	heads     []head         // the last dense layers; none where the output is no dense layer's
	lifting   Lifting
}

// weight is a tensor of the file that goes into the store.
type weight struct {
	tensor graph.Tensor
	kind   graph.Kind
	init   graph.Init
	frozen bool
}

// Lift reads a model as a description. It fails on what cannot be lifted whatever the shapes; Build finds the rest.
func (m *Model) Lift(l Lifting) (*Network, error) {
	n, err := m.lift(l)
	if err != nil {
		return nil, fmt.Errorf("onnx: lift %s: %w", m.name, err)
	}
	return n, nil
}

func (m *Model) lift(l Lifting) (*Network, error) {
	n := &Network{model: m, opset: m.Opset(), producers: m.producers(), reads: map[string]int{}, weights: map[string]*weight{}, consts: map[string]graph.Array{}, lifting: l}
	read := map[string]bool{} // what nothing reads has no part in any cost
	for _, node := range m.proto.Graph.Node {
		reads(node, func(name string) {
			n.reads[name]++
			read[name] = read[name] || !is(node, "Identity")
		})
	}
	for _, out := range m.proto.Graph.Output {
		n.reads[out.GetName()]++
	}
	add := func(name string, v graph.Tensor) {
		switch {
		case v.DType() == graph.Int64 || len(v.Shape) == 0:
			n.consts[name] = arrayOf(v)
		case read[name]:
			w := &weight{tensor: v, init: copied(v.F)}
			if l.Fresh && len(v.Shape) > 1 {
				w.init = nn.Uniform(v.Shape[1:].Size())
			}
			n.weights[name], n.order = w, append(n.order, name)
		}
	}
	all := map[string]graph.Tensor{}
	for _, t := range m.proto.Graph.Initializer {
		v, err := decode(t)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.GetName(), err)
		}
		all[t.GetName()] = v
		add(t.GetName(), v)
	}
	for _, node := range m.proto.Graph.Node {
		// PyTorch writes equal tensors once and joins the others to them by Identity; trained, they are no longer equal.
		if v, ok := all[input(node, 0)]; ok && is(node, "Identity") && output(node, 0) != "" {
			all[node.Output[0]] = v
			add(node.Output[0], v)
		}
	}
	if err := n.freeze(l.Freeze); err != nil {
		return nil, err
	}
	for _, node := range m.proto.Graph.Node {
		if is(node, "Pow") { // an exponent is a number, not a weight, whatever its rank
			if w := n.weights[input(node, 1)]; w != nil && len(w.tensor.F) == 1 {
				n.consts[node.Input[1]] = arrayOf(w.tensor)
				delete(n.weights, node.Input[1])
				n.order = slices.DeleteFunc(n.order, func(name string) bool { return name == node.Input[1] })
			}
		}
		if is(node, "BatchNormalization") {
			for i := 3; i < len(node.Input); i++ {
				if w := n.weights[node.Input[i]]; w != nil {
					w.kind = graph.State
				}
			}
		}
		attrs, err := attributesOf(node)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", describe(node), err)
		}
		if _, ok := attrs["num_outputs"]; !ok && is(node, "Split") { // before opset 18 only the outputs themselves tell
			attrs["num_outputs"] = len(node.Output)
		}
		n.attrs = append(n.attrs, attrs)
	}
	n.heads = m.heads()
	if l.Dropout != 0 && (len(n.heads) == 0 || !(l.Dropout > 0 && l.Dropout < 1)) {
		return nil, fmt.Errorf("a dropout of %v needs a last dense layer, and to be between 0 and 1", l.Dropout)
	}
	if l.Classes > 0 {
		return n, n.resize(l.Classes)
	}
	return n, nil
}

func copied(values []float32) graph.Init {
	return func(to []float32, _ graph.Shape, _ *rand.Rand) { copy(to, values) }
}

// freeze keeps the weights that patterns match from being trained; each must match one.
func (n *Network) freeze(patterns []string) error {
	for _, p := range patterns {
		matched, err := glob(p, n.order)
		if err != nil {
			return err
		}
		if len(matched) == 0 {
			return hint.Wrap(fmt.Errorf("no weight is like %q", p), "among the weights are %s", strings.Join(nearest(p, n.order, 3), ", "))
		}
		for _, name := range matched {
			n.weights[name].kind, n.weights[name].frozen = graph.State, true
		}
	}
	return nil
}

// arrayOf is a tensor as the reference engine computes with it.
func arrayOf(t graph.Tensor) graph.Array {
	if t.I != nil {
		return graph.Array{Shape: t.Shape, I: t.I}
	}
	a := graph.Zeros(t.Shape)
	for i, v := range t.F {
		a.F[i] = float64(v)
	}
	return a
}

// attributesOf reads a node's attributes as op.Node holds them.
func attributesOf(n *pb.NodeProto) (map[string]any, error) {
	attrs := map[string]any{}
	for _, a := range n.Attribute {
		switch a.GetType() {
		case pb.AttributeProto_INT:
			attrs[a.GetName()] = int(a.GetI())
		case pb.AttributeProto_FLOAT:
			attrs[a.GetName()] = float64(a.GetF())
		case pb.AttributeProto_STRING:
			attrs[a.GetName()] = string(a.GetS())
		case pb.AttributeProto_INTS:
			ints := make([]int, len(a.Ints))
			for i, v := range a.Ints {
				ints[i] = int(v)
			}
			attrs[a.GetName()] = ints
		case pb.AttributeProto_FLOATS:
			floats := make([]float64, len(a.Floats))
			for i, v := range a.Floats {
				floats[i] = float64(v)
			}
			attrs[a.GetName()] = floats
		case pb.AttributeProto_TENSOR:
			if a.T == nil {
				return nil, fmt.Errorf("attribute %s has no tensor", a.GetName())
			}
			t, err := decode(a.T)
			if err != nil {
				return nil, fmt.Errorf("attribute %s: %w", a.GetName(), err)
			}
			attrs[a.GetName()] = arrayOf(t)
		default:
			return nil, fmt.Errorf("attribute %s is of type %v, which cannot be lifted", cmp.Or(a.GetName(), "?"), a.GetType())
		}
	}
	return attrs, nil
}

// Signature is the network's first input and first output.
func (n *Network) Signature() (in, out Value) { return n.model.Inputs()[0], n.model.Outputs()[0] }

// Takes reports whether a tensor of the shape fits the sizes after the first, the batch, that v fixes.
func (v Value) Takes(s graph.Shape) bool {
	if len(v.Shape) != len(s) {
		return false
	}
	for i, d := range v.Shape {
		if i > 0 && !d.Dynamic() && d.Size != s[i] {
			return false
		}
	}
	return true
}
