package student_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/student"
)

func TestNameGivesFamilyAndSize(t *testing.T) {
	for name, want := range map[string]student.Arch{
		"cnn": &student.CNN{Widths: []int{32, 64, 128}},
		"mlp": &student.MLP{Hidden: []int{256, 128}},
		"mobilenetv2": &student.MobileNetV2{Width: 1, Depth: 1, Stem: 32, StemStride: 2, Last: 1280, Dropout: 0.2, Settings: [][4]int{
			{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}}},
		"mobilenetv2_cifar": &student.MobileNetV2{Width: 1, Depth: 1, Stem: 32, StemStride: 1, Last: 1280, Dropout: 0.2, Settings: [][4]int{
			{1, 16, 1, 1}, {6, 24, 2, 1}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}}},
		"vit_tiny":    &student.ViT{Patch: 16, Width: 192, Depth: 12, Heads: 3, MLPRatio: 4, Pool: "token"},
		"vit_tiny4":   &student.ViT{Patch: 4, Width: 192, Depth: 12, Heads: 3, MLPRatio: 4, Pool: "token"},
		"vit_small16": &student.ViT{Patch: 16, Width: 384, Depth: 12, Heads: 6, MLPRatio: 4, Pool: "token"},
		"resnet8":     &student.ResNet{Depth: 8, Width: 16, Shortcut: "A"},
		"resnet20":    &student.ResNet{Depth: 20, Width: 16, Shortcut: "A"},
		"resnet110":   &student.ResNet{Depth: 110, Width: 16, Shortcut: "A"},
	} {
		got, err := student.New(name)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v", name, got, err, want)
		} else if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownNameListsTheKnown(t *testing.T) {
	for _, name := range []string{"", "resnett", "resnet-8", "resnet0", "resnet8x", "resnet99999999999999999999", "ResNet8", "resnet+8", "mlp3", "cnn0",
		"vgg12", "vgg8_bn", "resnet18_1", "wrn16", "wrn16_", "wrn_2", "wrn16_2_1", "wrn16_0", "wrn16_+2",
		"mobilenetv2_", "mobilenetv21", "vit", "vit_tiny0", "vit_small_16"} {
		a, err := student.New(name)
		if err == nil {
			t.Errorf("%q is %+v", name, a)
			continue
		}
		for _, family := range student.Names() {
			if !strings.Contains(hint.Of(err), family) {
				t.Errorf("%q: hint %q lacks %s", name, hint.Of(err), family)
			}
		}
	}
}

// member is the default architecture of a name that there is.
func member(name string) student.Arch {
	a, err := student.New(name)
	if err != nil {
		panic(err)
	}
	return a
}

// mobile is a default MobileNetV2 but for a change.
func mobile(change func(m *student.MobileNetV2)) *student.MobileNetV2 {
	a, _ := student.New("mobilenetv2")
	change(a.(*student.MobileNetV2))
	return a.(*student.MobileNetV2)
}

// transformer is a default ViT but for a change.
func transformer(change func(v *student.ViT)) *student.ViT {
	a, _ := student.New("vit_tiny")
	change(a.(*student.ViT))
	return a.(*student.ViT)
}

