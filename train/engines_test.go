package train

import (
	"context"
	"math"
	"testing"

	"distill/runtime"
	"distill/runtime/graph"
)

// TestEnginesAgreeStepByStep trains the demo's student, narrower, under the demo's teacher. One engine computes in float32,
// the other in float64 between its stores: on four steps the weights came to differ by 1e-6, and may by 5e-5.
func TestEnginesAgreeStepByStep(t *testing.T) {
	train := func(engine runtime.Engine) (losses []float64, run *Run) {
		r := recipe(t, "engine="+string(engine), "teacher.model="+resnet, "epochs=1", "student.width=8",
			"data.train=data_batch_1.bin[0:64]", "data.val=val.bin[0:16]")
		run = open(t, r, Options{Observe: func(e Event) { losses = append(losses, e.Loss) }})
		if err := run.Train(context.Background()); err != nil {
			t.Fatal(err)
		}
		return losses, run
	}
	want, reference := train(runtime.Gorgonia)
	got, run := train(runtime.ONNXRuntime)
	if len(got) != 4 || len(want) != 4 {
		t.Fatalf("%d and %d steps, want 4", len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(got[i]/w - 1); !(d <= 1e-4) {
			t.Errorf("after step %d the mean loss is %v in ONNX Runtime, %v on the tape", i+1, got[i], w)
		}
	}
	worst := 0.0
	for _, name := range reference.Store.Names(graph.Param, graph.State) {
		a, _ := run.Store.Tensor(name)
		b, _ := reference.Store.Tensor(name)
		var diff, norm float64
		for i, w := range b.F {
			d := float64(a.F[i] - w)
			diff, norm = diff+d*d, norm+float64(w)*float64(w)
		}
		if d := math.Sqrt(diff) / math.Max(1e-3, math.Sqrt(norm)); !(d <= 5e-5) {
			t.Errorf("%s differs by %.2g relative", name, d)
		} else {
			worst = math.Max(worst, d)
		}
	}
	t.Logf("the weights differ by %.2g at most", worst)
	if a, b := run.State.History[0].ValTop1, reference.State.History[0].ValTop1; math.Abs(a-b) > 1.0/16 {
		t.Errorf("val top-1 %v and %v", a, b)
	}
}

func TestTeacherOnDiskTeaches(t *testing.T) {
	var last Event
	r := recipe(t, "teacher.model="+resnet, "epochs=1", "batch=80", "student.width=16")
	run := open(t, r, Options{Observe: func(e Event) { last = e }})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	if last.Steps != 2 || len(last.Terms) != 2 || last.Terms[0].Name != "ce" || last.Terms[1].Name != "kd" {
		t.Fatalf("event %+v", last)
	}
	// An untrained student is far from the teacher: T²·KL of softened probabilities is some nats.
	if kd := last.Terms[1].Value; !(kd > 0.5 && kd < 50) {
		t.Errorf("kd is %v", kd)
	}
}
