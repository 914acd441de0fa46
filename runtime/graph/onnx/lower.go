package onnx

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	G "gorgonia.org/gorgonia"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// Opset is the version of the default operator set that Lower writes.
const Opset = 17

// irVersion is that of ONNX 1.12, which brought opset 17.
const irVersion = 8

// UpdateSuffix follows a stored tensor's name in the name of the output that is its next value.
const UpdateSuffix = ":next"

// Lowering says how a Program becomes a model. The zero Lowering makes a plain ONNX model whose inputs are the Program's
// inputs and, after them, what it stores.
type Lowering struct {
	Target graph.Target
	// Store, if set, gives the stored tensors, which become initializers instead of inputs; but for what a Target with blocks lays
	// out in another way, see [Model.LaidOut].
	Store *graph.Store
	// Batch, if set, names the first size of every input and output, so that the model takes any. The Program must be
	// one whose lowering holds no batch size.
	Batch string
}

// Lower writes a Program as one ONNX model: the outputs first, then the updates, each under the stored tensor's name and
// UpdateSuffix.
func Lower(p *graph.Program, l Lowering) (*Model, error) {
	steps, err := p.Steps()
	if err != nil {
		return nil, err
	}
	if l.Target.Half {
		l.Target.Fused, l.Target.Block = false, 0 // their kernels and constants are for float32
	}
	e := &emitter{target: l.Target, shapes: map[string]graph.Shape{}, consts: map[string]string{}, counts: map[string]int{}, selected: map[selection]bool{}}
	values := map[*G.Node][]string{}
	if err := e.leaves(p, l, values); err != nil {
		return nil, err
	}
	for _, s := range steps {
		if s.Of != nil {
			e.selected[selection{s.Of, s.Index}] = true
		}
	}
	made := make([]int, len(steps)) // the number of nodes once each step is emitted
	joined, unread := joins(p, steps)
	for i, s := range steps {
		if j, ok := joined[s.Node]; ok {
			values[s.Node] = []string{e.join(j, s.Shapes[0], values)}
		} else if !unread[s.Node] {
			values[s.Node] = e.step(s, values)
		}
		made[i] = len(e.graph.Node)
	}
	e.results(p, l, values)
	e.dropUnread()
	m := e.model()
	switch {
	case l.Target.Half:
		m.halve(p, forward(p, steps, made, e.graph.Node))
	case l.Target.Block > 0:
		return m, m.layBlocks(e.shapes, l)
	}
	return m, nil
}

// forward are the nodes that the cost of p is made of; made is the number of nodes after each step.
func forward(p *graph.Program, steps []graph.Step, made []int, nodes []*pb.NodeProto) map[*pb.NodeProto]bool {
	cost, found, from := p.Forward(), map[*pb.NodeProto]bool{}, 0
	for i, s := range steps {
		for _, n := range nodes[from:made[i]] {
			if cost[s.Node] {
				found[n] = true
			}
		}
		from = made[i]
	}
	return found
}

// emitter gathers the graph that operators lower to.
type emitter struct {
	target graph.Target
	graph  pb.GraphProto
	shapes map[string]graph.Shape // of every value
	consts map[string]string      // name by content
	counts map[string]int         // nodes so far, by operator

	selected map[selection]bool // outputs after the first that something reads
	node     *G.Node            // whose operator is being lowered
}

// selection is an output of a node, counted from 0.
type selection struct {
	node  *G.Node
	index int
}

func (e *emitter) Target() graph.Target { return e.target }

func (e *emitter) Reads(i int) bool { return e.selected[selection{e.node, i}] }

func (e *emitter) Emit(op string, out graph.Shape, in []string, attrs ...graph.Attr) string {
	return e.EmitN(op, []graph.Shape{out}, in, attrs...)[0]
}

