package losses_test

import (
	"math"
	"strings"
	"testing"

	"distill/losses"
	"distill/losses/verify"
	"distill/runtime/graph"
)

// featureRefused are settings that the losses on inner tensors must refuse.
var featureRefused = map[string][]setting{
	"at":       {{"variant", "other"}, {"p", "0.5"}, {"p", "5"}, {"p", ".nan"}},
	"vid":      {{"variance", "0"}, {"variance", "1e-5"}, {"variance", "1e4"}, {"variance", ".nan"}},
	"reviewkd": {{"mid", "0"}, {"mid", "4097"}, {"warmup", "-1"}, {"warmup", ".nan"}, {"warmup", ".inf"}},
	"semckd":   {{"temperature", "0"}, {"temperature", ".nan"}, {"temperature", ".inf"}, {"factor", "0"}, {"factor", "1025"}},
	"cwd":      {{"temperature", "0"}, {"temperature", "-1"}, {"temperature", ".nan"}, {"temperature", ".inf"}},
}

func TestPairThatAFeatureLossCannotCompareIsRefusedWithTheReason(t *testing.T) {
	maps, wide, vectors := waves(1, 0, 2, 3, 4, 4), waves(1, 1, 2, 5, 4, 4), waves(1, 2, 2, 3)
	pair := func(s, t verify.Tensor) verify.Pair { return verify.Pair{Student: s, Teacher: t} }
	normed := func(gamma, beta []float64) verify.Pair {
		return verify.Pair{Student: maps, Teacher: maps, Gamma: gamma, Beta: beta}
	}
	for _, c := range []struct {
		loss string
		pair verify.Pair
		want string
	}{
		{"at", pair(vectors, vectors), "it compares maps [N,C,H,W]"},
		{"nst", pair(maps, vectors), "it compares maps [N,C,H,W]"},
		{"vid", pair(vectors, maps), "it compares maps [N,C,H,W]"},
		{"reviewkd", pair(vectors, maps), "it compares maps [N,C,H,W]"},
		{"semckd", pair(vectors, vectors), "it compares maps [N,C,H,W]"},
		{"fitnets", pair(maps, wide), "give the tap an adapter"},
		{"cwd", pair(maps, wide), "give the tap an adapter"},
		{"pkd", pair(waves(1, 0, 1, 3, 1, 1), waves(1, 1, 1, 3, 1, 1)), "one number in a channel has no deviation"},
		{"ofd", pair(maps, maps), "tap the output of a BatchNormalization, before its ReLU"},
		{"ofd", normed([]float64{1, 2}, []float64{1, 2, 3}), "has 2 scales and 3 shifts"},
		{"ofd", normed([]float64{1, math.NaN(), 1}, []float64{0, 0, 0}), "not finite"},
		{"ofd", normed([]float64{1, 1, 1}, []float64{0, math.Inf(-1), 0}), "not finite"},
	} {
		_, err := (&verify.Case{Loss: c.loss, Pairs: []verify.Pair{c.pair}}).Program()
		if err == nil || !strings.Contains(err.Error(), "loss "+c.loss) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.loss, err, c.want)
		}
	}
}

func TestVIDStartsWithTheVarianceThatIsSet(t *testing.T) {
	for _, variance := range []float64{1e-4, 1e-2, 5, 1e3} {
		p, err := graph.Build(graph.Training, func(g *graph.Graph) {
			maps := losses.Pair{
				Student: g.Input("s", graph.Float32, 2, 3, 4, 4), Teacher: g.Input("t", graph.Float32, 2, 5, 4, 4), Shape: graph.Shape{2, 5, 4, 4},
			}
			term := losses.Weighted{Name: "vid", Loss: &losses.VID{Variance: variance}, Pairs: []losses.Pair{maps}}
			g.Output("value", term.Loss.Build(losses.NewInputs(g, g.Input("student", graph.Float32, 2, 3)).For(term)))
		})
		if err != nil {
			t.Fatal(err)
		}
		store := &graph.Store{}
		if err := p.Fill(store, 1); err != nil {
			t.Fatal(err)
		}
		scale, ok := store.Tensor("loss.vid.scale1")
		if !ok || !scale.Shape.Equal(graph.Shape{5}) {
			t.Fatalf("the parameters are %v", store.Names())
		}
		for _, a := range scale.F {
			v := float64(a)
			if got := max(v, 0) + math.Log1p(math.Exp(-math.Abs(v))) + 1e-5; !(math.Abs(got-variance) <= 1e-6*variance) {
				t.Errorf("the variance starts at %v, want %v", got, variance)
			}
		}
	}
}

func TestReviewKDComesInOverItsWarmUp(t *testing.T) {
	for _, c := range []struct {
		warmup float32
		epoch  int
		want   float32
	}{{20, 1, 0.05}, {20, 20, 1}, {20, 240, 1}, {0, 1, 1}} {
		r := &losses.ReviewKD{Warmup: c.warmup}
		if got := r.Knobs(losses.Progress{Epoch: c.epoch, Epochs: 240})["warmup"]; got != c.want {
			t.Errorf("epoch %d over %v: %v, want %v", c.epoch, c.warmup, got, c.want)
		}
	}
}

func TestSemCKDTakesAMapOfSeveralPairsOnce(t *testing.T) {
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		shape := graph.Shape{4, 3, 4, 4}
		input := func(name string) losses.Pair {
			return losses.Pair{Student: g.Input(name, graph.Float32, shape...), Shape: shape}
		}
		a, b := input("a"), input("b")
		x, y, z := input("x").Student, input("y").Student, input("z").Student
		term := losses.Weighted{Name: "semckd", Loss: &losses.SemCKD{Temperature: 1, Factor: 4}}
		for _, pair := range []losses.Pair{{Student: a.Student, Teacher: x}, {Student: b.Student, Teacher: y}, {Student: b.Student, Teacher: z}} {
			pair.Shape = shape
			term.Pairs = append(term.Pairs, pair)
		}
		g.Output("value", term.Loss.Build(losses.NewInputs(g, g.Input("student", graph.Float32, 4, 3)).For(term)))
	})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, l := range p.Stored {
		for _, part := range []string{"query", "key", "proj"} {
			if strings.HasPrefix(l.Name, "loss.semckd."+part) && (strings.HasSuffix(l.Name, ".linear1.weight") || strings.HasSuffix(l.Name, ".3.weight")) {
				count[part]++
			}
		}
	}
	if count["query"] != 2 || count["key"] != 3 || count["proj"] != 6 {
		t.Errorf("of 2 and 3 maps it makes %v", count)
	}
}