func TestSettingsThatCannotBeBuiltAreNamed(t *testing.T) {
	for _, c := range []struct {
		arch student.Arch
		want string
	}{
		{&student.ResNet{Depth: 9, Width: 16, Shortcut: "A"}, "depth must be 6n+2"},
		{&student.ResNet{Depth: 2, Width: 16, Shortcut: "A"}, "depth must be 6n+2"},
		{&student.ResNet{Width: 16, Shortcut: "A"}, "depth must be 6n+2"}, // "resnet" alone
		{&student.ResNet{Depth: 1208, Width: 16, Shortcut: "A"}, "depth must be 6n+2"},
		{&student.ResNet{Depth: 8, Width: 3, Shortcut: "A"}, "width must be even"},
		{&student.ResNet{Depth: 8, Width: 0, Shortcut: "A"}, "width must be even"},
		{&student.ResNet{Depth: 8, Width: 8192, Shortcut: "A"}, "width must be even"},
		{&student.ResNet{Depth: 8, Width: 16, Shortcut: "C"}, "shortcut must be A or B"},
		{&student.CNN{}, "widths needs at least one"},
		{&student.CNN{Widths: []int{8, 0}}, "widths must be in 1..65536, not 0"},
		{&student.MLP{}, "hidden needs at least one"},
		{&student.MLP{Hidden: []int{-1}}, "hidden must be in 1..65536, not -1"},
		{mobile(func(m *student.MobileNetV2) { m.Width = 0 }), "width must be above 0"},
		{mobile(func(m *student.MobileNetV2) { m.Width = math.NaN() }), "width must be above 0"},
		{mobile(func(m *student.MobileNetV2) { m.Stem = 0 }), "stem must be in 1..4096"},
		{mobile(func(m *student.MobileNetV2) { m.StemStride = 3 }), "stem_stride must be 1 or 2, not 3"},
		{mobile(func(m *student.MobileNetV2) { m.Settings = nil }), "settings must be 1 to 64 stages, not 0"},
		{mobile(func(m *student.MobileNetV2) { m.Settings[1] = [4]int{6, 24, 0, 1} }), "settings.1 must be [t, c, n, s]"},
		{mobile(func(m *student.MobileNetV2) { m.Settings[0][3] = 0 }), "settings.0 must be [t, c, n, s]"},
		{mobile(func(m *student.MobileNetV2) { m.Last = -1 }), "last must be in 0..65536"},
		{mobile(func(m *student.MobileNetV2) { m.Dropout = 1 }), "dropout must be at least 0 and below 1"},
		{transformer(func(v *student.ViT) { v.Patch = 0 }), "patch must be in 1..256, not 0"},
		{transformer(func(v *student.ViT) { v.Width = -3 }), "width must be in"},
		{transformer(func(v *student.ViT) { v.Depth = 0 }), "depth must be in"},
		{transformer(func(v *student.ViT) { v.Heads = 0 }), "heads must be in"},
		{transformer(func(v *student.ViT) { v.Heads = 5 }), "heads must divide the width of 192"},
		{transformer(func(v *student.ViT) { v.MLPRatio = 17 }), "mlp_ratio must be in"},
		{transformer(func(v *student.ViT) { v.Pool = "max" }), "pool must be token or mean"},
	} {
		if err := c.arch.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.arch, err, c.want)
		}
	}
}

func TestParameterCountsAreThoseOfThePapers(t *testing.T) {
	for _, c := range []struct {
		arch student.Arch
		want int
	}{
		{&student.ResNet{Depth: 8, Width: 16, Shortcut: "A"}, 75_290},
		{&student.ResNet{Depth: 8, Width: 16, Shortcut: "B"}, 78_042},
		{&student.ResNet{Depth: 20, Width: 16, Shortcut: "A"}, 269_722},
		{&student.ResNet{Depth: 56, Width: 16, Shortcut: "A"}, 853_018},
		{&student.CNN{Widths: []int{32, 64, 128}}, 27*32 + 9*32*64 + 9*64*128 + 2*(32+64+128) + 128*10 + 10},
		{&student.MLP{Hidden: []int{256, 128}}, 3072*256 + 256 + 256*128 + 128 + 128*10 + 10},
	} {
		got := parameters(inference(t, c.arch, graph.Shape{2, 3, 32, 32}))
		if got != c.want {
			t.Errorf("%+v has %d parameters, want %d", c.arch, got, c.want)
		}
	}
}

// parameters counts what is trained.
func parameters(p *graph.Program) (n int) {
	for _, l := range p.Stored {
		if l.Kind == graph.Param {
			n += l.Shape.Size()
		}
	}
	return n
}

func TestTrainingAndInferenceShareNamesAndShapes(t *testing.T) {
	stored := func(p *graph.Program) map[string]string {
		m := map[string]string{}
		for _, l := range p.Stored {
			m[l.Name] = l.Kind.String() + l.Shape.String()
		}
		return m
	}
	for name, a := range networks {
		input := graph.Shape{2, 3, 16, 16}
		if a, b := stored(training(t, a, input)), stored(inference(t, a, input)); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: trained %v, inferred %v", name, a, b)
		}
	}
}

