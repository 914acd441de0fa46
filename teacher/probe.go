package teacher

import (
	"fmt"
	"math"
	"math/rand/v2"

	"distill/internal/hint"
	"distill/runtime/graph"
)

// probes is how many images are tried: a number that no other axis of a tensor is likely to have.
const probes = 5

// probe runs a few images of noise, to learn what the graph alone does not tell: that the file runs at all, with the batch
// asked for, how many classes there are, and what the output holds.
func (t *Teacher) probe() error {
	x, shape := t.noise(probes)
	got, err := t.run(x, shape, append([]string{t.model.output, t.model.inner}, t.model.taps...))
	if err != nil {
		return t.explain(err)
	}
	t.shapes = make(map[string]graph.Shape, len(t.model.taps))
	for _, name := range t.model.taps {
		t.shapes[name] = got[name].Shape[1:]
	}
	out, inner := got[t.model.output], got[t.model.inner]
	t.classes = out.Shape[1:].Size()
	if !isRow(out.Shape) || t.classes < 2 {
		err := fmt.Errorf("output %q is %v for %d images, not a row of two or more logits each", t.model.output, out.Shape, probes)
		return hint.Wrap(err, "export the classifier with its head, up to the logits")
	}
	if t.output = kindOf(out.F, t.classes); t.output == "" {
		err := fmt.Errorf("output %q is NaN for each of %d images of noise", t.model.output, probes)
		return hint.Wrap(err, "give the model's own mean, std and scale")
	}
	t.source = t.model.output
	// A softmax in the graph counts where the numbers bear it out: it may run along another axis.
	if t.output == t.model.kind && isRow(inner.Shape) && inner.Shape[1:].Size() == t.classes {
		t.source = t.model.inner
	}
	t.log = t.output == "softmax" && t.source == t.model.output
	return nil
}

// noise is n images of pixels as a data set has them, and their shape.
func (t *Teacher) noise(n int) (x []float32, shape [4]int) {
	shape = [4]int{n, t.model.channels, t.model.height, t.model.width}
	x = make([]float32, n*shape[1]*shape[2]*shape[3])
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range x {
		x[i] = float32(rng.IntN(256))
	}
	return x, shape
}

// explain adds to an error of a run the way out that is likely where a file was traced with one image.
func (t *Teacher) explain(err error) error {
	if hint.Of(err) != "" || t.batch == 1 {
		return err
	}
	return hint.Wrap(err, "if the file was exported for one image at a time, export it with a dynamic batch, or set teacher.batch=1 in a recipe")
}

// isRow reports whether a shape is [N,K], with axes of size 1 besides.
func isRow(s graph.Shape) bool {
	wide := 0
	for _, d := range s[min(1, len(s)):] {
		if d != 1 {
			wide++
		}
	}
	return len(s) >= 2 && wide == 1
}

// kindOf says what rows of k values hold: "softmax" where each is non-negative and sums to 1, "log_softmax" where the
// exponentials of each do, else "logits". Rows with NaN tell nothing; it is "" where there are no others.
func kindOf(rows []float32, k int) string {
	const tolerance = 1e-3
	judged, probabilities, logarithms := false, true, true
	for i := 0; i < len(rows); i += k {
		lowest, sum, sumExp := math.Inf(1), 0.0, 0.0
		for _, v := range rows[i : i+k] {
			lowest = min(lowest, float64(v))
			sum += float64(v)
			sumExp += math.Exp(float64(v))
		}
		if math.IsNaN(sum) {
			continue
		}
		judged = true
		probabilities = probabilities && lowest >= 0 && math.Abs(sum-1) <= tolerance
		logarithms = logarithms && math.Abs(sumExp-1) <= tolerance
	}
	switch {
	case !judged:
		return ""
	case probabilities:
		return "softmax"
	case logarithms:
		return "log_softmax"
	}
	return "logits"
}
