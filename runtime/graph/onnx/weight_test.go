package onnx_test

import (
	"reflect"
	"slices"
	"testing"

	"distill/runtime/graph/onnx"
)

func TestWeightsAreTrainedUnlessFrozenOrStatistics(t *testing.T) {
	m, err := onnx.Read("../../../docs/tutorial/net.onnx")
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Lift(onnx.Lifting{Freeze: []string{"head.*"}})
	if err != nil {
		t.Fatal(err)
	}
	weights := n.Weights()
	for _, want := range []onnx.Weight{
		{Name: "stem.0.weight", Shape: []int{32, 3, 3, 3}, Op: "Conv", Node: "/stem/stem.0/Conv", Trained: true},
		{Name: "stem.1.bias", Shape: []int{32}, Op: "BatchNormalization", Node: "/stem/stem.1/BatchNormalization", Trained: true},
		{Name: "stem.1.running_mean", Shape: []int{32}, Op: "BatchNormalization", Node: "/stem/stem.1/BatchNormalization"},
		{Name: "head.weight", Shape: []int{10, 128}, Op: "Gemm", Node: "/head/Gemm"},
	} {
		if !slices.ContainsFunc(weights, func(w onnx.Weight) bool { return reflect.DeepEqual(w, want) }) {
			t.Errorf("%+v is not among %+v", want, weights)
		}
	}
}
