package train

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"distill/losses"
	"distill/runtime/graph"
	"distill/teacher"
)

func TestProposedTapsMatchResolutions(t *testing.T) {
	resnet8 := []inner{
		{"stem", graph.Shape{16, 32, 32}}, {"layer1", graph.Shape{16, 32, 32}}, {"layer2", graph.Shape{32, 16, 16}},
		{"layer3", graph.Shape{64, 8, 8}}, {"pool", graph.Shape{64}},
	}
	vit := []inner{{"block1", graph.Shape{65, 192}}, {"block2", graph.Shape{65, 192}}, {"pool", graph.Shape{192}}}
	cifar := []teacher.Tensor{
		{Name: "c", Op: "Conv", Shape: graph.Shape{16, 32, 32}}, {Name: "r1", Op: "Relu", Shape: graph.Shape{16, 32, 32}},
		{Name: "r2", Op: "Relu", Shape: graph.Shape{32, 16, 16}}, {Name: "r3", Op: "Relu", Shape: graph.Shape{64, 8, 8}},
		{Name: "gap", Op: "GlobalAveragePool", Shape: graph.Shape{64, 1, 1}}, {Name: "f", Op: "Flatten", Shape: graph.Shape{64}},
		{Name: "y", Op: "Gemm", Shape: graph.Shape{10}},
	}
	large := []teacher.Tensor{
		{Name: "s1", Op: "Relu", Shape: graph.Shape{64, 56, 56}}, {Name: "s2", Op: "Relu", Shape: graph.Shape{128, 28, 28}},
		{Name: "s3", Op: "Relu", Shape: graph.Shape{256, 14, 14}}, {Name: "s4", Op: "Relu", Shape: graph.Shape{512, 7, 7}},
		{Name: "f", Op: "Flatten", Shape: graph.Shape{512}},
	}
	transformer := []teacher.Tensor{
		{Name: "patches", Op: "Conv", Shape: graph.Shape{384, 8, 8}}, {Name: "b1", Op: "Add", Shape: graph.Shape{65, 384}},
		{Name: "scores", Op: "MatMul", Shape: graph.Shape{6, 65, 65}}, {Name: "weights", Op: "Softmax", Shape: graph.Shape{6, 65, 65}},
		{Name: "b2", Op: "Add", Shape: graph.Shape{65, 384}}, {Name: "wide", Op: "Add", Shape: graph.Shape{65, 1536}},
		{Name: "f", Op: "Gather", Shape: graph.Shape{384}},
	}
	moved := []teacher.Tensor{
		{Name: "r1", Op: "Relu", Shape: graph.Shape{16, 32, 32}}, {Name: "half", Op: "Slice", Shape: graph.Shape{16, 16, 32}},
		{Name: "r3", Op: "Relu", Shape: graph.Shape{64, 8, 8}}, {Name: "pad", Op: "Pad", Shape: graph.Shape{64, 8, 8}},
		{Name: "f", Op: "Flatten", Shape: graph.Shape{64}},
	}
	normalised := []teacher.Tensor{
		{Name: "patches", Op: "Conv", Shape: graph.Shape{384, 8, 8}}, {Name: "b1", Op: "Add", Shape: graph.Shape{65, 384}}, {Name: "n1", Op: "LayerNormalization", Shape: graph.Shape{65, 384}},
		{Name: "scores", Op: "MatMul", Shape: graph.Shape{6, 65, 65}}, {Name: "bias", Op: "Add", Shape: graph.Shape{65, 384}},
		{Name: "b2", Op: "Add", Shape: graph.Shape{65, 384}}, {Name: "n2", Op: "ReduceMean", Shape: graph.Shape{65, 1}},
		{Name: "y", Op: "Add", Shape: graph.Shape{65, 384}}, {Name: "f", Op: "Gather", Shape: graph.Shape{384}},
	}
	for _, c := range []struct {
		name    string
		what    losses.Taps
		student []inner
		teacher []teacher.Tensor
		want    string // student:teacher …, or of the error
	}{
		{"stages of one size", losses.Stages, resnet8, cifar, "layer1:r1 layer2:r2 layer3:r3"},
		{"stages of which the student lacks one", losses.Stages, resnet8[2:], cifar, "layer2:r2 layer3:r3"},
		{"stages of no common size", losses.Stages, resnet8, large, "layer1:s2 layer2:s3 layer3:s4"},
		{"last maps", losses.Last, resnet8, large, "layer3:s4"},
		{"what the classifier reads", losses.Pooled, resnet8, cifar, "pool:f"},
		{"vectors of other kinds of network", losses.Pooled, vit, cifar, "pool:f"},
		{"tokens of the classifier's width", losses.Tokens, vit, transformer, "block2:b2"},
		{"heads of stages", losses.Heads, resnet8, cifar, "layer1:y layer2:y layer3:y"},
		{"heads of blocks", losses.Heads, slices.Concat(vit[:2], vit[:2], vit[:2], vit[:2]), cifar, "block2:y block2:y block2:y block2:y"},
		{"attention is no map", losses.Last, resnet8, transformer, "layer3:patches"},
		{"a map that is moved is none", losses.Stages, resnet8, moved, "layer1:r1 layer3:r3"},
		{"stages and a transformer's quarters", losses.Stages, resnet8, normalised, "layer2:b1 layer3:b2"},
		{"a transformer's quarters and stages", losses.Stages, vit, cifar, "block1:r2 block2:r3"},
		{"a transformer's last tokens and the last map", losses.Last, vit, cifar, "block2:r3"},
		{"quarters of transformers", losses.Stages, vit, normalised, "block1:b1 block2:b2"},
		{"a student with vectors alone", losses.Last, vit[2:], cifar, "the student has no tap that is a map or a sequence of tokens"},
		{"a teacher without tokens", losses.Tokens, vit, cifar, "no tensor of the teacher is known to be a sequence of tokens"},
		{"a student without taps", losses.Pooled, nil, cifar, "the student has no tap that is a vector"},
	} {
		taps, err := propose(c.what, c.student, c.teacher, "f")
		var got []string
		for _, tap := range taps {
			got = append(got, tap.Student+":"+tap.Teacher)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if text := strings.Join(got, " "); !strings.HasPrefix(text, c.want) || err == nil && text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
	if taps, err := propose(losses.Last, resnet8, normalised, ""); err != nil || taps[0].Teacher != "b2" {
		t.Errorf("without its classifier a transformer's last tokens are %+v, %v", taps, err)
	}
	if _, err := propose(losses.Stages, resnet8, nil, ""); err == nil {
		t.Error("a teacher without tensors has levels")
	}
	if _, err := propose(losses.Pooled, resnet8, cifar, ""); err == nil {
		t.Error("a teacher without a classifier has a vector that it reads")
	}
	if got := stages([]inner{{"a", graph.Shape{8, 1, 1}}}); !reflect.DeepEqual(got, []inner{{"a", graph.Shape{8, 1, 1}}}) {
		t.Errorf("the only map is left out: %v", got)
	}
}
