package onnx

import (
	"slices"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// Between the rows of a projection and the heads of attention, operators move pieces of rows that are whole blocks. Where a value
// comes out of blocks or goes into them, one Gather takes its pieces past all of these operators.

// pieces says where the pieces of a value lie, of as many elements as a block has.
type pieces struct {
	from  []string // what has these pieces, and others
	sizes []int    // how many pieces each of from has
	at    []int    // of each piece of the value, counted through from
}

// maxMoves is how many operators a value is followed back through: where some read a value twice, paths double with each.
const maxMoves = 256

// piecesOf follows a value back to where its pieces come from: itself, unless they are moved only.
func (b *blocker) piecesOf(v string) pieces {
	moves := maxMoves
	return b.piecesWithin(v, &moves)
}

// piecesWithin is piecesOf through so many operators at most; what lies behind these counts as where pieces come from.
func (b *blocker) piecesWithin(v string, moves *int) pieces {
	s := b.shapes[v]
	if b.rows[v] != nil {
		image := b.imageOf(s)
		return whereMoved(b.joined(v), permutation([]int{image[0], image[1] / b.block, image[2] * image[3]}, 0, 2, 1))
	}
	n := b.origins[v]
	if *moves--; *moves < 0 || n == nil || !b.movesPieces(n) {
		return whereMoved(v, permutation([]int{s.Size() / b.block}, 0))
	}
	if n.GetOpType() == "Concat" {
		return b.piecesBeside(n, moves)
	}
	p := b.piecesWithin(n.Input[0], moves)
	switch axes := b.inPieces(n.Input[0]); n.GetOpType() {
	case "Transpose":
		p = p.picked(permutation(axes, attribute(n, "perm").GetInts()...))
	case "Gather":
		var at []int
		for _, i := range b.ints[n.Input[1]] {
			at = append(at, int(i))
		}
		p = p.picked(elementsAt(axes, int(intAttribute(n, "axis", 0)), at))
	case "Slice":
		axis, from, to := b.sliced(n)
		var at []int
		for i := from; i < to; i++ {
			at = append(at, i)
		}
		p = p.picked(elementsAt(axes, axis, at))
	}
	return p
}

// elementsAt counts the elements of an array that lie at some places of an axis.
func elementsAt(s graph.Shape, axis int, some []int) []int {
	inner := s[axis+1:].Size()
	var at []int
	for outer := range s[:axis].Size() {
		for _, i := range some {
			first := (outer*s[axis] + i) * inner
			for k := range inner {
				at = append(at, first+k)
			}
		}
	}
	return at
}

// sliced is the range of pieces that a Slice of one axis takes, by steps of one; -1 for the axis where it is another Slice, or
// cuts through pieces.
func (b *blocker) sliced(n *pb.NodeProto) (axis, from, to int) {
	axis, from, to = b.cut(n)
	if s := b.shapes[n.Input[0]]; axis == len(s)-1 {
		if from%b.block+to%b.block > 0 {
			return -1, 0, 0
		}
		from, to = from/b.block, to/b.block
	}
	return axis, from, to
}

func whereMoved(from string, at []int) pieces {
	return pieces{from: []string{from}, sizes: []int{len(at)}, at: at}
}

// picked are some of the pieces, or all, in another order.
func (p pieces) picked(order []int) pieces {
	at := make([]int, len(order))
	for i, k := range order {
		at[i] = p.at[k]
	}
	p.at = at
	return p
}

// inOrder reports whether the pieces are all that a value has, as they lie.
func (p pieces) inOrder() bool {
	return len(p.from) == 1 && len(p.at) == p.sizes[0] && slices.IsSorted(p.at)
}

// piecesBeside are those of what a Concat joins.
func (b *blocker) piecesBeside(n *pb.NodeProto, moves *int) pieces {
	var all pieces
	size := 0
	parts := make([][]int, len(n.Input)) // of each input, those that are still to be taken
	for i, v := range n.Input {
		p := b.piecesWithin(v, moves)
		for _, at := range p.at {
			parts[i] = append(parts[i], size+at)
		}
		all.from, all.sizes = append(all.from, p.from...), append(all.sizes, p.sizes...)
		for _, n := range p.sizes {
			size += n
		}
	}
	axis := int(intAttribute(n, "axis", 0))
	for range b.inPieces(n.Input[0])[:axis].Size() {
		for i, v := range n.Input {
			k := b.inPieces(v)[axis:].Size()
			all.at = append(all.at, parts[i][:k]...)
			parts[i] = parts[i][k:]
		}
	}
	return all
}

// movesPieces reports whether a node does no more than to move pieces.
func (b *blocker) movesPieces(n *pb.NodeProto) bool {
	whole := func(v string) bool {
		s := b.shapes[v]
		return len(s) > 0 && s[len(s)-1]%b.block == 0
	}
	if n.GetDomain() != "" || len(n.Input) == 0 || !whole(n.Output[0]) || !whole(n.Input[0]) {
		return false
	}
	last := len(b.shapes[n.Input[0]]) - 1
	switch n.GetOpType() {
	case "Reshape", "Squeeze":
		return true
	case "Slice":
		axis, _, _ := b.sliced(n)
		return axis >= 0
	case "Transpose":
		perm := attribute(n, "perm").GetInts()
		return len(perm) > last && int(perm[last]) == last
	case "Gather":
		return int(intAttribute(n, "axis", 0)) < last && b.ints[n.Input[1]] != nil
	case "Concat":
		return !slices.ContainsFunc(n.Input, func(v string) bool { return !whole(v) })
	}
	return false
}

// inPieces is the shape of a value whose elements are its pieces.
func (b *blocker) inPieces(v string) graph.Shape {
	s := b.shapes[v].Clone()
	s[len(s)-1] /= b.block
	return s
}

// inTurns splits the pieces of several values, all that they have, into those of each, where so many times a run of the first value's
// comes before a run of the second's, and so on; nil where they lie otherwise.
func (p pieces) inTurns(turns int) []pieces {
	parts, at := make([]pieces, len(p.from)), p.at
	for range turns {
		start := 0
		for i, size := range p.sizes {
			run := size / turns
			if run > len(at) || slices.Min(at[:run]) < start || slices.Max(at[:run]) >= start+size {
				return nil
			}
			for _, k := range at[:run] {
				parts[i].at = append(parts[i].at, k-start)
			}
			at, start = at[run:], start+size
		}
	}
	if len(at) > 0 {
		return nil
	}
	for i := range parts {
		parts[i].from, parts[i].sizes = p.from[i:i+1], p.sizes[i:i+1]
	}
	return parts
}

// imageOfPieces writes pieces as an image [N,C,H,W] in blocks. Where its channels are those of several values after one another, each
// value's pieces are put in order by themselves, while a cache holds them, and then joined.
func (b *blocker) imageOfPieces(p pieces, s graph.Shape) string {
	places := s[2] * s[3]
	cut := func(size int) bool { return size == 0 || size%(s[0]*places) > 0 }
	if len(p.from) > 1 && !slices.ContainsFunc(p.sizes, cut) {
		if parts := p.inTurns(s[0]); parts != nil {
			var list []string
			for _, part := range parts {
				list = append(list, b.reshape(b.gathered(part), s[0], len(part.at)/s[0]/places*b.block, s[2], s[3]))
			}
			return b.add("Concat", "", list, whole("axis", 1))
		}
	}
	return b.reshape(b.gathered(p), s...)
}

// gathered writes pieces, one in each row.
func (b *blocker) gathered(p pieces) string {
	var from []string
	for _, v := range p.from {
		b.plain(v)
		from = append(from, b.reshape(v, -1, b.block))
	}
	all := from[0]
	if len(from) > 1 {
		all = b.add("Concat", "", from, whole("axis", 0))
	}
	return b.taken(all, 0, p.at)
}

// fromRows reports whether pieces of a value come from rows that are in blocks.
func (b *blocker) fromRows(v string) bool {
	moves := maxMoves
	var from func(v string) bool
	from = func(v string) bool {
		if b.rows[v] != nil {
			return true
		}
		n := b.origins[v]
		moves--
		switch {
		case moves < 0 || n == nil || !b.movesPieces(n):
			return false
		case n.GetOpType() == "Concat":
			return slices.ContainsFunc(n.Input, from)
		}
		return from(n.Input[0])
	}
	return from(v)
}

// move writes what only moves pieces of rows that are in blocks.
func (b *blocker) move(n *pb.NodeProto) bool {
	v := n.Output[0]
	if !b.fromRows(v) {
		return false
	}
	b.reshape(b.gathered(b.piecesOf(v)), b.shapes[v]...)
	b.name(v)
	return true
}

// transposition writes images [N,C,H,W] as rows [N,H,W,C], and rows as images in blocks.
func (b *blocker) transposition(n *pb.NodeProto) bool {
	x, y := n.Input[0], n.Output[0]
	s, twin := b.shapes[x], b.twins[x]
	switch perm := attribute(n, "perm").GetInts(); {
	case slices.Equal(perm, []int64{0, 2, 3, 1}) && twin != "" && s[1]%b.block == 0:
		all := b.reshape(twin, s.Size()/b.block, b.block)
		b.reshape(b.permuted(all, []int{s[0], s[1] / b.block, s[2] * s[3]}, 0, 2, 1), b.shapes[y]...)
		b.name(y)
	case slices.Equal(perm, []int64{0, 2, 3, 1}) && twin != "":
		b.add("ReorderOutput", nchwcDomain, []string{twin}, whole("channels", s[1]), whole("channels_last", 1))
		b.name(y)
	case slices.Equal(perm, []int64{0, 3, 1, 2}) && b.fills(b.shapes[y]) && slices.ContainsFunc(b.readers[y], takesBlocks):
		b.plain(x)
		b.pair(y, b.add("ReorderInput", nchwcDomain, []string{x}, whole("channels_last", 1)))
	default:
		return b.move(n)
	}
	return true
}
