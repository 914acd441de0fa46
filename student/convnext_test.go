package student_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/student"
)

func TestConvNeXtSettingsThatCannotBeBuiltAreNamed(t *testing.T) {
	for _, c := range []struct {
		change func(c *student.ConvNeXt)
		want   string
	}{
		{func(c *student.ConvNeXt) { c.Patch = 0 }, "patch must be in 1..256, not 0"},
		{func(c *student.ConvNeXt) { c.Stages = nil }, "stages must be 1 to 8, not 0"},
		{func(c *student.ConvNeXt) { c.Stages[3] = [2]int{320, 0} }, "stages.3 must be [c, n]"},
		{func(c *student.ConvNeXt) { c.LayerScale = math.NaN() }, "layer_scale must be in -1..1, not NaN"},
		{func(c *student.ConvNeXt) { c.Width = -1 }, "width must be above 0"},
		{func(c *student.ConvNeXt) { c.Depth = math.Inf(1) }, "depth must be above 0"},
		{func(c *student.ConvNeXt) { c.StochasticDepth = 1 }, "stochastic_depth must be at least 0 and below 1, not 1"},
	} {
		a := changed("convnext_atto", c.change)
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", a, err, c.want)
		}
	}
}

func TestConvNeXtParameterCountsAreThoseInUse(t *testing.T) {
	for name, want := range map[string]int{
		"convnext_tiny": 28_589_128, // torchvision's
		"convnext_atto": 3_695_520,  // timm's
	} {
		if got := parametersAt(t, member(name), 224, 1000); got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
	}
}

func TestConvNeXtTapsHaveTheShapesPromised(t *testing.T) {
	for _, c := range []struct {
		arch student.Arch
		want map[string]graph.Shape
	}{
		{member("convnext_atto_cifar"), map[string]graph.Shape{"stem": {2, 40, 32, 32}, "stage1": {2, 40, 32, 32}, "stage2": {2, 80, 16, 16},
			"stage3": {2, 160, 8, 8}, "stage4": {2, 320, 4, 4}, "pool": {2, 320}}},
		{changed("convnext_atto", func(c *student.ConvNeXt) { c.Width, c.Depth = 0.5, 0.5 }), map[string]graph.Shape{"stem": {2, 24, 8, 8},
			"stage1": {2, 24, 8, 8}, "stage2": {2, 40, 4, 4}, "stage3": {2, 80, 2, 2}, "stage4": {2, 160, 1, 1}, "pool": {2, 160}}},
	} {
		if got := tapsAt(t, c.arch, 32); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: taps %v, want %v", c.arch, got, c.want)
		}
	}
}

func TestConvNeXtTakesAnyImageThatItsStagesLeaveAPixelOf(t *testing.T) {
	small := changed("convnext_atto", func(c *student.ConvNeXt) { c.Patch, c.Stages = 3, [][2]int{{8, 1}, {8, 1}} })
	for _, image := range []graph.Shape{{1, 6, 6}, {3, 7, 28}, {4, 29, 8}} {
		training(t, small, append(graph.Shape{2}, image...))
	}
	_, err := graph.Build(graph.Training, func(g *graph.Graph) {
		small.Build(g, g.Input("x", graph.Float32, 2, 3, 5, 28), classes)
	})
	var e *graph.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "images of 6x6 at least; set student.patch") {
		t.Errorf("an image of 5x28: %v", err)
	}
}
