package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	G "gorgonia.org/gorgonia"

	"distill/internal/hint"
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// Lifting says how a model becomes trainable. The zero Lifting trains every floating-point tensor that the file holds.
type Lifting struct {
	Freeze []string // names or globs of tensors that are not trained, as in Model.Glob
	// Fresh gives weights that start anew, by PyTorch's default for dense layers and convolutions, instead of the file's.
	Fresh bool
	// Classes, where it differs from what the model has, gives its last dense layer a new weight and bias of so many rows.
	Classes int
	// BatchNorm puts a new batch norm after each convolution: what to train with where the export folded it away.
	BatchNorm bool
	// Dropout, in 0..1, is the share of the last dense layer's inputs that each training step leaves out. Dropout nodes of the
	// file drop their own share in training.
	Dropout float64
}

// Network is a model as a description: it can be built into graphs, for training and for inference.
type Network struct {
	model   *Model
	opset   int
	weights map[string]*weight // of the file's floating-point tensors of rank 1 or more
	consts  map[string]graph.Array
	attrs   []map[string]any // of each node
	head    *pb.NodeProto    // the last dense layer; nil where the output is no dense layer's
	lifting Lifting
}

// weight is a tensor of the file that goes into the store.
type weight struct {
	tensor graph.Tensor
	kind   graph.Kind
	init   graph.Init
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
	n := &Network{model: m, opset: m.Opset(), weights: map[string]*weight{}, consts: map[string]graph.Array{}, lifting: l}
	frozen, err := m.initializersLike(l.Freeze)
	if err != nil {
		return nil, err
	}
	for _, t := range m.proto.Graph.Initializer {
		v, err := decode(t)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.GetName(), err)
		}
		if v.DType() == graph.Int64 || len(v.Shape) == 0 {
			n.consts[t.GetName()] = arrayOf(v)
			continue
		}
		w := &weight{tensor: v, init: copied(v.F)}
		if frozen[t.GetName()] {
			w.kind = graph.State
		} else if l.Fresh && len(v.Shape) > 1 {
			w.init = uniform(v.Shape[1:].Size())
		}
		n.weights[t.GetName()] = w
	}
	for _, node := range m.proto.Graph.Node {
		if is(node, "Pow") { // an exponent is a number, not a weight, whatever its rank
			if w := n.weights[input(node, 1)]; w != nil && len(w.tensor.F) == 1 {
				n.consts[node.Input[1]] = arrayOf(w.tensor)
				delete(n.weights, node.Input[1])
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
	bias := ""
	n.head, bias = m.lastDense()
	if l.Dropout != 0 && (n.head == nil || !(l.Dropout > 0 && l.Dropout < 1)) {
		return nil, fmt.Errorf("a dropout of %v needs a last dense layer, and to be between 0 and 1", l.Dropout)
	}
	if l.Classes > 0 {
		return n, n.resize(l.Classes, bias)
	}
	return n, nil
}

func copied(values []float32) graph.Init {
	return func(to []float32, _ graph.Shape, _ *rand.Rand) { copy(to, values) }
}

// uniform is PyTorch's default for convolutions and dense layers: U(−1/√fanIn, 1/√fanIn).
func uniform(fanIn int) graph.Init {
	bound := 1 / math.Sqrt(float64(max(fanIn, 1)))
	return func(to []float32, _ graph.Shape, rng *rand.Rand) {
		for i := range to {
			to[i] = float32((2*rng.Float64() - 1) * bound)
		}
	}
}

// initializersLike lists the initializers that patterns match, each of which must match one.
func (m *Model) initializersLike(patterns []string) (map[string]bool, error) {
	var names []string
	for _, t := range m.proto.Graph.Initializer {
		names = append(names, t.GetName())
	}
	found := map[string]bool{}
	for _, p := range patterns {
		matched, err := glob(p, names)
		if err != nil {
			return nil, err
		}
		if len(matched) == 0 {
			return nil, hint.Wrap(fmt.Errorf("no weight is like %q", p), "among the weights are %s", strings.Join(nearest(p, names, 3), ", "))
		}
		for _, name := range matched {
			found[name] = true
		}
	}
	return found, nil
}

// lastDense is the node of the dense layer that gives the first output, and the name of its bias; nil where there is none.
func (m *Model) lastDense() (node *pb.NodeProto, bias string) {
	producers := m.producers()
	node = producers[m.proto.Graph.Output[0].GetName()]
	for node != nil && passes(node) {
		node = producers[node.Input[0]]
	}
	if node == nil {
		return nil, ""
	}
	if is(node, "Gemm") {
		return node, input(node, 2)
	}
	if is(node, "Add") && len(node.Input) == 2 {
		for i, in := range node.Input {
			if p := producers[in]; p != nil && is(p, "MatMul") {
				return p, node.Input[1-i]
			}
		}
	}
	if is(node, "MatMul") {
		return node, ""
	}
	return nil, ""
}

// resize gives the last dense layer another number of rows.
func (n *Network) resize(classes int, bias string) error {
	node := n.head
	if node == nil {
		return errors.New("its number of classes cannot be changed: the output is no dense layer's")
	}
	w := n.weights[input(node, 1)]
	if w == nil || len(w.tensor.Shape) != 2 {
		return errors.New("its number of classes cannot be changed: the last layer's weight is not in the file")
	}
	rows := 1
	if intAttribute(node, "transB", 0) == 1 {
		rows = 0
	}
	if w.tensor.Shape[rows] == classes {
		return nil
	}
	shape := w.tensor.Shape.Clone()
	shape[rows] = classes
	w.tensor, w.init = graph.NewTensor(graph.Float32, shape...), uniform(shape[1-rows])
	if b := n.weights[bias]; b != nil {
		b.tensor, b.init = graph.NewTensor(graph.Float32, classes), uniform(shape[1-rows])
	}
	return nil
}

// Build describes the network on its inputs, by name, and gives its outputs, by name. It panics, as graph code does, with a
// *graph.Error that names the node.
func (n *Network) Build(g *graph.Graph, in map[string]*G.Node) map[string]*G.Node {
	// What depends on the batch is found by building at another one, in a graph that is thrown away.
	var other map[string]graph.Array
	_, err := graph.Build(graph.Inference, func(scratch *graph.Graph) {
		larger := map[string]*G.Node{}
		for name, x := range in {
			s := graph.ShapeOf(x)
			if len(s) > 0 {
				s[0]++
			}
			larger[name] = scratch.Input(name, graph.Float32, s...)
		}
		l := lifter{network: n, g: scratch, values: map[string]op.Input{}}
		l.run(larger)
		other = l.computed()
		for name, x := range l.outputs() {
			scratch.Output(name, x)
		}
	})
	if err != nil {
		panic(err)
	}
	l := lifter{network: n, g: g, values: map[string]op.Input{}, other: other}
	for _, x := range in {
		l.like = x
	}
	l.run(in)
	return l.outputs()
}

// lifter builds one graph.
type lifter struct {
	network *Network
	g       *graph.Graph
	values  map[string]op.Input    // by tensor name
	other   map[string]graph.Array // the constants computed at another batch size; nil while these are being found
	like    *G.Node                // an input, whose first size is the batch
}

func (l *lifter) run(in map[string]*G.Node) {
	for name, x := range in {
		l.values[name] = op.Input{Tensor: x}
	}
	for name, a := range l.network.consts {
		l.values[name] = op.Input{Const: &a}
	}
	for _, t := range l.network.model.proto.Graph.Initializer {
		name := t.GetName()
		if w := l.network.weights[name]; w != nil {
			l.values[name] = op.Input{Name: name, Tensor: l.stored(name, w)}
		}
	}
	for i, node := range l.network.model.proto.Graph.Node {
		l.node(node, l.network.attrs[i])
	}
}

func (l *lifter) stored(name string, w *weight) *G.Node {
	if w.kind == graph.Param {
		return l.g.Param(name, w.tensor.Shape, w.init)
	}
	return l.g.State(name, w.kind, w.tensor.Shape, w.init)
}

// node lifts one node; what is wrong with it is said with its name.
func (l *lifter) node(n *pb.NodeProto, attrs map[string]any) {
	defer func() {
		r := recover()
		if e, ok := r.(*graph.Error); ok {
			panic(&graph.Error{Op: describe(n), Shapes: e.Shapes, Reason: e.Reason})
		} else if r != nil {
			panic(r)
		}
	}()
	node := &op.Node{Op: n.GetOpType(), Opset: l.network.opset, Attrs: attrs, Graph: l.g, Like: l.like}
	if d := n.GetDomain(); d != "" && d != "ai.onnx" {
		graph.Fail(n.GetOpType(), nil, "operators of domain %s cannot be trained", d)
	}
	for _, name := range n.Input {
		node.In = append(node.In, l.values[name])
	}
	if l.fold(n, node) {
		return
	}
	if l.network.lifting.Dropout > 0 && n == l.network.head {
		node.In[0].Tensor = l.drop(n.Output[0]+".dropout", node.X(0), l.network.lifting.Dropout)
	}
	out := op.Lift(node)
	switch {
	case node.Op == "Dropout":
		ratio := node.Float("ratio", 0.5)
		if node.Opset >= 12 {
			ratio = node.ScalarIn(1, 0.5)
		}
		out[0] = l.drop(n.Output[0]+".dropout", out[0], ratio)
	case node.Op == "Conv" && l.network.lifting.BatchNorm:
		name := strings.TrimSuffix(n.Input[1], ".weight") + ".bn"
		out[0] = nn.BatchNorm{Name: name, Channels: graph.ShapeOf(out[0])[1]}.Apply(l.g, out[0])
	}
	for i, y := range out {
		if name := output(n, i); name != "" {
			l.values[name] = op.Input{Tensor: y}
		}
	}
}

// drop leaves out a share of a tensor's elements in training.
func (l *lifter) drop(name string, x *G.Node, share float64) *G.Node {
	if l.g.Mode != graph.Training || share == 0 {
		return x
	}
	return op.Mul(x, l.g.Mask(name, 1-share, graph.ShapeOf(x)...))
}

// fold finds what a node gives without the graph: an alias, a shape, a constant.
func (l *lifter) fold(n *pb.NodeProto, node *op.Node) bool {
	switch node.Op {
	case "Identity":
		l.values[n.Output[0]] = node.In[0]
		return true
	case "Shape":
		if node.In[0].Tensor == nil {
			break
		}
		s := graph.ShapeOf(node.In[0].Tensor)
		from, to := span(node.Int("start", 0), len(s)), span(node.Int("end", len(s)), len(s))
		if from > to {
			node.In = nil
			graph.Fail("Shape", nil, "start %d lies after end %d", from, to)
		}
		a := graph.Array{Shape: graph.Shape{to - from}, I: make([]int64, to-from)}
		for i := range a.I {
			a.I[i] = int64(s[from+i])
		}
		l.constant(n.Output[0], a)
		return true
	}
	in := make([]*graph.Array, len(node.In))
	for i, v := range node.In {
		if v.Tensor != nil {
			return false
		}
		in[i] = v.Const
	}
	out, ok, err := evaluate(node.Op, node.Opset, node.Attrs, in)
	if err != nil {
		graph.Fail(node.Op, nil, "%v", err)
	}
	if !ok {
		return false
	}
	for i, a := range out {
		if name := output(n, i); name != "" {
			l.constant(name, a)
		}
	}
	return true
}

// span brings a bound counted from either end into 0..n.
func span(i, n int) int {
	if i < 0 {
		i += n
	}
	return min(max(i, 0), n)
}

// constant notes a computed constant, and which of its elements the batch size decides.
func (l *lifter) constant(name string, a graph.Array) {
	in := op.Input{Const: &a}
	if o, ok := l.other[name]; ok {
		if !o.Shape.Equal(a.Shape) {
			in.Sized = true
		} else if a.I != nil && !slices.Equal(a.I, o.I) {
			in.Free = make([]bool, len(a.I))
			for i := range a.I {
				in.Free[i] = a.I[i] != o.I[i]
			}
		}
	}
	l.values[name] = in
}

// computed lists the constants by name.
func (l *lifter) computed() map[string]graph.Array {
	all := map[string]graph.Array{}
	for name, v := range l.values {
		if v.Const != nil {
			all[name] = *v.Const
		}
	}
	return all
}

func (l *lifter) outputs() map[string]*G.Node {
	out := map[string]*G.Node{}
	for _, o := range l.network.model.proto.Graph.Output {
		v, made := l.values[o.GetName()]
		switch {
		case !made:
			graph.Fail("output "+o.GetName(), nil, "no operator that is lifted gives it")
		case v.Tensor == nil:
			graph.Fail("output "+o.GetName(), nil, "it does not depend on the input")
		}
		out[o.GetName()] = v.Tensor
	}
	return out
}

// Weights lists the floating-point tensors of the file that go into the store.
func (n *Network) Weights() []string {
	var names []string
	for name := range n.weights {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

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
