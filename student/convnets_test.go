package student_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/student"
)

// changed is the default architecture of a name but for a change.
func changed[A student.Arch](name string, change func(a A)) A {
	a := member(name).(A)
	change(a)
	return a
}

func TestNameGivesConvolutionalNetwork(t *testing.T) {
	for name, want := range map[string]student.Arch{
		"resnet18":          &student.ImageNetResNet{Blocks: []int{2, 2, 2, 2}, Width: 1, Depth: 1},
		"resnet34":          &student.ImageNetResNet{Blocks: []int{3, 4, 6, 3}, Width: 1, Depth: 1},
		"resnet50":          &student.ImageNetResNet{Blocks: []int{3, 4, 6, 3}, Bottleneck: true, Width: 1, Depth: 1},
		"resnet50_cifar":    &student.ImageNetResNet{Blocks: []int{3, 4, 6, 3}, Bottleneck: true, Width: 1, Depth: 1, Small: true},
		"resnet44":          &student.ResNet{Depth: 44, Width: 16, Shortcut: "A"},
		"wrn":               &student.WRN{Depth: 16, Widen: 2, Width: 16},
		"wrn40_1":           &student.WRN{Depth: 40, Widen: 1, Width: 16},
		"wrn28_10":          &student.WRN{Depth: 28, Widen: 10, Width: 16},
		"shufflenetv2_x1_5": &student.ShuffleNetV2{Stem: 24, Stages: [][2]int{{176, 4}, {352, 8}, {704, 4}}, Last: 1024, Width: 1, Depth: 1},
		"vgg8": &student.VGG{Stages: [][2]int{{64, 1}, {128, 1}, {256, 1}, {512, 1}, {512, 1}}, BatchNorm: true,
			Width: 1, Depth: 1, Small: true, Hidden: 4096, Dropout: 0.5},
		"vgg16_bn": &student.VGG{Stages: [][2]int{{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}, BatchNorm: true,
			Width: 1, Depth: 1, Hidden: 4096, Dropout: 0.5},
	} {
		got, err := student.New(name)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v", name, got, err, want)
		}
	}
}

