package onnx

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
)

// cut is the range that a Slice of one axis takes, by steps of one; -1 for the axis where it is another Slice, or of a value whose
// shape is not known.
func (b *blocker) cut(n *pb.NodeProto) (axis, from, to int) {
	var of [4]int // starts, ends, axes and steps
	for i := range of {
		v := b.ints[input(n, i+1)]
		if len(v) != 1 {
			return -1, 0, 0
		}
		of[i] = int(v[0])
	}
	s := b.shapes[n.Input[0]]
	if of[2] < 0 || of[2] >= len(s) || of[0] < 0 || of[1] < 0 || of[3] != 1 {
		return -1, 0, 0 // an operator writes no negative ones
	}
	return of[2], of[0], min(of[1], s[of[2]])
}

// shareEqual drops nodes that compute again what one before does, unless the graph gives it out under their name; nothing else reads
// them then.
func (b *blocker) shareEqual(outputs []*pb.ValueInfoProto) error {
	given := map[string]bool{}
	for _, out := range outputs {
		given[out.GetName()] = true
	}
	first, same := map[string]*pb.NodeProto{}, map[string]string{}
	var kept []*pb.NodeProto
	for _, n := range b.nodes {
		for i, in := range n.Input {
			n.Input[i] = cmp.Or(same[in], in)
		}
		what := &pb.NodeProto{Domain: n.Domain, OpType: n.OpType, Input: n.Input, Attribute: n.Attribute, Output: make([]string, len(n.Output))}
		key, err := proto.MarshalOptions{Deterministic: true}.Marshal(what)
		if err != nil {
			return fmt.Errorf("onnx: lower: node %s: %w", n.GetName(), err)
		}
		before := first[string(key)]
		if before == nil {
			first[string(key)] = n
			kept = append(kept, n)
			continue
		}
		if slices.ContainsFunc(n.Output, func(out string) bool { return given[out] }) {
			kept = append(kept, n)
		}
		for i, out := range n.Output {
			if out != "" {
				same[out] = before.Output[i]
			}
		}
	}
	b.nodes = kept
	return nil
}

// part is what a Slice takes of an axis.
type part struct {
	slice    *pb.NodeProto
	from, to int
}

// splitSlices makes one Split of Slices that are parts of an axis beside one another and all there are: it copies longer runs.
func (b *blocker) splitSlices() {
	type axisOf struct {
		value string
		axis  int
	}
	parts := map[axisOf][]part{}
	var order []axisOf
	for _, n := range b.nodes {
		if !is(n, "Slice") {
			continue
		}
		if axis, from, to := b.cut(n); axis >= 0 {
			of := axisOf{n.Input[0], axis}
			if parts[of] == nil {
				order = append(order, of)
			}
			parts[of] = append(parts[of], part{n, from, to})
		}
	}
	needless := map[*pb.NodeProto]bool{}
	for _, of := range order {
		list := parts[of]
		split := list[0].slice // all others come after it
		slices.SortStableFunc(list, func(a, b part) int { return cmp.Compare(a.from, b.from) })
		if len(list) == 1 || !covers(list, b.shapes[of.value][of.axis]) {
			continue
		}
		var sizes []int
		var outputs []string
		for _, p := range list {
			sizes, outputs = append(sizes, p.to-p.from), append(outputs, p.slice.Output[0])
			needless[p.slice] = p.slice != split
		}
		split.Name, split.OpType, split.Output = proto.String(split.GetName()+"_split"), proto.String("Split"), outputs
		split.Input, split.Attribute = []string{of.value, b.vector(sizes...)}, []*pb.AttributeProto{whole("axis", of.axis)}
	}
	b.nodes = slices.DeleteFunc(b.nodes, func(n *pb.NodeProto) bool { return needless[n] })
}

// covers reports whether parts, in their order, are all of so many places, each once.
func covers(list []part, places int) bool {
	at := 0
	for _, p := range list {
		if p.from != at || p.to <= p.from {
			return false
		}
		at = p.to
	}
	return at == places
}
