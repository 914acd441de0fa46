package student_test

import (
	"reflect"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/student"
)

func TestNameGivesFamilyAndSize(t *testing.T) {
	for name, want := range map[string]student.Arch{
		"cnn":       &student.CNN{Widths: []int{32, 64, 128}},
		"mlp":       &student.MLP{Hidden: []int{256, 128}},
		"resnet8":   &student.ResNet{Depth: 8, Width: 16, Shortcut: "A"},
		"resnet20":  &student.ResNet{Depth: 20, Width: 16, Shortcut: "A"},
		"resnet110": &student.ResNet{Depth: 110, Width: 16, Shortcut: "A"},
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
	for _, name := range []string{"", "resnett", "resnet-8", "resnet0", "resnet8x", "resnet99999999999999999999", "vgg11", "ResNet8", "mlp3", "cnn0"} {
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
		got := 0
		for _, l := range inference(t, c.arch, graph.Shape{2, 3, 32, 32}).Stored {
			if l.Kind == graph.Param {
				got += l.Shape.Size()
			}
		}
		if got != c.want {
			t.Errorf("%+v has %d parameters, want %d", c.arch, got, c.want)
		}
	}
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
		if f.Name == "onnx" {
			continue // it takes what its file takes
		}
		for _, side := range []int{1, 5, 28} {
			inference(t, f.New(8), graph.Shape{2, 1, side, side})
			training(t, f.New(8), graph.Shape{2, 1, side, side})
		}
	}
}
