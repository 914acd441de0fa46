package runtime

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// Score is a lifted classifier with the score of its weights θ, the gradient ∇_θ log p(y|x), for one image at a time: the mean of its
// square, with y drawn from p(·|x), is the trace of the Fisher information.
type Score struct {
	step    Step
	label   graph.Shape
	weights int
}

// NewScore builds the gradient for images [1,C,H,W] in inference mode: batch norm and dropout are as in the file. θ are the weights
// that the network's lifting trains; its first output must be logits.
func NewScore(n *onnx.Network, image graph.Shape, opts Options) (*Score, error) {
	s := new(Score)
	in, out := n.Signature()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input("image", graph.Float32, image...)
		logits := n.Build(g, map[string]*G.Node{in.Name: x})[out.Name]
		s.label = graph.ShapeOf(logits)
		label := g.Input("label", graph.Float32, s.label...) // one-hot
		var square *G.Node
		for _, d := range g.Grad(op.ReduceSum(op.Mul(label, op.LogSoftmax(logits, 1)), nil, false)) {
			s.weights += graph.ShapeOf(d.Param).Size()
			of := op.ReduceSum(op.Mul(d.Grad, d.Grad), nil, false)
			if square == nil {
				square = of
			} else {
				square = op.Add(square, of)
			}
		}
		g.Output("square", square)
	})
	if err != nil {
		return nil, fmt.Errorf("runtime: differentiate: %w", err)
	}
	store := new(graph.Store)
	if err := p.Fill(store, 0); err != nil {
		return nil, fmt.Errorf("runtime: differentiate: %w", err)
	}
	if s.step, err = Compile(p, store, ONNXRuntime, opts, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// Weights is the number of elements of θ.
func (s *Score) Weights() int { return s.weights }

// Square is ‖∇_θ log p(label|x)‖² for an image [1,C,H,W], preprocessed.
func (s *Score) Square(x graph.Tensor, label int) (float64, error) {
	y := graph.NewTensor(graph.Float32, s.label...)
	if label < 0 || label >= len(y.F) {
		return 0, fmt.Errorf("runtime: differentiate: label %d is not one of %d", label, len(y.F))
	}
	y.F[label] = 1
	out, err := s.step.Run(map[string]graph.Tensor{"image": x, "label": y})
	if err != nil {
		return 0, err
	}
	return float64(out["square"].F[0]), nil
}

// Close frees the session.
func (s *Score) Close() error { return s.step.Close() }