func TestTapsHaveTheShapesPromised(t *testing.T) {
	for _, c := range []struct {
		arch student.Arch
		want map[string]graph.Shape
	}{
		{&student.ResNet{Depth: 14, Width: 4, Shortcut: "A"}, map[string]graph.Shape{
			"stem": {2, 4, 32, 32}, "layer1": {2, 4, 32, 32}, "layer2": {2, 8, 16, 16}, "layer3": {2, 16, 8, 8}, "pool": {2, 16}}},
		{&student.CNN{Widths: []int{4, 6}}, map[string]graph.Shape{"stage1": {2, 4, 16, 16}, "stage2": {2, 6, 8, 8}, "pool": {2, 6}}},
		{&student.MobileNetV2{Width: 1, Depth: 1, Stem: 8, StemStride: 1, Settings: [][4]int{{1, 9, 1, 1}, {2, 16, 2, 2}}, Last: 24}, map[string]graph.Shape{
			"stem": {2, 8, 32, 32}, "stage1": {2, 16, 32, 32}, "stage2": {2, 16, 16, 16}, "last": {2, 24, 16, 16}, "pool": {2, 24}}},
		{&student.MobileNetV2{Width: 2, Depth: 1, Stem: 8, StemStride: 2, Settings: [][4]int{{1, 8, 1, 1}}}, map[string]graph.Shape{
			"stem": {2, 16, 16, 16}, "stage1": {2, 16, 16, 16}, "pool": {2, 16}}},
		{&student.ViT{Patch: 8, Width: 6, Depth: 2, Heads: 3, MLPRatio: 1, Pool: "token"}, map[string]graph.Shape{
			"block1": {2, 17, 6}, "block2": {2, 17, 6}, "pool": {2, 6}}},
		{&student.ViT{Patch: 8, Width: 6, Depth: 1, Heads: 3, MLPRatio: 1, Pool: "mean"}, map[string]graph.Shape{"block1": {2, 16, 6}, "pool": {2, 6}}},
		{&student.MLP{Hidden: []int{5, 7}}, map[string]graph.Shape{"hidden1": {2, 5}, "hidden2": {2, 7}}},
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

func TestEveryFamilyTakesSmallAndOddImages(t *testing.T) {
	for _, f := range student.Table {
		a := member(append(f.Members, f.Name)[0])
		switch a.(type) {
		case *student.ONNX: // it takes what its file takes
			continue
		case *student.ViT: // its patch must divide the image
			continue
		case *student.ConvNeXt: // its stages must leave a pixel of it
			continue
		}
		for _, side := range []int{1, 5, 28} {
			inference(t, a, graph.Shape{2, 1, side, side})
			training(t, a, graph.Shape{2, 1, side, side})
		}
	}
}

func TestViTTakesAnyImageThatItsPatchDivides(t *testing.T) {
	small := transformer(func(v *student.ViT) { v.Patch, v.Width, v.Depth = 7, 6, 1 })
	for _, image := range []graph.Shape{{1, 7, 7}, {3, 28, 28}, {4, 14, 35}} {
		training(t, small, append(graph.Shape{2}, image...))
	}
	_, err := graph.Build(graph.Training, func(g *graph.Graph) {
		small.Build(g, g.Input("x", graph.Float32, 2, 3, 28, 32), classes)
	})
	if err == nil || !strings.Contains(err.Error(), "patches of 7x7 pixels do not cover the image") {
		t.Errorf("an image of 28x32: %v", err)
	}
}

func TestParameterCountsAreTorchvisions(t *testing.T) {
	for _, c := range []struct {
		arch student.Arch
		want int
	}{
		{mobile(func(*student.MobileNetV2) {}), 3_504_872},
		{mobile(func(m *student.MobileNetV2) { m.Width = 1.4 }), 6_108_776},
		{mobile(func(m *student.MobileNetV2) { m.Width = 0.35 }), 1_677_128},
		{&student.ViT{Patch: 16, Width: 768, Depth: 12, Heads: 12, MLPRatio: 4, Pool: "token"}, 86_567_656},
	} {
		p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
			g.Output("logits", c.arch.Build(g, g.Input("x", graph.Float32, 1, 3, 224, 224), 1000).Logits)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := parameters(p); got != c.want {
			t.Errorf("%+v has %d parameters, want %d", c.arch, got, c.want)
		}
	}
}

func TestDropoutIsThereInTrainingAlone(t *testing.T) {
	input := graph.Shape{2, 3, 16, 16}
	masks := func(p *graph.Program) (names []string) {
		for _, l := range p.Inputs {
			if l.Keep > 0 {
				names = append(names, fmt.Sprint(l.Name, l.Shape, l.Keep))
			}
		}
		return names
	}
	with, without := mobile(func(*student.MobileNetV2) {}), mobile(func(m *student.MobileNetV2) { m.Dropout = 0 })
	if got := masks(training(t, with, input)); !reflect.DeepEqual(got, []string{"classifier.0[2,1280] 0.8"}) {
		t.Errorf("trained, it has masks %v", got)
	}
	if got := append(masks(inference(t, with, input)), masks(training(t, without, input))...); len(got) != 0 {
		t.Errorf("at inference, or with a dropout of 0, there are masks %v", got)
	}
}

func TestExportDependsOnNoBatchSize(t *testing.T) {
	for name, a := range networks {
		export := func(batch int) []byte {
			p, store := inference(t, a, graph.Shape{batch, 3, 16, 16}), &graph.Store{}
			if err := p.Fill(store, 1); err != nil {
				t.Fatal(err)
			}
			m, err := onnx.Lower(p, onnx.Lowering{Store: store, Batch: "batch"})
			if err != nil {
				t.Fatal(err)
			}
			b, err := m.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if !bytes.Equal(export(2), export(3)) {
			t.Errorf("%s: batches of 2 and of 3 give different models", name)
		}
	}
}
