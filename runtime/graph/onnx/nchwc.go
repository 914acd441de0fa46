package onnx

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// nchwcDomain holds the convolution that ONNX Runtime's CPU provider runs on blocks of channels, and its reorderings.
// Its own optimizer uses it only where the weights are constant, which in training they never are.
const nchwcDomain = "com.microsoft.nchwc"

// layBlocks rewrites a lowered graph so that images stay in blocks of channels, [N,C/b,H,W,b] in memory, from one operator to
// the next. A value of the plain graph may have a twin, the same image in blocks: a layout in the table writes a node on
// twins, a ReorderInput makes a twin of what comes in plain, and a ReorderOutput the plain value where a node without a layout
// reads it. Channels that do not fill the last block are zeros or without meaning, and nothing reads them.
// Weights of convolutions that are given are laid out now, and become inputs. shapes holds the shape of every value.
func (m *Model) layBlocks(shapes map[string]graph.Shape, l Lowering) error {
	b := newBlocker(m.proto.Graph, shapes, l.Target)
	if l.Store != nil {
		b.weights = l.Store.Tensor
	}
	for _, n := range m.proto.Graph.Node {
		if err := b.node(n); err != nil {
			return err
		}
	}
	for _, out := range m.proto.Graph.Output {
		b.plain(out.GetName())
	}
	b.nodes = b.needed(m.proto.Graph.Output)
	if err := b.shareEqual(m.proto.Graph.Output); err != nil {
		return err
	}
	b.splitSlices()
	b.copySums()
	m.proto.Graph.Node = b.nodes
	m.proto.Graph.Initializer = append(m.proto.Graph.Initializer, b.consts...)
	m.dropUnreadConstants() // weights of which only another layout is read
	for _, name := range slices.Sorted(maps.Keys(b.laidOut)) {
		m.proto.Graph.Input = append(m.proto.Graph.Input, infoOf(name, graph.Float32, b.laidOut[name].Shape, ""))
	}
	m.laidOut, m.winograd = b.laidOut, b.winograds
	for _, domain := range []string{nchwcDomain, "com.microsoft"} {
		used := slices.ContainsFunc(b.nodes, func(n *pb.NodeProto) bool { return n.GetDomain() == domain })
		imported := slices.ContainsFunc(m.proto.OpsetImport, func(o *pb.OperatorSetIdProto) bool { return o.GetDomain() == domain })
		if used && !imported {
			m.proto.OpsetImport = append(m.proto.OpsetImport, opset(domain))
		}
	}
	m.proto.OpsetImport = slices.DeleteFunc(m.proto.OpsetImport, func(o *pb.OperatorSetIdProto) bool { return o.GetDomain() == graph.BlockedDomain })
	return nil
}

type blocker struct {
	target  graph.Target
	block   int // the target's
	shapes  map[string]graph.Shape
	readers map[string][]*pb.NodeProto             // of each value of the plain graph; nil stands for the graph's own output
	origins map[string]*pb.NodeProto               // of each value of the plain graph
	ints    map[string][]int64                     // constant vectors of whole numbers
	floats  map[string]float32                     // constant numbers
	weights func(name string) (graph.Tensor, bool) // those of convolutions that are given

	nodes    []*pb.NodeProto
	laidOut  map[string]graph.Tensor // given weights in another layout, by the name of the input that they are
	consts   []*pb.TensorProto
	named    map[string]string        // constants by content
	makers   map[string]*pb.NodeProto // of each twin
	twins    map[string]string        // name of the twin, by the plain value's
	rows     map[string][]string      // twins of what is rows, in one value or one for each sample: see nchwcrows.go
	joins    map[string]string        // twins of rows in one value, by the name of their first sample
	added    map[*pb.NodeProto]bool   // biases that the product before adds: see biasAfter
	owed     map[string]bool          // plain values that only their twins hold
	remade   map[string]string        // a second twin, for the backward pass: see again
	kept     map[string]bool          // twins that are not made a second time
	summed   map[string]string        // plain value that the maker of a twin adds
	sums     map[string]graph.Shape   // of the twins whose maker may add an image
	norms    map[string]normed        // of batchNorm, by the name of the mean
	zeros    map[string]string        // of wholeZero, by image
	stripped map[string]stripped      // images in parts, by the twin
	tiled    map[string]string        // gradients of Winograd's convolutions, transformed
	factors  map[string]string        // what a gradient's twin must still be multiplied by, for each channel: see takesFactor

	winograds int // Winograd's convolutions so far
	kernels   int // elements of their kernels, where these are given
}

