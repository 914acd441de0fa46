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
	Sizes int // how many numbers may follow the name, joined by _: 1 as in resnet20, 2 as in wrn40_2
	// Members are well-known ones, the smallest first; none where the name itself is all there is.
	Members []string
	// New is the default member; size holds those numbers, 0 where there is none.
	New func(size [2]int) Arch
}

// Table lists the families.
var Table = []Family{
	{"cnn", "plain convolutional network: conv, batch norm, ReLU and max pool a stage", 0, nil, func([2]int) Arch {
		return &CNN{Widths: []int{32, 64, 128}}
	}},
	{"convnext_atto", "ConvNeXt of timm's size atto: 40, 80, 160 and 320 channels", 0, nil, convNeXt(4, 40, 0, 2, 2, 6, 2)},
	{"convnext_atto_cifar", "ConvNeXt of size atto for images of about 32x32: no patches", 0, nil, convNeXt(1, 40, 0, 2, 2, 6, 2)},
	{"convnext_tiny", "ConvNeXt-Tiny, as torchvision's", 0, nil, convNeXt(4, 96, 0.1, 3, 3, 9, 3)},
	{"efficientnet_b0", "EfficientNet-B0, as torchvision's", 0, nil, efficientNet(1, 1, 0.2)},
	{"efficientnet_b1", "EfficientNet-B1, as torchvision's", 0, nil, efficientNet(1, 1.1, 0.2)},
	{"efficientnet_b2", "EfficientNet-B2, as torchvision's", 0, nil, efficientNet(1.1, 1.2, 0.3)},
	{"efficientnet_b3", "EfficientNet-B3, as torchvision's", 0, nil, efficientNet(1.2, 1.4, 0.3)},
	{"efficientnet_b4", "EfficientNet-B4, as torchvision's", 0, nil, efficientNet(1.4, 1.8, 0.4)},
	{"efficientnet_cifar", "EfficientNet-B0 for images of about 32x32: stem and second stage of stride 1", 0, nil, smallEfficientNet},
	{"mlp", "dense layers with ReLU", 0, nil, func([2]int) Arch { return &MLP{Hidden: []int{256, 128}} }},
	{"mobilenetv2", "MobileNetV2, as torchvision's", 0, nil, func([2]int) Arch { return mobileNetV2(false) }},
	{"mobilenetv2_cifar", "MobileNetV2 for images of about 32x32: stem and second stage of stride 1", 0, nil, func([2]int) Arch {
		return mobileNetV2(true)
	}},
	{"onnx", "a network from an ONNX file", 0, nil, func([2]int) Arch { return &ONNX{} }},
	// The networks of ImageNet go by their whole names, before the family that takes any number.
	{"resnet18", "ResNet-18, as torchvision's", 0, nil, imageNetResNet(false, false, 2, 2, 2, 2)},
	{"resnet34", "ResNet-34, as torchvision's", 0, nil, imageNetResNet(false, false, 3, 4, 6, 3)},
	{"resnet50", "ResNet-50, as torchvision's; CIFAR's is {arch: resnet, depth: 50}", 0, nil, imageNetResNet(false, true, 3, 4, 6, 3)},
	{"resnet18_cifar", "ResNet-18 for images of about 32x32: 3x3 stem of stride 1, no max pool", 0, nil, imageNetResNet(true, false, 2, 2, 2, 2)},
	{"resnet34_cifar", "ResNet-34 for images of about 32x32", 0, nil, imageNetResNet(true, false, 3, 4, 6, 3)},
	{"resnet50_cifar", "ResNet-50 for images of about 32x32", 0, nil, imageNetResNet(true, true, 3, 4, 6, 3)},
	{"resnet", "CIFAR ResNet of depth 6n+2: resnet8, resnet14, resnet20, …", 1, []string{"resnet8", "resnet20", "resnet56"}, func(size [2]int) Arch {
		return &ResNet{Depth: size[0], Width: 16, Shortcut: "A"}
	}},
	{"shufflenetv2", "ShuffleNetV2 x1.0, as torchvision's", 0, nil, shuffleNetV2(116, 1024, false)},
	{"shufflenetv2_x0_5", "ShuffleNetV2 x0.5, as torchvision's", 0, nil, shuffleNetV2(48, 1024, false)},
	{"shufflenetv2_x1_5", "ShuffleNetV2 x1.5, as torchvision's", 0, nil, shuffleNetV2(176, 1024, false)},
	{"shufflenetv2_x2_0", "ShuffleNetV2 x2.0, as torchvision's", 0, nil, shuffleNetV2(244, 2048, false)},
	{"shufflenetv2_cifar", "ShuffleNetV2 x1.0 for images of about 32x32: stem of stride 1, no max pool", 0, nil, shuffleNetV2(116, 1024, true)},
	{"vgg8", "VGG-8 with batch norm for images of about 32x32, one dense layer", 0, nil, vgg(8, true)},
	{"vgg11", "VGG-11 with batch norm for images of about 32x32, one dense layer", 0, nil, vgg(11, true)},
	{"vgg13", "VGG-13 with batch norm for images of about 32x32, one dense layer", 0, nil, vgg(13, true)},
	{"vgg16", "VGG-16 with batch norm for images of about 32x32, one dense layer", 0, nil, vgg(16, true)},
	{"vgg19", "VGG-19 with batch norm for images of about 32x32, one dense layer", 0, nil, vgg(19, true)},
	{"vgg11_bn", "VGG-11 with batch norm, as torchvision's", 0, nil, vgg(11, false)},
	{"vgg13_bn", "VGG-13 with batch norm, as torchvision's", 0, nil, vgg(13, false)},
	{"vgg16_bn", "VGG-16 with batch norm, as torchvision's", 0, nil, vgg(16, false)},
	{"vgg19_bn", "VGG-19 with batch norm, as torchvision's", 0, nil, vgg(19, false)},
	{"vit_small", "vision transformer, 12 blocks, 384 wide, with the side of a patch: vit_small16, vit_small4, …", 1, []string{"vit_small4", "vit_small16"}, func(size [2]int) Arch {
		return vit(size[0], 6)
	}},
	{"vit_tiny", "vision transformer, 12 blocks, 192 wide, with the side of a patch: vit_tiny16, vit_tiny4, …", 1, []string{"vit_tiny4", "vit_tiny16"}, func(size [2]int) Arch {
		return vit(size[0], 3)
	}},
	{"wrn", "wide ResNet of depth 6n+4 and a widening: wrn16_1, wrn16_2, wrn40_2, …", 2, []string{"wrn16_1", "wrn16_2", "wrn40_1", "wrn40_2"}, wrn},
}

