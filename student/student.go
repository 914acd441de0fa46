// Package student holds the architectures that can be trained: each describes itself as a graph, for training and for
// inference under the same parameter names.
//
//	arch, err := student.New("resnet8")
//	model := arch.Build(g, x, 10) // x is [N,3,32,32]
//	loss(model.Logits, …)
package student

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	G "gorgonia.org/gorgonia"

	"distill/internal/hint"
	"distill/runtime/graph"
)

// Model is a network in a graph.
type Model struct {
	Logits *G.Node // [N,classes]
	Taps   []Tap   // what a feature loss can read, from input to output
}

// Tap is an intermediate tensor under a name.
type Tap struct {
	Name string
	Node *G.Node
}

// Arch is an architecture; its struct is the recipe's `student:` section.
type Arch interface {
	// Validate reports the first setting that cannot be built.
	Validate() error
	// Build describes the network on images x [N,C,H,W].
	Build(g *graph.Graph, x *G.Node, classes int) Model
}

// Family is a row of Table: architectures that share a struct.
type Family struct {
	Name  string // what the name of a member begins with
	Doc   string
	Sized bool // whether a number may follow the name
	// New is the default member; size is that number, 0 where there is none.
	New func(size int) Arch
}

// Table lists the families.
var Table = []Family{
	{"cnn", "plain convolutional network: conv, batch norm, ReLU and max pool a stage", false, func(int) Arch { return &CNN{Widths: []int{32, 64, 128}} }},
	{"mlp", "dense layers with ReLU", false, func(int) Arch { return &MLP{Hidden: []int{256, 128}} }},
	{"mobilenetv2", "MobileNetV2, as torchvision's", false, func(int) Arch { return mobileNetV2(false) }},
	{"mobilenetv2_cifar", "MobileNetV2 for images of about 32x32: stem and second stage of stride 1", false, func(int) Arch { return mobileNetV2(true) }},
	{"onnx", "a network from an ONNX file", false, func(int) Arch { return &ONNX{} }},
	{"resnet", "CIFAR ResNet of depth 6n+2: resnet8, resnet14, resnet20, …", true, func(size int) Arch {
		return &ResNet{Depth: max(size, 0), Width: 16, Shortcut: "A"}
	}},
	{"vit_small", "vision transformer, 12 blocks, 384 wide, with the side of a patch: vit_small16, vit_small4, …", true, func(size int) Arch {
		return vit(size, 6)
	}},
	{"vit_tiny", "vision transformer, 12 blocks, 192 wide, with the side of a patch: vit_tiny16, vit_tiny4, …", true, func(size int) Arch {
		return vit(size, 3)
	}},
}

// New is the default architecture of a name: a family's, followed by a size where the family has one.
func New(name string) (Arch, error) {
	for _, f := range Table {
		digits, ok := strings.CutPrefix(name, f.Name)
		if !ok {
			continue
		}
		size, err := strconv.Atoi(digits)
		if digits != "" && (!f.Sized || err != nil || size < 1 || size > 9999) {
			continue
		}
		return f.New(size), nil
	}
	return nil, hint.Wrap(fmt.Errorf("student: there is no architecture %q", name), "known: %s", strings.Join(Names(), ", "))
}

// Names lists one name of each family.
func Names() []string {
	var names []string
	for _, f := range Table {
		names = append(names, f.Name)
	}
	return names
}

func positive(what string, sizes []int) error {
	if len(sizes) == 0 {
		return errors.New(what + " needs at least one entry")
	}
	for _, n := range sizes {
		if n < 1 || n > 65536 {
			return fmt.Errorf("%s must be in 1..65536, not %d", what, n)
		}
	}
	return nil
}