// layouts write a node in blocks, or report that they leave it plain.
var layouts = map[string]func(b *blocker, n *pb.NodeProto) bool{
	"Conv":               (*blocker).convolution,
	"BatchNormalization": (*blocker).batchNormInference,
	"GlobalAveragePool":  (*blocker).globalAveragePool,
	"MaxPool":            (*blocker).pool,
	"AveragePool":        (*blocker).pool,
	"ReduceSum":          (*blocker).reduceSum,
	"Clip":               (*blocker).clip,
	"HardSigmoid":        (*blocker).step,
	"Relu":               (*blocker).relu,
	"Add":                (*blocker).addition,
	"Mul":                (*blocker).multiplication,
	"Div":                (*blocker).division,
	"Reshape":            (*blocker).reshaping,
	"Transpose":          (*blocker).transposition,
	"Gather":             (*blocker).move,
	"Slice":              (*blocker).move,
}

// elementwiseOps do not care how elements are laid out.
var elementwiseOps = map[string]bool{
	"Add": true, "Clip": true, "Div": true, "Elu": true, "Erf": true, "Exp": true, "Gelu": true, "HardSigmoid": true, "HardSwish": true,
	"LeakyRelu": true, "Mul": true, "Neg": true, "Relu": true, "Sigmoid": true, "Softplus": true, "Sub": true, "Tanh": true,
}

// wholes are the operators of graph.BlockedDomain, which have no plain form.
var wholes = map[string]func(b *blocker, n *pb.NodeProto){
	"ConvGradW":       (*blocker).convGradW,
	"ConvGradX":       (*blocker).convGradX,
	"ConvGradXApart":  (*blocker).convGradXApart,
	"ConvGradXPhases": (*blocker).convGradXPhases,
	"BatchNorm":       (*blocker).batchNorm,
	"BatchNormGrad":   (*blocker).batchNormGrad,
	"MaxPoolGrad":     (*blocker).maxPoolGrad,
	"RowsMatMul":      (*blocker).rowsMatMul,
	"RowsGradW":       (*blocker).rowsWeights,
	"SumRows":         (*blocker).sumRows,
}

// takesBlocks reports whether a node is likely to read images in blocks.
func takesBlocks(n *pb.NodeProto) bool {
	return n != nil && (n.GetDomain() == graph.BlockedDomain || elementwiseOps[n.GetOpType()] || is(n, "Conv"))
}

// needed drops the nodes that nothing reads: a batch norm's plain form asks for zeros that the blocked one does without.
func (b *blocker) needed(outputs []*pb.ValueInfoProto) []*pb.NodeProto {
	read := map[string]bool{}
	for _, out := range outputs {
		read[out.GetName()] = true
	}
	var kept []*pb.NodeProto
	for _, n := range slices.Backward(b.nodes) {
		if !slices.ContainsFunc(n.Output, func(out string) bool { return read[out] }) {
			continue
		}
		for _, in := range n.Input {
			read[in] = true
		}
		kept = append(kept, n)
	}
	slices.Reverse(kept)
	return kept
}

