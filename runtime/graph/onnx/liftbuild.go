package onnx

import (
	goruntime "runtime"
	"slices"
	"strings"

	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// Build describes the network on its inputs, by name, and gives its outputs, by name. It panics, as graph code does, with a
// *graph.Error that names the node.
func (n *Network) Build(g *graph.Graph, in map[string]*G.Node) map[string]*G.Node {
	var other map[string]op.Input
	if n.anyBatch() {
		other = n.atAnotherBatch(in)
	}
	l := lifter{network: n, g: g, values: map[string]op.Input{}, other: other}
	for _, x := range in {
		l.like = x
	}
	l.run(in)
	return l.outputs()
}

// anyBatch reports whether the file leaves the batch size free.
func (n *Network) anyBatch() bool {
	for _, in := range n.model.Inputs() {
		if len(in.Shape) == 0 || !in.Shape[0].Dynamic() {
			return false
		}
	}
	return true
}

// atAnotherBatch builds the network for one more image, in a graph that is thrown away, and gives what its tensors are
// there: constants and sizes that differ depend on the batch.
func (n *Network) atAnotherBatch(in map[string]*G.Node) map[string]op.Input {
	var other map[string]op.Input
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
		other = l.values
		for name, x := range l.outputs() {
			scratch.Output(name, x)
		}
	})
	if err != nil {
		panic(err)
	}
	return other
}

// lifter builds one graph.
type lifter struct {
	network *Network
	g       *graph.Graph
	values  map[string]op.Input // by tensor name
	other   map[string]op.Input // the values at another batch size; nil while these are being found
	like    *G.Node             // an input, whose first size is the batch
}

func (l *lifter) run(in map[string]*G.Node) {
	for name, x := range in {
		l.values[name] = op.Input{Tensor: x}
	}
	for name, a := range l.network.consts {
		l.values[name] = op.Input{Const: &a}
	}
	for _, name := range l.network.order {
		w := l.network.weights[name]
		l.values[name] = op.Input{Name: name, Tensor: l.stored(name, w), Frozen: w.frozen}
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
		switch r := recover().(type) {
		case nil:
		case *graph.Error:
			panic(&graph.Error{Op: describe(n), Shapes: r.Shapes, Reason: r.Reason})
		case goruntime.Error: // attributes or shapes that no check foresaw: a file must not bring the program down
			panic(&graph.Error{Op: describe(n), Reason: "malformed: " + r.Error()})
		default:
			panic(r)
		}
	}()
	node := &op.Node{Op: n.GetOpType(), Opset: l.network.opset, Attrs: attrs, Graph: l.g, Like: l.like}
	if d := n.GetDomain(); d != "" && d != "ai.onnx" {
		for _, f := range l.network.model.proto.Functions {
			if f.GetName() == n.GetOpType() && f.GetDomain() == d {
				graph.Fail(n.GetOpType(), nil, "a function of the file cannot be trained; inline it, as with Python's onnx.inliner")
			}
		}
		graph.Fail(n.GetOpType(), nil, "operators of domain %s cannot be trained; export the network in standard operators", d)
	}
	for _, name := range n.Input {
		node.In = append(node.In, l.values[name])
	}
	if o := l.other[output(n, 0)]; o.Tensor != nil {
		node.Other = graph.ShapeOf(o.Tensor)
	}
	if l.fold(n, node) {
		return
	}
	if l.network.lifting.Dropout > 0 && l.network.isHead(n) {
		node.In[0].Tensor = l.drop(n.Output[0]+".dropout", node.X(0), l.network.lifting.Dropout)
	}
	out := op.Lift(node)
	if x, root := l.gelu(n); x != nil && graph.ShapeOf(x).Equal(graph.ShapeOf(out[0])) {
		out[0] = op.GeluOver(x, root)
	}
	out[0] = l.normed(n, node, out[0])
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
		if l.network.weights[n.Output[0]] == nil { // else it is a tensor of its own
			l.values[n.Output[0]] = node.In[0]
		}
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
	if o := l.other[name].Const; o != nil {
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