// New is the default architecture of a name: a family's, followed by sizes where the family has them.
func New(name string) (Arch, error) {
	for _, f := range Table {
		if numbers, ok := strings.CutPrefix(name, f.Name); ok {
			if size, ok := f.sizes(numbers); ok {
				return f.New(size), nil
			}
		}
	}
	return nil, hint.Wrap(fmt.Errorf("student: there is no architecture %q", name), "known: %s", strings.Join(Names(), ", "))
}

// sizes reads the numbers after a family's name: none, or as many as the family has.
func (f Family) sizes(numbers string) (size [2]int, ok bool) {
	if numbers == "" {
		return size, true
	}
	parts := strings.Split(numbers, "_")
	if len(parts) != f.Sizes {
		return size, false
	}
	for i, digits := range parts {
		n, err := strconv.ParseUint(digits, 10, 32) // no sign
		if err != nil || n < 1 || n > 9999 {
			return size, false
		}
		size[i] = int(n)
	}
	return size, true
}

// Names lists one name of each family.
func Names() []string {
	var names []string
	for _, f := range Table {
		names = append(names, f.Name)
	}
	return names
}

// Members lists the architectures that a survey of them shows: the well-known members of each family.
func Members() []string {
	var names []string
	for _, f := range Table {
		if len(f.Members) == 0 {
			names = append(names, f.Name)
		}
		names = append(names, f.Members...)
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
