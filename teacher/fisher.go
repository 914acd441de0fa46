package teacher

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"gonum.org/v1/gonum/floats"

	"distill/data"
	"distill/metrics"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// Fisher measures the trace of a teacher's Fisher information with respect to all its weights θ: the mean over images x of
//
//	E ‖∇_θ log p(ŷ|x)‖², ŷ ~ p(·|x)
//
// It depends on how a network is parametrised: the same network has another trace with batch norm folded into its convolutions.
type Fisher struct {
	teacher *Teacher
	score   *runtime.Score
}

// Fisher readies the gradients, on a number of threads; θ are the file's floating-point weights, without running statistics.
// The error says why they cannot be had: an operator that has no gradient here, a fixed batch, or probabilities for logits.
func (t *Teacher) Fisher(threads int) (*Fisher, error) {
	score, err := t.lift(threads)
	if err != nil {
		return nil, fmt.Errorf("teacher: differentiate %s: %w", t.Path(), err)
	}
	return &Fisher{t, score}, nil
}

func (t *Teacher) lift(threads int) (*runtime.Score, error) {
	if t.log {
		return nil, errors.New("its output is probabilities, not the logits of a layer")
	}
	if t.picked != nil {
		return nil, errors.New("a class map leaves out or moves logits of the file, whose own are differentiated")
	}
	file, err := onnx.Read(t.Path())
	if err != nil {
		return nil, err
	}
	if file, err = file.Only(t.source); err != nil {
		return nil, err
	}
	network, err := file.Lift(onnx.Lifting{})
	if err != nil {
		return nil, err
	}
	c, h, w := t.InputShape()
	return runtime.NewScore(network, graph.Shape{1, c, h, w}, runtime.Options{Threads: threads})
}

// Weights is the number of elements of θ.
func (f *Fisher) Weights() int { return f.score.Weights() }

// Trace estimates it on images from their logits [N,K], which [Teacher.Forward] gave, by so many gradients, 2 or more, drawn by
// a seed; each is a forward and a backward pass of one image. The standard error is that of both, of the images as a sample of
// others and of the draws; mostly it is the images'.
//
// Most networks are sure of most images, where ŷ drawn from p has a gradient near 0, and the few others make up the trace. So
// image and ŷ are drawn in proportion to p(ŷ|x)·‖e_ŷ − p(·|x)‖², the squared gradient with respect to the logits, and weighted
// by its inverse. The expectation stays what it is:
//
//	trace = mean_x(1 − ‖p‖²) · E ‖∇_θ log p(ŷ|x)‖² / ‖e_ŷ − p‖²
//
// It stops with the context's error when that is done.
func (f *Fisher) Trace(ctx context.Context, images data.Source, logits []float32, draws int, seed uint64) (trace, stderr float64, err error) {
	trace, stderr, err = f.trace(ctx, images, logits, draws, rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		return 0, 0, fmt.Errorf("teacher: differentiate %s: %w", f.teacher.Path(), err)
	}
	return trace, stderr, nil
}

func (f *Fisher) trace(ctx context.Context, images data.Source, logits []float32, draws int, rng *rand.Rand) (trace, stderr float64, err error) {
	t, n, k := f.teacher, images.Len(), f.teacher.classes
	c, h, w := images.Shape()
	if err := t.checkImages(c, h, w); err != nil {
		return 0, 0, err
	}
	if n < 1 || len(logits) != n*k || draws < 2 {
		return 0, 0, fmt.Errorf("%d draws, of %d logits for %d images of %d classes", draws, len(logits), n, k)
	}
	share := metrics.ClassifierFisher(logits, k, nil, 0) // 1 − ‖p‖² of each image
	sums := floats.CumSum(make([]float64, n), share)
	mean := sums[n-1] / float64(n)
	if mean == 0 { // sure of every image
		return 0, 0, nil
	}
	pixels, x := make([]float32, c*h*w), graph.NewTensor(graph.Float32, 1, t.model.channels, t.model.height, t.model.width)
	squares := make([]float64, k)     // ‖e_ŷ − p‖²
	values := make([]float64, draws)  // their mean is the trace
	seconds := make([]float64, draws) // their mean is, over images, that of the square of each one's part
	for i := range values {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		image := min(sort.SearchFloat64s(sums, sums[n-1]*(1-rng.Float64())), n-1)
		label := drawClass(squares, logits[image*k:][:k], 1-rng.Float64())
		if _, err := images.Read(image, pixels); err != nil {
			return 0, 0, err
		}
		t.preprocess.Apply(x.F, pixels, [4]int{1, c, h, w})
		square, err := f.score.Square(x, label)
		if err != nil {
			return 0, 0, err
		}
		gain := square / squares[label]
		values[i], seconds[i] = mean*gain, mean*share[image]*gain*gain
	}
	trace, std := metrics.MeanStd(values)
	second, _ := metrics.MeanStd(seconds)
	return trace, math.Sqrt(max(0, second-trace*trace)/float64(n) + std*std/float64(draws)), nil
}

// drawClass gives the squares ‖e_ŷ − p‖², p = softmax(logits), for each class ŷ, and the one whose share of Σ p_ŷ·‖e_ŷ − p‖²,
// in the order of the classes, u of (0,1] falls into.
func drawClass(squares []float64, logits []float32, u float64) int {
	p := metrics.Softmax(make([]float64, len(logits)), logits)
	norm := floats.Dot(p, p)
	for k, q := range p {
		squares[k] = (1-q)*(1-q) + max(0, norm-q*q)
	}
	share := make([]float64, len(p))
	floats.CumSum(share, floats.MulTo(share, p, squares))
	u *= share[len(share)-1]
	return min(sort.SearchFloat64s(share, u), len(share)-1)
}

// Close frees the session.
func (f *Fisher) Close() error { return f.score.Close() }
