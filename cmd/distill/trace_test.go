package main

import (
	"slices"
	"strings"
	"testing"

	"distill/runtime"
	"distill/runtime/graph"
)

func TestZerosFillWhatAModelLeavesFree(t *testing.T) {
	for _, c := range []struct {
		dtype string
		shape graph.Shape
		size  []int
		want  graph.Shape
		err   string
	}{
		{"float32", graph.Shape{-1, 3, 32, 32}, nil, graph.Shape{1, 3, 32, 32}, ""},
		{"float32", graph.Shape{4, 3, 32, 32}, nil, graph.Shape{4, 3, 32, 32}, ""},
		{"float32", graph.Shape{-1, 3, -1, -1}, []int{24, 48}, graph.Shape{1, 3, 24, 48}, ""},
		{"int64", graph.Shape{-1, 16}, nil, graph.Shape{1, 16}, ""},
		{"float32", graph.Shape{0, 3}, nil, graph.Shape{0, 3}, ""},
		{"float32", graph.Shape{-1, 3, -1, -1}, nil, nil, "dimension 2 is free"},
		{"float32", graph.Shape{-1, -1}, []int{24, 48}, nil, "dimension 1 is free"},
		{"float16", graph.Shape{1, 3}, nil, nil, "of a type that cannot be fed"},
		{"float32", graph.Shape{1, 1 << 40}, nil, nil, "over the limit"},
		{"float32", graph.Shape{1 << 20, 1 << 20, 1 << 20, 1 << 20}, nil, nil, "over the limit"},
	} {
		io := runtime.IO{Name: "x", DType: c.dtype, Shape: c.shape}
		got, err := zeros(io, c.size)
		switch {
		case c.err == "" && (err != nil || !slices.Equal(got.Shape, c.want) || got.DType().String() != c.dtype):
			t.Errorf("%v of size %v: got %v%v, %v; want %v", io, c.size, got.DType(), got.Shape, err, c.want)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%v: got the error %v, want one with %q", io, err, c.err)
		}
	}
}
