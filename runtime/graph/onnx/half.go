package onnx

import (
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// precision is what an operator of a lowered model computes in where a graph.Target asks for float16, as in mixed-precision
// training (Micikevicius et al. 2018, arXiv:1710.03740) and in PyTorch's autocast.
type precision int

// The classes of operators. The zero precision is that of every operator which is not in the table: reductions, softmax, exponentials
// and logarithms, powers and roots, divisions, norms. An operator that is new is therefore right without a row.
const (
	single  precision = iota // float32, whatever its inputs are
	product                  // float16: its sums are kept in float32 where hardware has units for it
	follow                   // float16 where an input is and no other input is a tensor computed in float32
	layout                   // follow, and moves elements only: it is as well done after a cast as before
)

// precisions is beside the pass and not beside the operators' other facts: it is about ONNX operators as they are lowered to, of
// which a gradient takes several.
var precisions = map[string]precision{
	"Conv": product, "ConvTranspose": product, "Gemm": product, "MatMul": product, "FusedMatMul": product, "Einsum": product,

	"Abs": follow, "Add": follow, "Cast": follow, "Clip": follow, "Elu": follow, "Equal": follow, "Erf": follow, "Greater": follow,
	"GreaterOrEqual": follow, "HardSigmoid": follow, "HardSwish": follow, "LeakyRelu": follow, "Less": follow, "LessOrEqual": follow,
	"Max": follow, "MaxPool": follow, "Min": follow, "Mul": follow, "Neg": follow, "PRelu": follow, "Relu": follow,
	"Shape": follow, "Sigmoid": follow, "Sub": follow, "Sum": follow, "Tanh": follow, "Where": follow,

	"Concat": layout, "DepthToSpace": layout, "Expand": layout, "Flatten": layout, "Gather": layout, "Identity": layout, "Pad": layout,
	"Reshape": layout, "Slice": layout, "Split": layout, "Squeeze": layout, "Transpose": layout, "Unsqueeze": layout,
}

// form is how a value of the plain graph exists while it is rewritten.
type form int

const (
	other  form = iota // integers or truth values
	full               // computed, or given, in float32
	loose              // float32 that may be taken for float16: a parameter, a constant, a mask, and what is only such values laid out anew
	halved             // computed in float16
)

// halver rewrites a lowered model for float16. A value may have a twin, the same tensor in float16, and a Cast makes one from the
// other where it is first asked for.
type halver struct {
	makers  map[string]*pb.NodeProto
	readers map[string][]*pb.NodeProto // nil stands for the graph's own output
	consts  map[string]*pb.TensorProto
	params  map[string]bool
	forms   map[string]form
	single  map[*pb.NodeProto]bool // nodes that stay in float32 for where they are, not for what they are
	early   map[*pb.NodeProto]bool // layouts whose results only products read

	nodes   []*pb.NodeProto
	extra   []*pb.TensorProto
	halves  map[string]string // name of the twin, by the plain value's
	widened map[string]bool   // plain values that have been made of their twins
}

// halve rewrites the graph that p was lowered to: convolutions and matrix products compute in float16, what follows them too
// as far as it can, everything else in float32. Inputs, outputs and what is stored stay in float32. forward are the nodes
// that the cost is made of, nil where nothing was differentiated.
func (m *Model) halve(p *graph.Program, forward map[*pb.NodeProto]bool) {
	h := newHalver(m.proto.Graph, p)
	h.losses(m.proto.Graph.Node, forward)
	h.results(m.proto.Graph.Output)
	h.readBy(m.proto.Graph.Node)
	for _, n := range m.proto.Graph.Node {
		h.node(n)
	}
	for _, out := range m.proto.Graph.Output {
		h.plain(out.GetName())
	}
	m.proto.Graph.Node = h.nodes
	m.proto.Graph.Initializer = append(m.proto.Graph.Initializer, h.extra...)
	m.dropUnreadConstants()
}

// dropUnreadConstants takes away those of which only the twin is read.
func (m *Model) dropUnreadConstants() {
	read := map[string]bool{}
	for _, n := range m.proto.Graph.Node {
		for _, in := range n.Input {
			read[in] = true
		}
	}
	m.proto.Graph.Initializer = slices.DeleteFunc(m.proto.Graph.Initializer, func(t *pb.TensorProto) bool { return !read[t.GetName()] })
}

func newHalver(g *pb.GraphProto, p *graph.Program) *halver {
	h := &halver{
		makers: map[string]*pb.NodeProto{}, readers: map[string][]*pb.NodeProto{}, consts: map[string]*pb.TensorProto{},
		params: map[string]bool{}, forms: map[string]form{}, single: map[*pb.NodeProto]bool{}, early: map[*pb.NodeProto]bool{},
		halves: map[string]string{}, widened: map[string]bool{},
	}
	for _, l := range p.Inputs {
		switch {
		case l.DType != graph.Float32:
			h.forms[l.Name] = other
		case l.Keep > 0:
			h.forms[l.Name] = loose
		default:
			h.forms[l.Name] = full
		}
	}
	for _, l := range p.Stored { // initializers or inputs, by Lowering.Store
		h.forms[l.Name] = full
		if l.Kind == graph.Param {
			h.forms[l.Name], h.params[l.Name] = loose, true
		}
	}
	for _, t := range g.Initializer {
		name := t.GetName()
		h.consts[name] = t
		switch {
		case h.forms[name] != other: // a stored tensor
		case t.GetDataType() != int32(pb.TensorProto_FLOAT):
			h.forms[name] = other
		case halfHolds(t):
			h.forms[name] = loose
		default:
			h.forms[name] = full
		}
	}
	for _, n := range g.Node {
		for _, in := range n.Input {
			h.readers[in] = append(h.readers[in], n)
		}
		for i, out := range n.Output {
			h.makers[out] = n
			h.forms[out] = h.made(n, i)
		}
	}
	for _, out := range g.Output {
		h.readers[out.GetName()] = append(h.readers[out.GetName()], nil)
	}
	return h
}

// halfHolds reports whether float16 has all of a constant's numbers, to its precision: 1e-12 is none of them, nor is 1e6.
func halfHolds(t *pb.TensorProto) bool {
	v, err := decode(t)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(v.F, func(x float32) bool {
		return math.Abs(float64(float16(float16Bits(x))-x)) > 0x1p-11*math.Abs(float64(x))
	})
}

// made is the form in which a plain node gives its output i.
func (h *halver) made(n *pb.NodeProto, i int) form {
	switch n.GetOpType() {
	case "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Shape":
		return other
	case "MaxPool":
		if i > 0 {
			return other
		}
	case "Cast":
		if attribute(n, "to").GetI() != int64(pb.TensorProto_FLOAT) {
			return other
		}
		if m := h.makers[n.Input[0]]; m != nil && h.forms[n.Input[0]] == other {
			return loose // a truth value, for indices come from no node
		}
		return full
	case "ConstantOfShape": // only zeros are made so
		return loose
	case "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze":
		if h.forms[n.Input[0]] == other {
			return other
		}
	}
	return full
}

// losses keeps the losses in float32: what comes forward after the last parameter on every way to the cost, and backward until
// the gradient meets a parameter, or a value of the network that no loss reads. All may be matrix products, as of features with
// themselves.
func (h *halver) losses(nodes []*pb.NodeProto, forward map[*pb.NodeProto]bool) {
	if len(forward) == 0 {
		return
	}
	network, feeds := map[*pb.NodeProto]bool{}, map[string]bool{}
	for _, n := range slices.Backward(nodes) {
		if forward[n] && (slices.ContainsFunc(n.Output, func(v string) bool { return feeds[v] }) ||
			slices.ContainsFunc(n.Input, func(v string) bool { return h.params[v] })) {
			network[n] = true
			for _, in := range n.Input {
				feeds[in] = true
			}
		}
	}
	const (
		foreign = iota
		given   // inputs, constants, what losses read of the network, and what is made of these alone
		own     // made by a loss
	)
	kinds := map[string]int{"": given}
	for v, f := range h.forms {
		if f == other || h.makers[v] == nil && !h.params[v] {
			kinds[v] = given
		}
	}
	for _, n := range nodes {
		if forward[n] && !network[n] {
			for _, in := range n.Input {
				kinds[in] = max(kinds[in], given)
			}
			for _, out := range n.Output {
				kinds[out] = own
			}
		}
	}
	for _, n := range nodes {
		if network[n] {
			continue
		}
		least, most := own, foreign
		for _, in := range n.Input {
			least, most = min(least, kinds[in]), max(most, kinds[in])
		}
		h.single[n] = forward[n] || least > foreign && most == own
		for _, out := range n.Output {
			if least > foreign {
				kinds[out] = max(kinds[out], most)
			}
		}
	}
}

// results keeps what makes an output or a stored tensor in float32, back to the last product: a sum of a parameter and its step
// must not be rounded.
func (h *halver) results(outputs []*pb.ValueInfoProto) {
	var open []string
	for _, out := range outputs {
		open = append(open, out.GetName())
	}
	for len(open) > 0 {
		n := h.makers[open[len(open)-1]]
		open = open[:len(open)-1]
		if n == nil || h.single[n] || precisions[n.GetOpType()] < follow {
			continue
		}
		h.single[n] = true
		open = append(open, n.Input...)
	}
}

// readBy lets what reads a node decide. A layout for products alone can be done after their cast: before it, each would have
// a cast of its own. What only operators in float32 read had better be in float32 too, a term of a sum above all.
func (h *halver) readBy(nodes []*pb.NodeProto) {
	for _, n := range slices.Backward(nodes) {
		class := precisions[n.GetOpType()]
		if class < follow || h.single[n] || h.forms[n.Output[0]] == other {
			continue
		}
		products, singles := true, true
		for _, out := range n.Output {
			for _, r := range h.readers[out] {
				full := r == nil || h.single[r] || precisions[r.GetOpType()] == single
				products = products && !full && (h.early[r] || precisions[r.GetOpType()] == product)
				singles = singles && full
			}
		}
		h.early[n] = class == layout && products
		h.single[n] = !h.early[n] && singles
	}
}

// node writes a node, in float16 or float32.
func (h *halver) node(n *pb.NodeProto) {
	class := precisions[n.GetOpType()]
	var has [halved + 1]bool
	for _, in := range n.Input {
		has[h.forms[in]] = true
	}
	switch {
	case h.single[n] || class == single:
		h.inSingle(n, full)
	case class == product || h.early[n] || has[halved] && !has[full]:
		h.inHalf(n)
	case has[full] || has[halved]:
		h.inSingle(n, full)
	default:
		h.inSingle(n, loose)
	}
}

// inSingle writes a node as it is. What it makes of floats is of the form f.
func (h *halver) inSingle(n *pb.NodeProto, f form) {
	for _, in := range n.Input {
		h.plain(in)
	}
	for _, out := range n.Output {
		if h.forms[out] == full {
			h.forms[out] = f
		}
	}
	h.nodes = append(h.nodes, n)
}

// inHalf writes a node on twins.
func (h *halver) inHalf(n *pb.NodeProto) {
	for i, in := range n.Input {
		n.Input[i] = h.half(in)
	}
	for i, out := range n.Output {
		if h.forms[out] != other {
			h.forms[out], h.halves[out] = halved, out+halfSuffix
			n.Output[i] = out + halfSuffix
		}
	}
	h.nodes = append(h.nodes, n)
}

// halfSuffix follows a value's name in its twin's.
const halfSuffix = ":float16"

// half names the twin of a value of floats, made now if there is none; any other value is its own.
func (h *halver) half(v string) string {
	if h.forms[v] == other {
		return v
	}
	if h.halves[v] != "" {
		return h.halves[v]
	}
	h.halves[v] = v + halfSuffix
	from := v
	if t := h.consts[v]; t != nil && !h.params[v] {
		h.extra = append(h.extra, encodeHalf(h.halves[v], t))
		return h.halves[v]
	}
	if m := h.makers[v]; m != nil && is(m, "Cast") { // of truth values, which can as well be cast to float16
		from = m.Input[0]
	}
	h.cast(from, h.halves[v], pb.TensorProto_FLOAT16)
	return h.halves[v]
}

// plain makes sure that the value exists under its own name, in float32.
func (h *halver) plain(v string) {
	if h.forms[v] == halved && !h.widened[v] {
		h.cast(h.halves[v], v, pb.TensorProto_FLOAT)
		h.widened[v] = true
	}
}

func (h *halver) cast(from, to string, t pb.TensorProto_DataType) {
	h.nodes = append(h.nodes, &pb.NodeProto{Name: proto.String("cast_" + to), OpType: proto.String("Cast"), Input: []string{from}, Output: []string{to},
		Attribute: []*pb.AttributeProto{whole("to", int(t))}})
}
