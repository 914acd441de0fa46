package onnx

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// filter lays weights [K,C,kh,kw] out for a blocked convolution: output channels innermost, before them the input channels of
// a block where images come in blocks, [K/b,C/b,kh,kw,b,b]; else [K/b,C,kh,kw,b]. Reordering weights as if they were images
// takes a tenth of the time of the Transpose that it is. Weights that are given are laid out now.
func (b *blocker) filter(v string, w graph.Shape, wide bool) string {
	co, ci, taps := b.lanes(w[0]), w[1], w[2]*w[3]
	if wide {
		ci = b.lanes(ci)
	}
	if t, ok := b.weights(v); ok {
		return b.layOut(filterOf(t, graph.Shape{co, ci, w[2], w[3]}, b.block, wide))
	}
	v = b.pad(v, []int{0, 0, 0, 0}, []int{co - w[0], ci - w[1], 0, 0})
	v = b.add("ReorderInput", nchwcDomain, []string{b.reshape(v, co/b.block, b.block, ci*taps, 1)})
	if wide && taps > 1 {
		v = b.transpose(b.reshape(v, co*ci/b.block/b.block, b.block, taps, b.block), 0, 2, 1, 3)
	}
	return b.reshape(v, co, ci, w[2], w[3])
}

// filterOf is what filter lays weights out as, of the given shape.
func filterOf(weights graph.Tensor, s graph.Shape, block int, wide bool) graph.Tensor {
	out := graph.NewTensor(graph.Float32, s...)
	inner := 1 // input channels beside one another
	if wide {
		inner = block
	}
	w, taps := weights.Shape, s[2]*s[3]
	for k := range w[0] {
		for c := range w[1] {
			for i := range taps {
				at := (k/block*s[1]/inner+c/inner)*taps + i
				out.F[(at*inner+c%inner)*block+k%block] = weights.F[(k*w[1]+c)*taps+i]
			}
		}
	}
	return out
}

// taps lays weights [K,C,kh,kw] out as rows of output channels, [K·blocks·kh·kw,b], for [blocker.turned].
func (b *blocker) taps(v string, w graph.Shape) string {
	co, taps := b.lanes(w[0]), w[2]*w[3]
	v = b.pad(v, []int{0, 0, 0, 0}, []int{co - w[0], 0, 0, 0})
	v = b.add("ReorderInput", nchwcDomain, []string{b.reshape(v, co, w[1], taps, 1)})
	return b.reshape(v, co*b.lanes(w[1])/b.block*taps, b.block)
}

// turned lays weights [K,C,kh,kw], as taps gives them, out for a convolution of the gradient, from K channels to C, with some
// of their rows and columns, in that order.
func (b *blocker) turned(v string, w graph.Shape, rows, columns []int) string {
	co, blocks := b.lanes(w[0]), b.lanes(w[1])/b.block
	var order []int
	for c := range blocks {
		for k := 0; k < co; k += b.block {
			for _, i := range rows {
				for _, j := range columns {
					for lane := range b.block {
						order = append(order, (((k+lane)*blocks+c)*w[2]+i)*w[3]+j)
					}
				}
			}
		}
	}
	return b.reshape(b.taken(v, 0, order), blocks*b.block, co, len(rows), len(columns))
}

// backwards counts down to 0.
func backwards(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = n - 1 - i
	}
	return list
}

// taken takes rows of an array along an axis, the last but one, in another order. A Gather of rows takes a tenth of the time of
// a Transpose.
func (b *blocker) taken(v string, axis int, order []int) string {
	t := &pb.TensorProto{DataType: proto.Int32(int32(pb.TensorProto_INT32)), Dims: []int64{int64(len(order))}}
	for _, i := range order {
		t.RawData = binary.LittleEndian.AppendUint32(t.RawData, uint32(i))
	}
	return b.add("Gather", "", []string{v, b.constant(t)}, whole("axis", axis))
}

// permuted takes rows, as many as there are places in an array of the given axes, to those with the axes in another order.
func (b *blocker) permuted(v string, axes []int, perm ...int) string {
	return b.taken(v, 0, permutation(axes, perm...))
}

// permutation says for each place of an array with its axes in another order which of the array's it is.
func permutation[axis int | int64](axes []int, perm ...axis) []int {
	strides, size := make([]int, len(axes)), 1
	for i := len(axes) - 1; i >= 0; i-- {
		strides[i], size = size, size*axes[i]
	}
	order := []int{0}
	for _, a := range perm {
		var next []int
		for _, at := range order {
			for i := range axes[a] {
				next = append(next, at+i*strides[a])
			}
		}
		order = next
	}
	return order
}

// turnedEach lays the weights [C,1,kh,kw] of a depthwise convolution out for that of its gradient.
func (b *blocker) turnedEach(v string, w graph.Shape) string {
	lanes, taps := b.lanes(w[0]), w[2]*w[3]
	v = b.pad(v, []int{0, 0, 0, 0}, []int{lanes - w[0], 0, 0, 0})
	v = b.add("ReorderInput", nchwcDomain, []string{b.reshape(v, lanes/b.block, b.block, taps, 1)})
	return b.reshape(b.taken(b.reshape(v, lanes/b.block, taps, b.block), 1, backwards(taps)), lanes, 1, w[2], w[3])
}
