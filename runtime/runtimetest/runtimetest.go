// Package runtimetest holds what tests share that run graphs.
package runtimetest

import (
	"fmt"
	"os"
	"testing"

	"distill/internal/hint"
	"distill/runtime"
	"distill/runtime/graph"
)

// Init makes ONNX Runtime ready, or ends the process and says why not.
func Init() {
	if err := runtime.Init(""); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s\n", err, hint.Of(err))
		os.Exit(1)
	}
}

// Main is a TestMain whose tests need ONNX Runtime.
func Main(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

// Filled is an array whose i-th element is value(i).
func Filled(s graph.Shape, value func(i float64) float64) graph.Array {
	a := graph.Zeros(s)
	for i := range a.F {
		a.F[i] = value(float64(i))
	}
	return a
}

// Scalar is an array of one number.
func Scalar(v float64) graph.Array { return graph.Array{Shape: graph.Shape{}, F: []float64{v}} }
