package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"distill/internal/hint"
	pb "distill/internal/onnxpb"
)

// check reports the first way in which a decoded model is not well formed (ONNX IR specification, docs/IR.md). Bodies of
// model-local functions are not examined.
func check(p *pb.ModelProto) error {
	maybeCut := func(err error) error { return hint.Wrap(err, "copy or export the file again, it may be cut short") }
	switch {
	case p.Graph == nil:
		return maybeCut(errors.New("not an ONNX model: it has no graph"))
	case p.GetIrVersion() < 3:
		return hint.Wrap(fmt.Errorf("ir_version is %d, 3 is the oldest known", p.GetIrVersion()), "export the model again")
	case len(p.OpsetImport) == 0:
		return maybeCut(errors.New("it imports no operator set"))
	}
	c := checker{domains: map[string]bool{}}
	for _, o := range p.OpsetImport {
		if o.GetVersion() < 1 {
			return fmt.Errorf("operator set %q has version %d", domain(o.GetDomain()), o.GetVersion())
		}
		c.domains[domain(o.GetDomain())] = true
	}
	if len(p.Graph.Output) == 0 {
		return errors.New("the graph has no outputs")
	}
	return c.graph(p.Graph, nil)
}

type checker struct {
	domains map[string]bool // those imported
}

// scope is what is defined so far in a graph, and in the graphs around it.
type scope struct {
	names map[string]bool
	outer *scope
}

func (s *scope) has(name string) bool {
	for ; s != nil; s = s.outer {
		if s.names[name] {
			return true
		}
	}
	return false
}

func (c *checker) graph(g *pb.GraphProto, outer *scope) error {
	s := &scope{names: map[string]bool{}, outer: outer}
	inputs := make(map[string]bool, len(g.Input))
	for i, in := range g.Input {
		name := in.GetName()
		switch {
		case name == "":
			return fmt.Errorf("input %d has no name", i)
		case inputs[name]:
			return fmt.Errorf("input %q occurs twice", name)
		}
		inputs[name], s.names[name] = true, true
	}
	if err := initializers(g, s); err != nil {
		return err
	}
	for i, n := range g.Node {
		if err := c.node(n, s); err != nil {
			if later := producer(g.Node[i:], err); later != "" {
				err = fmt.Errorf("%w; %s comes later", err, later)
			}
			return fmt.Errorf("node %d %s: %w", i, describe(n), err)
		}
	}
	for i, out := range g.Output {
		if !s.has(out.GetName()) {
			return fmt.Errorf("output %d: %w", i, &undefinedError{out.GetName()})
		}
	}
	return nil
}

// initializers checks the constants and defines their names; an input may have one as its default.
func initializers(g *pb.GraphProto, s *scope) error {
	seen := map[string]bool{}
	define := func(name string) error {
		switch {
		case name == "":
			return errors.New("it has no name")
		case seen[name]:
			return errors.New("the name occurs twice")
		}
		seen[name], s.names[name] = true, true
		return nil
	}
	for _, t := range g.Initializer {
		if err := cmp.Or(define(t.GetName()), checkTensor(t)); err != nil {
			return fmt.Errorf("initializer %q: %w", t.GetName(), err)
		}
	}
	for _, t := range g.SparseInitializer {
		if err := cmp.Or(define(t.GetValues().GetName()), checkSparse(t)); err != nil {
			return fmt.Errorf("sparse initializer %q: %w", t.GetValues().GetName(), err)
		}
	}
	return nil
}

// undefinedError is a read of a name that nothing before it defines.
type undefinedError struct{ name string }

func (e *undefinedError) Error() string { return fmt.Sprintf("nothing before it defines %q", e.name) }

// producer describes the node among nodes that defines the name which err misses; "" where there is none.
func producer(nodes []*pb.NodeProto, err error) string {
	missing, ok := errors.AsType[*undefinedError](err)
	if !ok {
		return ""
	}
	for _, n := range nodes {
		for _, out := range n.Output {
			if out == missing.name {
				return describe(n)
			}
		}
	}
	return ""
}

