package losses_test

import (
	"math"
	"strings"
	"testing"

	"distill/losses"
	"distill/losses/verify"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// headRefused are settings that the losses on what is classified must refuse.
var headRefused = map[string][]setting{
	"srrl":  {{"features", "-1"}, {"features", ".inf"}, {"logits", "-0.5"}, {"logits", ".nan"}},
	"simkd": {{"factor", "0"}, {"factor", "65"}},
	"catkd": {{"size", "0"}, {"size", "65"}},
	"srd":   {{"alpha", "0.5"}, {"alpha", "9"}, {"alpha", ".nan"}, {"temperature", "0"}},
	"wkd_f": {{"grid", "0"}, {"grid", "65"}, {"hidden", "0"}, {"mean", "-1"}, {"decay", "-1"}, {"decay", "241"}, {"decay", ".nan"}},
	"vitkd": {{"alpha", "-1"}, {"beta", ".inf"}, {"lambda", "0"}, {"lambda", "1"}, {"lambda", ".nan"}},
}

// row is a loss's.
func row(t *testing.T, name string) losses.Row {
	t.Helper()
	r, ok := losses.Lookup(name)
	if !ok {
		t.Fatalf("there is no loss %s", name)
	}
	return r
}

// reshape gives a tensor of a case other numbers and another shape.
func reshape(t *verify.Tensor, shape ...int) { *t = waves(1, 0.3, shape...) }

func TestTensorsThatAHeadCannotClassifyAreRefused(t *testing.T) {
	for _, c := range []struct {
		loss, want string
		edit       func(c *verify.Case)
	}{
		{"srrl", "loss srrl: it needs the weight of the teacher's last layer", func(c *verify.Case) { c.Classifier = nil }},
		{"simkd", "loss simkd: it needs the weight of the teacher's last layer", func(c *verify.Case) { c.Classifier = nil }},
		{"catkd", "loss catkd: it needs the weight of the teacher's last layer", func(c *verify.Case) { c.Classifier = nil }},
		{"srrl", "reads vectors of 8", func(c *verify.Case) { reshape(&c.Classifier.Weight, 5, 8) }},
		{"simkd", "reads vectors of 8", func(c *verify.Case) { reshape(&c.Classifier.Weight, 5, 8) }},
		{"catkd", "tells 4 classes apart, the student 5", func(c *verify.Case) { reshape(&c.Classifier.Weight, 4, 6) }},
		{"catkd", "this student's is another", func(c *verify.Case) { c.Head = nil }},
		{"srrl", "it compares vectors", func(c *verify.Case) { reshape(&c.Pairs[0].Teacher, 4, 7, 2, 2) }},
		{"simkd", "it compares the maps", func(c *verify.Case) { reshape(&c.Pairs[0].Teacher, 4, 6) }},
		{"catkd", "it compares the maps", func(c *verify.Case) { reshape(&c.Pairs[0].Teacher, 4, 17, 6) }},
		{"wkd_f", "it compares maps", func(c *verify.Case) { reshape(&c.Pairs[0].Teacher, 4, 5, 6) }},
		{"srd", "it compares vectors", func(c *verify.Case) { reshape(&c.Pairs[0].Student, 4, 7, 1) }},
		{"vitkd", "it compares tokens", func(c *verify.Case) { reshape(&c.Pairs[0].Teacher, 4, 8, 2, 2) }},
		{"vitkd", "7 tokens are no square", func(c *verify.Case) {
			reshape(&c.Pairs[0].Student, 4, 7, 8)
			reshape(&c.Pairs[0].Teacher, 4, 7, 8)
		}},
	} {
		golden := inputs(t, row(t, c.loss), 4, 5)
		c.edit(golden)
		if _, err := golden.Program(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.loss) {
			t.Errorf("%s: error %v, want %q", c.loss, err, c.want)
		}
	}
}

// TestClassMapsAverageToLogits asks of CATKD what class maps are: their mean, and the bias, is the logit.
func TestClassMapsAverageToLogits(t *testing.T) {
	for _, name := range []string{"normalize: true", "normalize: false"} {
		c := inputs(t, row(t, "catkd"), 4, 5)
		c.Settings = name + "\nsize: 1" // one cell: a map's mean
		p, in := built(t, c)
		out, err := verify.Tape(p, in)
		if err != nil {
			t.Fatal(err)
		}
		mean := func(x verify.Tensor, n, channel int) (m float64) {
			for _, v := range x.Data[(n*x.Shape[1]+channel)*16:][:16] {
				m += v / 16
			}
			return m
		}
		logit := func(x verify.Tensor, w verify.Tensor, n, k int) (z float64) {
			for d := range w.Shape[1] {
				z += w.Data[k*w.Shape[1]+d] * mean(x, n, d)
			}
			if name == "normalize: true" {
				return math.Copysign(1, z)
			}
			return z
		}
		want := 0.0
		for n := range 4 {
			for k := range 5 {
				d := logit(c.Pairs[0].Student, c.Head.Weight, n, k) - logit(c.Pairs[0].Teacher, c.Classifier.Weight, n, k)
				want += d * d / 20
			}
		}
		if got := out["value"].F[0]; !(math.Abs(got-want) <= 1e-12) {
			t.Errorf("%s: the loss is %v, by logits without bias %v", name, got, want)
		}
	}
}

func TestClassMapsFindTheHeadBehindDropout(t *testing.T) {
	_, err := graph.Build(graph.Training, func(g *graph.Graph) {
		s, te := g.Input("s", graph.Float32, 2, 3, 4, 4), g.Input("t", graph.Float32, 2, 3, 4, 4)
		term := losses.Weighted{Name: "catkd", Loss: row(t, "catkd").New(), Pairs: []losses.Pair{{Student: s, Teacher: te, Shape: graph.Shape{2, 3, 4, 4}}}}
		term.Classifier = &losses.Classifier{Weight: graph.Zeros(graph.Shape{5, 3}), Bias: graph.Zeros(graph.Shape{5})}
		pooled := nn.Dropout{Name: "dropout", Share: 0.2}.Apply(g, op.Flatten(op.GlobalAveragePool(s)))
		logits := nn.Linear{Name: "head", In: 3, Out: 5}.Apply(g, pooled)
		g.Output("loss", losses.Sum(g, logits, []losses.Weighted{term}))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestWassersteinLossFallsOverTheLastEpochs(t *testing.T) {
	scheduled := row(t, "wkd_f").New().(losses.Scheduled)
	for _, c := range []struct {
		epoch, epochs int
		want          float64
	}{
		{1, 240, 1}, {150, 240, 1}, {195, 240, 0.5}, {240, 240, 0}, {5, 8, 1}, {8, 8, 0}, {1, 1, 1},
	} {
		got := scheduled.Knobs(losses.Progress{Epoch: c.epoch, Epochs: c.epochs})["decay"]
		if !(math.Abs(float64(got)-c.want) <= 1e-6) {
			t.Errorf("epoch %d of %d: %v, want %v", c.epoch, c.epochs, got, c.want)
		}
	}
	never := &losses.WKDF{Grid: 4, Hidden: 256, Mean: 2, Decay: 240}
	if got := never.Knobs(losses.Progress{Epoch: 240, Epochs: 240})["decay"]; got != 1 {
		t.Errorf("with decay 240 it is %v at the end", got)
	}
}

// TestTokensMaskedAreThoseCompared changes the teacher's last tokens where the mask hides the student's, and where it does not.
func TestTokensMaskedAreThoseCompared(t *testing.T) {
	c := inputs(t, row(t, "vitkd"), 1, 5)
	c.Host = map[string]verify.Tensor{"mask": {Shape: []int{1, 1, 2, 2}, Data: []float64{2, 0, 2, 0}}} // 1/(1−λ) is kept
	value := func() float64 {
		p, in := built(t, c)
		out, err := verify.Tape(p, in)
		if err != nil {
			t.Fatal(err)
		}
		return out["value"].F[0]
	}
	before := value()
	for token, counts := range []bool{false, false, true, false, true} { // the first is the class's
		at := &c.Pairs[0].Teacher.Data[token*8]
		kept := *at
		*at += 1
		if after := value(); (after != before) != counts {
			t.Errorf("the loss goes from %v to %v with token %d of the teacher", before, after, token)
		}
		*at = kept
	}
}