// copySums copies the image that a convolution adds, if something else may still read it then. ONNX Runtime writes the sum over
// that image, or else over a copy, which one thread makes while the others wait, and which they then fetch from its cache; a
// convolution that copies has all threads. An image too large for a cache is left to the one, whose copy goes around it.
func (b *blocker) copySums() {
	readers := map[string][]*pb.NodeProto{}
	for _, n := range b.nodes {
		for _, in := range n.Input {
			readers[in] = append(readers[in], n)
		}
	}
	makers := map[string]*pb.NodeProto{}
	for _, n := range b.nodes {
		for _, out := range n.Output {
			makers[out] = n
		}
	}
	all := b.nodes
	b.nodes = nil
	for _, n := range all {
		image := input(n, 3)
		if shape, ok := b.sums[n.Output[0]]; ok && n.GetOpType() == "Conv" && image != "" && shape.Size() <= cached {
			before := ancestors(n, makers)
			if slices.ContainsFunc(readers[image], func(r *pb.NodeProto) bool { return r != n && !before[r] }) {
				n.Input[3] = b.affine(image, shape, "", "", "")
			}
		}
		b.nodes = append(b.nodes, n)
	}
}

// cached is how many elements an image has at most that stays in a cache from one operator to the next: 4 MiB.
const cached = 1 << 20

// ancestors are the nodes that must run before n.
func ancestors(n *pb.NodeProto, makers map[string]*pb.NodeProto) map[*pb.NodeProto]bool {
	found := map[*pb.NodeProto]bool{}
	for stack := []*pb.NodeProto{n}; len(stack) > 0; {
		last := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, in := range last.Input {
			if m := makers[in]; m != nil && !found[m] {
				found[m] = true
				stack = append(stack, m)
			}
		}
	}
	return found
}

func newBlocker(g *pb.GraphProto, shapes map[string]graph.Shape, target graph.Target) *blocker {
	b := &blocker{
		target: target, block: target.Block, shapes: shapes,
		weights: func(string) (graph.Tensor, bool) { return graph.Tensor{}, false }, laidOut: map[string]graph.Tensor{},
		readers: map[string][]*pb.NodeProto{}, origins: map[string]*pb.NodeProto{}, ints: map[string][]int64{}, floats: map[string]float32{},
		named: map[string]string{}, makers: map[string]*pb.NodeProto{}, twins: map[string]string{}, owed: map[string]bool{},
		remade: map[string]string{}, kept: map[string]bool{}, summed: map[string]string{}, sums: map[string]graph.Shape{}, norms: map[string]normed{},
		rows: map[string][]string{}, joins: map[string]string{}, added: map[*pb.NodeProto]bool{},
		stripped: map[string]stripped{}, zeros: map[string]string{}, tiled: map[string]string{}, factors: map[string]string{},
	}
	for _, n := range g.Node {
		for _, in := range n.Input {
			b.readers[in] = append(b.readers[in], n)
		}
		for _, out := range n.Output {
			b.origins[out] = n
		}
	}
	for _, out := range g.Output {
		b.readers[out.GetName()] = append(b.readers[out.GetName()], nil)
	}
	for _, t := range g.Initializer {
		if t.GetDataType() != int32(pb.TensorProto_INT64) && len(t.Dims) > 0 {
			continue // weights, which may be large
		}
		switch v, err := decode(t); {
		case err != nil:
		case v.I != nil:
			b.ints[t.GetName()] = v.I
		case len(v.Shape) == 0:
			b.floats[t.GetName()] = v.F[0]
		}
	}
	return b
}

func (b *blocker) node(n *pb.NodeProto) error {
	if n.GetDomain() == graph.BlockedDomain {
		write := wholes[n.GetOpType()]
		if write == nil {
			return fmt.Errorf("onnx: lower: there is no layout for %s", n.GetOpType())
		}
		write(b, n)
		return nil
	}
	plain := n.GetDomain() == "" || n.GetOpType() == "Gelu" // which is com.microsoft's
	lay := layouts[n.GetOpType()]
	if lay == nil && elementwiseOps[n.GetOpType()] {
		lay = (*blocker).elementwise
	}
	if lay != nil && plain && lay(b, n) {
		return nil
	}
	for _, in := range n.Input {
		b.plain(in)
	}
	b.nodes = append(b.nodes, n)
	return nil
}

// lanes is the number of channels that the blocks of c channels hold.
func (b *blocker) lanes(c int) int { return (c + b.block - 1) / b.block * b.block }

func (b *blocker) fills(s graph.Shape) bool {
	return len(s) == 4 && b.target.Fills(s[1])
}