func TestEveryMemberListedCanBeBuilt(t *testing.T) {
	for _, name := range student.Members() {
		a, err := student.New(name)
		if err != nil {
			t.Error(err)
		} else if err := a.Validate(); err != nil && name != "onnx" { // which needs a file
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConvolutionalSettingsThatCannotBeBuiltAreNamed(t *testing.T) {
	for _, c := range []struct {
		arch student.Arch
		want string
	}{
		{changed("resnet18", func(r *student.ImageNetResNet) { r.Blocks = nil }), "blocks must be those of 1 to 8 layers, not of 0"},
		{changed("resnet18", func(r *student.ImageNetResNet) { r.Blocks[1] = 0 }), "blocks.1 must be in 1..256, not 0"},
		{changed("resnet18", func(r *student.ImageNetResNet) { r.Width = 17 }), "width must be above 0 and at most 16, not 17"},
		{changed("resnet18", func(r *student.ImageNetResNet) { r.Depth = 0 }), "depth must be above 0"},
		{member("wrn8_2"), "depth must be 6n+4 (10, 16, 22, 28, 40, …), not 8"},
		{member("wrn17_2"), "depth must be 6n+4"},
		{member("wrn1210_1"), "depth must be 6n+4"},
		{member("wrn16_65"), "widen must be in 1..64, not 65"},
		{changed("wrn", func(w *student.WRN) { w.Width = 0 }), "width must be in 1..4096, not 0"},
		{changed("wrn", func(w *student.WRN) { w.Dropout = -0.1 }), "dropout must be at least 0 and below 1, not -0.1"},
		{changed("vgg8", func(v *student.VGG) { v.Stages = nil }), "stages must be 1 to 16, not 0"},
		{changed("vgg8", func(v *student.VGG) { v.Stages[4][1] = 0 }), "stages.4 must be [c, n]"},
		{changed("vgg8", func(v *student.VGG) { v.Hidden = 0 }), "hidden must be in 1..65536, not 0"},
		{changed("vgg8", func(v *student.VGG) { v.Dropout = 1 }), "dropout must be at least 0 and below 1, not 1"},
		{changed("vgg8", func(v *student.VGG) { v.Width = math.NaN() }), "width must be above 0"},
		{changed("vgg8", func(v *student.VGG) { v.Depth = math.Inf(1) }), "depth must be above 0"},
		{changed("shufflenetv2", func(s *student.ShuffleNetV2) { s.Stem = 0 }), "stem must be in 1..4096, not 0"},
		{changed("shufflenetv2", func(s *student.ShuffleNetV2) { s.Last = 0 }), "last must be in 1..65536, not 0"},
		{changed("shufflenetv2", func(s *student.ShuffleNetV2) { s.Stages = nil }), "stages must be 1 to 8, not 0"},
		{changed("shufflenetv2", func(s *student.ShuffleNetV2) { s.Stages[0][0] = 117 }), "stages.0 must be [c, n] with c even"},
		{changed("shufflenetv2", func(s *student.ShuffleNetV2) { s.Depth = -1 }), "depth must be above 0"},
		{mobile(func(m *student.MobileNetV2) { m.Depth = 0 }), "depth must be above 0"},
	} {
		if err := c.arch.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.arch, err, c.want)
		}
	}
}

func TestConvolutionalParameterCountsAreThoseInUse(t *testing.T) {
	for _, c := range []struct {
		arch          student.Arch
		side, classes int
		want          int
	}{
		// torchvision's
		{member("resnet18"), 224, 1000, 11_689_512},
		{member("resnet34"), 224, 1000, 21_797_672},
		{member("resnet50"), 224, 1000, 25_557_032},
		{member("vgg11_bn"), 224, 1000, 132_868_840},
		{member("vgg13_bn"), 224, 1000, 133_053_736},
		{member("vgg16_bn"), 224, 1000, 138_365_992},
		{member("vgg19_bn"), 224, 1000, 143_678_248},
		{changed("vgg11_bn", func(v *student.VGG) { v.BatchNorm = false }), 224, 1000, 132_863_336},
		{member("shufflenetv2_x0_5"), 224, 1000, 1_366_792},
		{member("shufflenetv2"), 224, 1000, 2_278_604},
		{member("shufflenetv2_x1_5"), 224, 1000, 3_503_624},
		{member("shufflenetv2_x2_0"), 224, 1000, 7_393_996},
		// github.com/kuangliu/pytorch-cifar's
		{member("resnet18_cifar"), 32, 10, 11_173_962},
		{member("resnet34_cifar"), 32, 10, 21_282_122},
		{member("resnet50_cifar"), 32, 10, 23_520_842},
		// github.com/HobbitLong/RepDistiller's, on CIFAR-100
		{member("wrn16_2"), 32, 100, 703_284},
		{member("wrn40_1"), 32, 100, 569_780},
		{member("wrn40_2"), 32, 100, 2_255_156},
		{member("vgg8"), 32, 100, 3_965_028},
		{member("vgg13"), 32, 100, 9_462_180},
		{changed("resnet", func(r *student.ResNet) { r.Depth = 50 }), 32, 10, 755_802}, // He et al. 2016
	} {
		p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("logits", c.arch.Build(g, g.Input("x", graph.Float32, 1, 3, c.side, c.side), c.classes).Logits)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := parameters(p); got != c.want {
			t.Errorf("%+v has %d parameters, want %d", c.arch, got, c.want)
		}
	}
}

func TestConvolutionalTapsHaveTheShapesPromised(t *testing.T) {
	for _, c := range []struct {
		arch student.Arch
		want map[string]graph.Shape
	}{
		{member("resnet18"), map[string]graph.Shape{"stem": {2, 64, 16, 16}, "layer1": {2, 64, 8, 8}, "layer2": {2, 128, 4, 4},
			"layer3": {2, 256, 2, 2}, "layer4": {2, 512, 1, 1}, "pool": {2, 512}}},
		{member("resnet50_cifar"), map[string]graph.Shape{"stem": {2, 64, 32, 32}, "layer1": {2, 256, 32, 32}, "layer2": {2, 512, 16, 16},
			"layer3": {2, 1024, 8, 8}, "layer4": {2, 2048, 4, 4}, "pool": {2, 2048}}},
		{changed("resnet34", func(r *student.ImageNetResNet) { r.Width, r.Blocks = 0.3, []int{1, 1} }), map[string]graph.Shape{
			"stem": {2, 24, 16, 16}, "layer1": {2, 24, 8, 8}, "layer2": {2, 40, 4, 4}, "pool": {2, 40}}},
		{member("wrn16_4"), map[string]graph.Shape{"stem": {2, 16, 32, 32}, "stage1": {2, 64, 32, 32}, "stage2": {2, 128, 16, 16},
			"stage3": {2, 256, 8, 8}, "last": {2, 256, 8, 8}, "pool": {2, 256}}},
		{member("vgg8"), map[string]graph.Shape{"stage1": {2, 64, 32, 32}, "stage2": {2, 128, 16, 16}, "stage3": {2, 256, 8, 8},
			"stage4": {2, 512, 4, 4}, "stage5": {2, 512, 4, 4}, "pool": {2, 512}}},
		{changed("vgg11_bn", func(v *student.VGG) { v.Width = 0.5 }), map[string]graph.Shape{"stage1": {2, 32, 32, 32},
			"stage2": {2, 64, 16, 16}, "stage3": {2, 128, 8, 8}, "stage4": {2, 256, 4, 4}, "stage5": {2, 256, 2, 2},
			"hidden1": {2, 4096}, "hidden2": {2, 4096}}},
		{member("shufflenetv2_x0_5"), map[string]graph.Shape{"stem": {2, 24, 16, 16}, "stage2": {2, 48, 4, 4}, "stage3": {2, 96, 2, 2},
			"stage4": {2, 192, 1, 1}, "last": {2, 1024, 1, 1}, "pool": {2, 1024}}},
		{changed("shufflenetv2_cifar", func(s *student.ShuffleNetV2) { s.Width = 0.01 }), map[string]graph.Shape{"stem": {2, 24, 32, 32},
			"stage2": {2, 2, 16, 16}, "stage3": {2, 2, 8, 8}, "stage4": {2, 4, 4, 4}, "last": {2, 1024, 4, 4}, "pool": {2, 1024}}},
	} {
		got := map[string]graph.Shape{}
		_, err := graph.Build(graph.Inference, func(g *graph.Graph) {
			m := c.arch.Build(g, g.Input("x", graph.Float32, 2, 3, 32, 32), classes)
			for _, tap := range m.Taps {
				got[tap.Name] = graph.ShapeOf(tap.Node)
			}
			g.Output("logits", m.Logits)
		})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: taps %v, %v; want %v", c.arch, got, err, c.want)
		}
	}
}