func (e *emitter) EmitN(op string, outs []graph.Shape, in []string, attrs ...graph.Attr) []string {
	for len(in) > 0 && in[len(in)-1] == "" {
		in = in[:len(in)-1]
	}
	domain, kind := "", op
	if i := strings.IndexByte(op, ':'); i >= 0 {
		domain, kind = op[:i], op[i+1:]
	}
	n := &pb.NodeProto{Name: proto.String(e.fresh(kind)), OpType: proto.String(kind), Input: slices.Clone(in)}
	if domain != "" {
		n.Domain = proto.String(domain)
	}
	for i, s := range outs {
		name := n.GetName() + "_output_" + fmt.Sprint(i)
		n.Output = append(n.Output, name)
		e.shapes[name] = s
	}
	for _, a := range attrs {
		n.Attribute = append(n.Attribute, attributeOf(a))
	}
	e.graph.Node = append(e.graph.Node, n)
	return n.Output
}

// fresh numbers the nodes of each kind, from 0, passing over what a program's own names take.
func (e *emitter) fresh(kind string) string {
	for {
		name := fmt.Sprintf("%s_%d", kind, e.counts[kind])
		e.counts[kind]++
		if _, taken := e.shapes[name]; !taken {
			return name
		}
	}
}

func (e *emitter) Const(t graph.Tensor) string {
	probe := encode("", t)
	key := fmt.Sprintf("%v %v %x", t.DType(), t.Shape, sha256.Sum256(probe.RawData))
	if name, ok := e.consts[key]; ok {
		return name
	}
	name := e.fresh("constant")
	e.consts[key] = name
	e.initializer(name, t)
	return name
}

func (e *emitter) initializer(name string, t graph.Tensor) {
	e.graph.Initializer = append(e.graph.Initializer, encode(name, t))
	e.shapes[name] = t.Shape
}

// leaves declares inputs and what is stored.
func (e *emitter) leaves(p *graph.Program, l Lowering, values map[*G.Node][]string) error {
	input := func(leaf graph.Leaf, batch string) {
		e.graph.Input = append(e.graph.Input, infoOf(leaf.Name, leaf.DType, leaf.Shape, batch))
		e.shapes[leaf.Name] = leaf.Shape
		values[leaf.Node] = []string{leaf.Name}
	}
	for _, leaf := range p.Inputs {
		input(leaf, l.Batch)
	}
	for _, leaf := range p.Stored {
		if l.Store == nil {
			input(leaf, "")
			continue
		}
		t, ok := l.Store.Tensor(leaf.Name)
		if !ok || !t.Shape.Equal(leaf.Shape) {
			return fmt.Errorf("onnx: lower: the store has no %s of shape %v", leaf.Name, leaf.Shape)
		}
		e.initializer(leaf.Name, t)
		values[leaf.Node] = []string{leaf.Name}
	}
	return nil
}

// step emits one operator and returns the names of its outputs.
func (e *emitter) step(s graph.Step, values map[*G.Node][]string) []string {
	switch {
	case s.Value != nil:
		return []string{e.Const(*s.Value)}
	case s.Of != nil:
		return values[s.Of][s.Index : s.Index+1]
	}
	in := make([]graph.Operand, len(s.Inputs))
	names := make([]string, len(s.Inputs))
	for i, n := range s.Inputs {
		names[i] = values[n][0]
		in[i] = graph.Operand{Name: names[i], Shape: graph.ShapeOf(n)}
	}
	if s.Sum {
		return []string{e.Emit("Add", s.Shapes[0], names)}
	}
	e.node = s.Node
	return s.Op.Lower(e, in)
}

func (e *emitter) join(j join, whole graph.Shape, values map[*G.Node][]string) string {
	var parts []string
	for _, n := range j.parts {
		parts = append(parts, values[n][0])
	}
	return e.Emit("Concat", whole, parts, graph.Attr{Name: "axis", Value: j.axis})
}