// blocked names the twin of an image, made now if there is none.
func (b *blocker) blocked(v string) string {
	if b.twins[v] == "" {
		if b.rows[v] != nil {
			b.plain(v)
		}
		b.twins[v] = b.add("ReorderInput", nchwcDomain, []string{v})
	}
	return b.twins[v]
}

// plain makes sure that the value exists under its own name.
func (b *blocker) plain(v string) {
	if b.owed[v] {
		delete(b.owed, v)
		if b.rows[v] != nil {
			b.rowsPlain(v)
		} else {
			b.add("ReorderOutput", nchwcDomain, []string{b.twins[v]}, whole("channels", b.shapes[v][1]))
		}
		b.name(v)
	}
}

// pair makes twin hold the value v, which is written plain only if something asks for it.
func (b *blocker) pair(v, twin string) bool {
	b.twins[v], b.owed[v] = twin, true
	return true
}

// add writes a node and names its output.
func (b *blocker) add(op, domain string, in []string, attrs ...*pb.AttributeProto) string {
	name := fmt.Sprintf("blocked_%s_%d", op, len(b.makers))
	n := &pb.NodeProto{Name: proto.String(name), OpType: proto.String(op), Input: in, Output: []string{name + "_output_0"}, Attribute: attrs}
	if domain != "" {
		n.Domain = proto.String(domain)
	}
	b.nodes = append(b.nodes, n)
	b.makers[n.Output[0]] = n
	return n.Output[0]
}

// last moves a node behind all others, for an input that was made after it. Nothing reads it yet.
func (b *blocker) last(n *pb.NodeProto) {
	at := slices.Index(b.nodes, n)
	b.nodes = append(slices.Delete(b.nodes, at, at+1), n)
}

// name gives the output of the node written last the name of a plain value.
func (b *blocker) name(v string) { b.nodes[len(b.nodes)-1].Output = []string{v} }

func whole(name string, v any) *pb.AttributeProto {
	return attributeOf(graph.Attr{Name: name, Value: v})
}

func (b *blocker) constant(t *pb.TensorProto) string {
	key := fmt.Sprintf("%d %v %x", t.GetDataType(), t.Dims, sha256.Sum256(t.RawData))
	if b.named[key] == "" {
		b.named[key] = fmt.Sprintf("blocked_constant_%d", len(b.consts))
		t.Name = proto.String(b.named[key])
		b.consts = append(b.consts, t)
	}
	return b.named[key]
}

// layOut makes weights in another layout an input.
func (b *blocker) layOut(t graph.Tensor) string {
	name := fmt.Sprintf("blocked_weights_%d", len(b.laidOut))
	b.laidOut[name] = t
	return name
}

func (b *blocker) vector(values ...int) string {
	t := graph.NewTensor(graph.Int64, len(values))
	for i, v := range values {
		t.I[i] = int64(v)
	}
	return b.constant(encode("", t))
}

func (b *blocker) scalar(v float64) string { return b.constant(encode("", graph.Scalar(float32(v)))) }

func (b *blocker) reshape(v string, to ...int) string {
	return b.add("Reshape", "", []string{v, b.vector(to...)})
}

func (b *blocker) transpose(v string, perm ...int) string {
	return b.add("Transpose", "", []string{v}, whole("perm", perm))
}

func (b *blocker) pad(v string, before, after []int) string {
	if slices.Max(before) == 0 && slices.Max(after) == 0 && slices.Min(before) == 0 && slices.Min(after) == 0 {
		return v
	}
	return b.add("Pad", "", []string{v, b.vector(slices.Concat(before, after)...)})
}

// widen turns a vector of c elements into one of as many as the blocks hold, by zeros.
func (b *blocker) widen(v string, c int) string {
	return b.pad(v, []int{0}, []int{b.lanes(c) - c})
}

// narrow undoes widen along the given axis.
func (b *blocker) narrow(v string, axis, c int) string {
	if b.lanes(c) == c {
		return v
	}
	return b.add("Slice", "", []string{v, b.vector(0), b.vector(c), b.vector(axis)})
}
