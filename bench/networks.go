package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"distill/internal/hint"
	"distill/student"
)

// network is one that both sides compute: a student's training step, or a teacher's inference.
type network struct {
	name    string
	arch    student.Arch // nil for a teacher, whose file the peer exports
	image   [3]int       // C, H, W
	classes int
	batch   int // of the timed steps
	large   int // batch of the step whose memory is measured
}

// networks lists them. pytorch.py has the same ones under the same names.
var networks = []network{
	{"resnet-20", &student.ResNet{Depth: 20, Width: 16, Shortcut: "B"}, [3]int{3, 32, 32}, 10, 64, 256},
	{"wide", &student.ResNet{Depth: 14, Width: 64, Shortcut: "B"}, [3]int{3, 32, 32}, 10, 64, 256},
	{"mobilenetv2", &student.MobileNetV2{Width: 1, Depth: 1, Stem: 32, StemStride: 1, Settings: [][4]int{
		{1, 16, 1, 1}, {6, 24, 2, 1}, {6, 32, 2, 2}, {6, 64, 2, 2}, // t, c, n, s
	}}, [3]int{3, 32, 32}, 10, 64, 256},
	{"vit", &student.ViT{Patch: 4, Width: 192, Depth: 4, Heads: 3, MLPRatio: 4, Pool: "mean"}, [3]int{3, 32, 32}, 10, 64, 256},
	{"resnet-18", nil, [3]int{3, 224, 224}, 1000, 16, 16},
}

// chosen are the networks of some names, all of them for none.
func chosen(names []string) ([]network, error) {
	if len(names) == 0 {
		return networks, nil
	}
	var list, known = []network{}, []string{}
	for _, n := range networks {
		known = append(known, n.name)
	}
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, hint.Wrap(fmt.Errorf("bench: there is no network %q", name), "known: %s", strings.Join(known, ", "))
		}
		list = append(list, networks[i])
	}
	return list, nil
}

// students are the networks that are trained.
func students(list []network) []network {
	return slices.DeleteFunc(slices.Clone(list), func(n network) bool { return n.arch == nil })
}

// batchFile holds what both sides start from: weights, images and, for training, labels and the teacher's logits.
func (n network) batchFile(folder string) string { return filepath.Join(folder, n.name+".safetensors") }

// modelFile is the teacher that the peer exports.
func (n network) modelFile(folder string) string { return filepath.Join(folder, n.name+".onnx") }