// results names the outputs and updates. The node that makes a value takes the result's name: an Identity would copy. Only
// a value that is no node's (an input, a constant) or has a result's name already needs one.
func (e *emitter) results(p *graph.Program, l Lowering, values map[*G.Node][]string) {
	made := map[string]bool{}
	for _, n := range e.graph.Node {
		for _, out := range n.Output {
			made[out] = true
		}
	}
	renamed := map[string]string{}
	result := func(name string, n *G.Node, batch string) {
		from := values[n][0]
		if made[from] && renamed[from] == "" {
			renamed[from] = name
		} else {
			e.graph.Node = append(e.graph.Node, &pb.NodeProto{Name: proto.String(e.fresh("Identity")),
				OpType: proto.String("Identity"), Input: []string{from}, Output: []string{name}})
		}
		e.shapes[name] = graph.ShapeOf(n)
		e.graph.Output = append(e.graph.Output, infoOf(name, graph.Float32, graph.ShapeOf(n), batch))
	}
	for _, o := range p.Outputs {
		result(o.Name, o.Node, l.Batch)
	}
	for _, u := range p.Updates {
		result(u.Name+UpdateSuffix, u.Node, "")
	}
	rename := func(list []string) {
		for i, name := range list {
			if to := renamed[name]; to != "" {
				list[i] = to
			}
		}
	}
	for _, n := range e.graph.Node {
		rename(n.Input)
		rename(n.Output)
	}
}

// dropUnread takes away the outputs of a node after its first where nothing reads any of them: the indices of a MaxPool in
// an exported network. ONNX Runtime wants the statistics of a batch norm in training whether they are read or not.
func (e *emitter) dropUnread() {
	read := map[string]bool{}
	for _, n := range e.graph.Node {
		for _, in := range n.Input {
			read[in] = true
		}
	}
	for _, o := range e.graph.Output {
		read[o.GetName()] = true
	}
	for _, n := range e.graph.Node {
		if len(n.Output) > 1 && !strings.HasPrefix(n.GetOpType(), "BatchNorm") && !slices.ContainsFunc(n.Output[1:], func(out string) bool { return read[out] }) {
			n.Output = n.Output[:1]
		}
	}
}

func (e *emitter) model() *Model {
	domains := []string{""}
	for _, n := range e.graph.Node {
		if d := n.GetDomain(); !slices.Contains(domains, d) {
			domains = append(domains, d)
		}
	}
	slices.Sort(domains)
	m := &pb.ModelProto{IrVersion: proto.Int64(irVersion), ProducerName: proto.String("distill"), Graph: &e.graph}
	e.graph.Name = proto.String("distill")
	for _, d := range domains {
		m.OpsetImport = append(m.OpsetImport, opset(d))
	}
	return &Model{proto: m, name: "program"}
}

func opset(domain string) *pb.OperatorSetIdProto {
	version := int64(1)
	if domain == "" {
		version = Opset
	}
	return &pb.OperatorSetIdProto{Domain: proto.String(domain), Version: proto.Int64(version)}
}

func infoOf(name string, t graph.DType, s graph.Shape, batch string) *pb.ValueInfoProto {
	elem := int32(pb.TensorProto_FLOAT)
	if t == graph.Int64 {
		elem = int32(pb.TensorProto_INT64)
	}
	shape := &pb.TensorShapeProto{}
	for i, d := range s {
		dim := &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}}
		if i == 0 && batch != "" {
			dim.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: batch}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &pb.ValueInfoProto{Name: proto.String(name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
		TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(elem), Shape: shape}}}}
}

func attributeOf(a graph.Attr) *pb.AttributeProto {
	p := &pb.AttributeProto{Name: proto.String(a.Name)}
	set := func(t pb.AttributeProto_AttributeType) { p.Type = &t }
	switch v := a.Value.(type) {
	case int:
		set(pb.AttributeProto_INT)
		p.I = proto.Int64(int64(v))
	case float32:
		set(pb.AttributeProto_FLOAT)
		p.F = proto.Float32(v)
	case string:
		set(pb.AttributeProto_STRING)
		p.S = []byte(v)
	case []int:
		set(pb.AttributeProto_INTS)
		for _, x := range v {
			p.Ints = append(p.Ints, int64(x))
		}
	case []float32:
		set(pb.AttributeProto_FLOATS)
		p.Floats = v
	default:
		panic(fmt.Sprintf("onnx: attribute %s has a value of type %T", a.Name, a.Value))
	}
	return p
}