func (c *checker) node(n *pb.NodeProto, s *scope) error {
	if n.GetOpType() == "" {
		return errors.New("it names no operator")
	}
	if d := domain(n.GetDomain()); !c.domains[d] {
		return fmt.Errorf("the model does not import its operator set %q", d)
	}
	for _, in := range n.Input {
		if in != "" && !s.has(in) { // "" is an optional input left out
			return &undefinedError{in}
		}
	}
	for _, a := range n.Attribute {
		if err := c.attribute(a, s); err != nil {
			return fmt.Errorf("attribute %q: %w", a.GetName(), err)
		}
	}
	for _, out := range n.Output {
		if out == "" {
			continue
		}
		if s.names[out] {
			return fmt.Errorf("its output %q is defined already", out)
		}
		s.names[out] = true
	}
	return nil
}

func (c *checker) attribute(a *pb.AttributeProto, s *scope) error {
	if a.T != nil {
		if err := checkTensor(a.T); err != nil {
			return err
		}
	}
	for _, t := range a.Tensors {
		if err := checkTensor(t); err != nil {
			return err
		}
	}
	if a.G != nil {
		if err := c.graph(a.G, s); err != nil {
			return err
		}
	}
	for _, g := range a.Graphs {
		if err := c.graph(g, s); err != nil {
			return err
		}
	}
	return nil
}

// checkTensor reports dimensions that are negative or too many to hold, and data that does not fill them.
func checkTensor(t *pb.TensorProto) error {
	n, err := size(t.Dims)
	if err != nil {
		return err
	}
	if t.Segment != nil {
		return errors.New("it is stored in segments, which no reader supports")
	}
	if external(t) {
		return checkLocation(t)
	}
	e, known := elements[pb.TensorProto_DataType(t.GetDataType())]
	switch {
	case t.GetDataType() == int32(pb.TensorProto_UNDEFINED):
		return errors.New("it has no data type")
	case !known:
		return nil // of a later version: ONNX Runtime decides
	}
	if t.RawData != nil {
		if e.bits == 0 {
			return fmt.Errorf("%s data cannot be raw bytes", e.name)
		}
		if want := (n*e.bits + 7) / 8; len(t.RawData) != want {
			return fmt.Errorf("%d bytes of data do not fill %s %v, which takes %d", len(t.RawData), e.name, t.Dims, want)
		}
		return nil
	}
	if e.stored != nil {
		if got := e.stored(t); got != n {
			return fmt.Errorf("%d elements do not fill %s %v", got, e.name, t.Dims)
		}
	}
	return nil
}

func checkSparse(t *pb.SparseTensorProto) error {
	if _, err := size(t.Dims); err != nil {
		return err
	}
	if t.Values == nil || t.Indices == nil {
		return errors.New("it lacks values or indices")
	}
	return cmp.Or(checkTensor(t.Values), checkTensor(t.Indices))
}

// external reports whether the data lies in another file.
func external(t *pb.TensorProto) bool { return t.GetDataLocation() == pb.TensorProto_EXTERNAL }

// checkLocation keeps external data inside the folder of the model.
func checkLocation(t *pb.TensorProto) error {
	for _, e := range t.ExternalData {
		if e.GetKey() == "location" && e.GetValue() != "" {
			if !filepath.IsLocal(e.GetValue()) {
				return fmt.Errorf("its data lies in %q, outside the folder of the model", e.GetValue())
			}
			return nil
		}
	}
	return errors.New("its data lies in another file, which it does not name")
}

// describe names a node in errors: its name if it has one, and its operator.
func describe(n *pb.NodeProto) string {
	if n.GetName() == "" {
		return fmt.Sprintf("(%s)", n.GetOpType())
	}
	return fmt.Sprintf("%q (%s)", n.GetName(), n.GetOpType())
}

// domain spells the default operator set in its one form, "ai.onnx".
func domain(d string) string { return cmp.Or(d, "ai.onnx") }
