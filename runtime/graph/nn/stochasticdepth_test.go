package nn_test

import (
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
)

func TestStochasticDepthDropsWholeImagesInTrainingAlone(t *testing.T) {
	input := graph.Shape{2, 3, 4, 4}
	for _, c := range []struct {
		mode  graph.Mode
		share float64
		masks int
	}{{graph.Training, 0.25, 1}, {graph.Training, 0, 0}, {graph.Inference, 0.25, 0}} {
		p := build(t, c.mode, input, nn.StochasticDepth{Name: "drop", Share: c.share}.Apply)
		if got := len(p.Inputs) - 1; got != c.masks {
			t.Errorf("%+v: %d masks", c, got)
		}
		if c.masks == 1 && (p.Inputs[1].Keep != 0.75 || !p.Inputs[1].Shape.Equal(graph.Shape{2, 1, 1, 1})) {
			t.Errorf("the mask is %+v", p.Inputs[1])
		}
		if s := graph.ShapeOf(p.Outputs[0].Node); !s.Equal(input) {
			t.Errorf("%+v: it gives %v", c, s)
		}
	}
}

func TestConvNormWithoutActivationEndsInBatchNorm(t *testing.T) {
	l := nn.ConvNorm{Name: "l", In: 2, Out: 4, Kernel: 1}
	p := build(t, graph.Inference, graph.Shape{1, 2, 3, 3}, l.Apply)
	steps, err := p.Steps()
	if err != nil {
		t.Fatal(err)
	}
	if last := steps[len(steps)-1].Op.Name(); last != "BatchNormalization" {
		t.Errorf("it ends in %s", last)
	}
}
