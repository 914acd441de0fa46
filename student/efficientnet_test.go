package student_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"distill/internal/strictyaml"
	"distill/runtime/graph"
	"distill/student"
)

func TestEfficientNetSettingsThatCannotBeBuiltAreNamed(t *testing.T) {
	for _, c := range []struct {
		change func(e *student.EfficientNet)
		want   string
	}{
		{func(e *student.EfficientNet) { e.Width = 0 }, "width must be above 0"},
		{func(e *student.EfficientNet) { e.Depth = 17 }, "depth must be above 0 and at most 16"},
		{func(e *student.EfficientNet) { e.Stem = 0 }, "stem must be in 1..4096, not 0"},
		{func(e *student.EfficientNet) { e.Last = -1 }, "last must be in 0..65536, not -1"},
		{func(e *student.EfficientNet) { e.Settings = nil }, "settings must be 1 to 64 stages, not 0"},
		{func(e *student.EfficientNet) { e.Settings[2][4] = 4 }, "settings.2 must be [t, c, n, s, k]"},
		{func(e *student.EfficientNet) { e.Settings[0][3] = 3 }, "settings.0 must be [t, c, n, s, k]"},
		{func(e *student.EfficientNet) { e.Dropout = 1 }, "dropout must be at least 0 and below 1, not 1"},
		{func(e *student.EfficientNet) { e.StochasticDepth = -0.1 }, "stochastic_depth must be at least 0 and below 1, not -0.1"},
	} {
		a := changed("efficientnet_b0", c.change)
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", a, err, c.want)
		}
	}
}

func TestEfficientNetParameterCountsAreTorchvisions(t *testing.T) {
	for name, want := range map[string]int{
		"efficientnet_b0": 5_288_548, "efficientnet_b1": 7_794_184, "efficientnet_b2": 9_109_994, "efficientnet_b3": 12_233_232,
		"efficientnet_b4": 19_341_616,
	} {
		if got := parametersAt(t, member(name), 224, 1000); got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
	}
}

// parametersAt counts what is trained of a network for square images.
func parametersAt(t *testing.T, a student.Arch, side, classes int) int {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("logits", a.Build(g, g.Input("x", graph.Float32, 1, 3, side, side), classes).Logits)
	})
	if err != nil {
		t.Fatal(err)
	}
	return parameters(p)
}

// tapsAt are the shapes of a network's taps on two images.
func tapsAt(t *testing.T, a student.Arch, side int) map[string]graph.Shape {
	t.Helper()
	taps := map[string]graph.Shape{}
	_, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		m := a.Build(g, g.Input("x", graph.Float32, 2, 3, side, side), classes)
		for _, tap := range m.Taps {
			taps[tap.Name] = graph.ShapeOf(tap.Node)
		}
		g.Output("logits", m.Logits)
	})
	if err != nil {
		t.Fatal(err)
	}
	return taps
}

func TestEfficientNetTapsHaveTheShapesPromised(t *testing.T) {
	for name, want := range map[string]map[string]graph.Shape{
		"efficientnet_b0": {"stem": {2, 32, 16, 16}, "stage1": {2, 16, 16, 16}, "stage2": {2, 24, 8, 8}, "stage3": {2, 40, 4, 4},
			"stage4": {2, 80, 2, 2}, "stage5": {2, 112, 2, 2}, "stage6": {2, 192, 1, 1}, "stage7": {2, 320, 1, 1}, "last": {2, 1280, 1, 1}, "pool": {2, 1280}},
		"efficientnet_cifar": {"stem": {2, 32, 32, 32}, "stage1": {2, 16, 32, 32}, "stage2": {2, 24, 32, 32}, "stage3": {2, 40, 16, 16},
			"stage4": {2, 80, 8, 8}, "stage5": {2, 112, 8, 8}, "stage6": {2, 192, 4, 4}, "stage7": {2, 320, 4, 4}, "last": {2, 1280, 4, 4}, "pool": {2, 1280}},
	} {
		if got := tapsAt(t, member(name), 32); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: taps %v, want %v", name, got, want)
		}
	}
}

// A narrower network in use for CIFAR-10, with a last convolution of its own.
func TestEfficientNetOfOwnStagesIsWrittenInARecipe(t *testing.T) {
	e := member("efficientnet_cifar").(*student.EfficientNet)
	text := "{stem: 16, settings: [[1, 16, 1, 1, 3], [4, 24, 2, 2, 3], [4, 40, 2, 2, 5], [4, 80, 2, 1, 3], [4, 112, 3, 2, 5]], last: 320}"
	if err := strictyaml.Decode([]byte(text), "", e, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	// The weights in the file of such a network, which torchvision's class made.
	if got, want := parametersAt(t, e, 32, 10), 538_914; got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
}

func TestStochasticDepthGrowsWithDepthInTrainingAlone(t *testing.T) {
	masks := func(p *graph.Program) (masks []string) {
		for _, l := range p.Inputs {
			if l.Keep > 0 {
				masks = append(masks, fmt.Sprintf("%s%v %.4g", l.Name, l.Shape, l.Keep))
			}
		}
		return masks
	}
	input := graph.Shape{2, 3, 32, 32}
	small := changed("efficientnet_b0", func(e *student.EfficientNet) {
		e.Settings, e.StochasticDepth = [][5]int{{1, 32, 2, 1, 3}, {2, 32, 2, 2, 3}}, 0.4
	})
	want := []string{"features.1.1.stochastic_depth[2,1,1,1] 0.9", "features.2.1.stochastic_depth[2,1,1,1] 0.7", "classifier.0[2,128] 0.8"}
	if got := masks(training(t, small, input)); !reflect.DeepEqual(got, want) {
		t.Errorf("efficientnet has masks %v, want %v", got, want)
	}
	next := changed("convnext_tiny", func(c *student.ConvNeXt) { c.Stages, c.StochasticDepth = [][2]int{{8, 1}, {16, 2}}, 0.4 })
	want = []string{"features.3.0.stochastic_depth[2,1,1,1] 0.8", "features.3.1.stochastic_depth[2,1,1,1] 0.6"}
	if got := masks(training(t, next, input)); !reflect.DeepEqual(got, want) {
		t.Errorf("convnext has masks %v, want %v", got, want)
	}
	if got := append(masks(inference(t, small, input)), masks(inference(t, next, input))...); len(got) != 0 {
		t.Errorf("at inference there are masks %v", got)
	}
}