func TestDepthMultipliesBlocksAndRoundsThemUp(t *testing.T) {
	for _, c := range []struct {
		multiplied, written student.Arch
	}{
		{changed("resnet18", func(r *student.ImageNetResNet) { r.Depth = 1.1 }), changed("resnet18", func(r *student.ImageNetResNet) { r.Blocks = []int{3, 3, 3, 3} })},
		{changed("resnet34", func(r *student.ImageNetResNet) { r.Depth = 0.5 }), changed("resnet34", func(r *student.ImageNetResNet) { r.Blocks = []int{2, 2, 3, 2} })},
		{changed("vgg19", func(v *student.VGG) { v.Depth = 0.5 }), changed("vgg19", func(v *student.VGG) {
			for i := range v.Stages {
				v.Stages[i][1] = (v.Stages[i][1] + 1) / 2
			}
		})},
		{changed("shufflenetv2", func(s *student.ShuffleNetV2) { s.Depth = 0.1 }), changed("shufflenetv2", func(s *student.ShuffleNetV2) {
			for i := range s.Stages {
				s.Stages[i][1] = 1
			}
		})},
		{mobile(func(m *student.MobileNetV2) { m.Depth = 0.5 }), mobile(func(m *student.MobileNetV2) {
			for i := range m.Settings {
				m.Settings[i][2] = (m.Settings[i][2] + 1) / 2
			}
		})},
	} {
		input := graph.Shape{2, 3, 32, 32}
		names := func(a student.Arch) (names []string) {
			for _, l := range inference(t, a, input).Stored {
				names = append(names, l.Name+l.Shape.String())
			}
			return names
		}
		if got, want := names(c.multiplied), names(c.written); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v stores %v, want %v", c.multiplied, got, want)
		}
	}
}
