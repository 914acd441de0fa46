package onnx_test

import (
	"strings"
	"testing"

	pb "distill/internal/onnxpb"
)

func TestDataIsWhatHangsOnTheInputsElements(t *testing.T) {
	m := parsed(t, modelProto(
		[]*pb.ValueInfoProto{info("image", "batch", 2, 4, 4)}, []*pb.ValueInfoProto{info("y", "batch", 32)},
		[]*pb.TensorProto{weight("w", ramp(1, 1, 1), 1)},
		node("Shape", "shape", []string{"image"}),
		node("Identity", "shape again", []string{"shape"}),
		node("Exp", "w again", []string{"w"}),
		node("Mul", "scaled", []string{"image", "w again"}),
		node("Clip", "clipped", []string{"scaled", "", "w"}),
		node("Size", "size", []string{"scaled"}),
		node("Reshape", "y", []string{"clipped", "shape again"}),
	))
	var names []string
	for _, tap := range m.Data() {
		names = append(names, tap.Tensor)
	}
	if got := strings.Join(names, " "); got != "scaled clipped y" {
		t.Errorf("data are %s", got)
	}
}
