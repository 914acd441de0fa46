package losses

import (
	"math"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// TestKDIsTheSumOfItsDecoupledParts holds equation 5 of Zhao et al. against the graphs that DKD is made of, sample by sample.
func TestKDIsTheSumOfItsDecoupledParts(t *testing.T) {
	const n, k, temperature = 7, 6, 4.0
	program, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		logits := func(name string) *G.Node { return op.Scale(g.Input(name, graph.Float32, n, k), 1/temperature) }
		s, te := logits("student"), logits("teacher")
		y := op.OneHot(g.Input("labels", graph.Int64, n), k)
		g.Output("kd", divergence(op.LogSoftmax(te, 1), op.LogSoftmax(s, 1)))
		g.Output("tckd", tckd(s, te, y))
		g.Output("nckd", nckd(s, te, y))
		g.Output("p", ofTarget(op.Softmax(te, 1), y))
	})
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]graph.Array{
		"student": graph.Zeros(graph.Shape{n, k}), "teacher": graph.Zeros(graph.Shape{n, k}),
		"labels": {Shape: graph.Shape{n}, I: make([]int64, n)},
	}
	for i := range n * k {
		in["student"].F[i], in["teacher"].F[i] = 9*math.Sin(12.9898*float64(i)), 9*math.Cos(78.233*float64(i))
	}
	for i := range n {
		in["labels"].I[i] = int64(i % k)
	}
	tape, err := graph.NewTape(program)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	out, _, err := tape.Eval(in)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		kd, target, rest, p := out["kd"].F[i], out["tckd"].F[i], out["nckd"].F[i], out["p"].F[i]
		if sum := target + (1-p)*rest; !(math.Abs(sum-kd) <= 1e-6) || kd < 1e-3 || rest < 1e-3 {
			t.Errorf("sample %d: KD is %v, TCKD + (1 − p)·NCKD is %v + (1 − %v)·%v", i, kd, target, p, rest)
		}
	}
}

func TestKnobsOfLogitLossesMoveAsPublished(t *testing.T) {
	dkd := &DKD{Warmup: 20}
	ctkd := &CTKD{Warmup: 10}
	wkdl := &WKDL{Decay: 150}
	for _, c := range []struct {
		loss          Scheduled
		knob          string
		epoch, epochs int
		want          float64
	}{
		{dkd, "warmup", 1, 240, 0.05}, {dkd, "warmup", 20, 240, 1}, {dkd, "warmup", 240, 240, 1}, {dkd, "warmup", 1, 24, 0.5},
		{ctkd, "lambda", 1, 240, -0.02447174}, {ctkd, "lambda", 5, 240, -0.5}, {ctkd, "lambda", 10, 240, -1}, {ctkd, "lambda", 200, 240, -1},
		{&CTKD{}, "lambda", 1, 240, -1}, // no warm-up
		{wkdl, "decay", 1, 240, 1}, {wkdl, "decay", 150, 240, 1}, {wkdl, "decay", 195, 240, 0.5}, {wkdl, "decay", 240, 240, 0},
		{wkdl, "decay", 39, 48, 0.5},              // in proportion
		{&WKDL{Decay: 240}, "decay", 240, 240, 1}, // never
		{&WKDL{}, "decay", 120, 240, 0.5},         // from the start
	} {
		got, ok := c.loss.Knobs(Progress{Epoch: c.epoch, Epochs: c.epochs})[c.knob]
		if !ok || !(math.Abs(float64(got)-c.want) <= 1e-6) {
			t.Errorf("%T: %s is %v in epoch %d of %d, want %v", c.loss, c.knob, got, c.epoch, c.epochs, c.want)
		}
	}
}
