package train

import (
	"context"
	"fmt"
	"math"
	"testing"

	"distill/runtime/graph"
)

// stepLosses trains a run to its end and gives the loss of each step, not the epoch's mean.
func stepLosses(t testing.TB, r *Recipe) (losses []float64, run *Run) {
	t.Helper()
	sum := 0.0
	run = open(t, r, Options{Observe: func(e Event) {
		n := float64(e.Step%run.phase.epoch() + 1)
		if n == 1 {
			sum = 0
		}
		losses = append(losses, e.Loss*n-sum)
		sum = e.Loss * n
	}})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return losses, run
}

// firstGradients are those of SGD's first steps from the recipe's first weights, as its momentum keeps them.
func firstGradients(t testing.TB, steps int, overrides ...string) map[string][]float32 {
	t.Helper()
	images := fmt.Sprintf("data.train=data_batch_1.bin[0:%d]", 16*steps)
	run := trained(t, recipe(t, append(overrides, "epochs=1", images, "optimizer={name: sgd, lr: 0.02, weight_decay: 0}")...))
	grads := tensors(run.Store, graph.Moment)
	if steps > 1 {
		delete(grads, "heads.head.weight.momentum")
		delete(grads, "heads.head.bias.momentum")
	}
	return grads
}

// apart is the relative distance |a − b|/|b| of gradients, each taken as one vector, and the cosine between them.
func apart(a, b map[string][]float32) (distance, cosine float64) {
	var aa, bb, ab, dd float64
	for name := range b {
		for i, y := range b[name] {
			x, y := float64(a[name][i]), float64(y)
			aa, bb, ab, dd = aa+x*x, bb+y*y, ab+x*y, dd+(x-y)*(x-y)
		}
	}
	return math.Sqrt(dd / bb), ab / math.Sqrt(aa*bb)
}

// halfNetworks are trained in float16 and float32 from the same weights on the same batches of 16. The bands are about twice the
// largest of what seeds 1 to 5 came to: in 50 steps a difference of 1e-4 grows through batch norm, and where AdamW divides
// gradients near 0 by their size.
var halfNetworks = []struct {
	name      string
	overrides []string
	loss      float64 // largest relative difference of a step's loss: 0.04, 0.012 and 0.028 were seen
	steps     int     // before the gradients are compared: all but those of ViT's last layer, which begins with zeros, are 0 in the first
	gradient  float64 // largest relative distance of the first gradients: 0.034, 0.027 and 0.003 were seen
}{
	{"resnet8", []string{"student={arch: resnet8, width: 8}"}, 0.1, 1, 0.07},
	{"mobilenetv2", []string{"student={arch: mobilenetv2_cifar, stem: 16, settings: [[1, 8, 1, 1], [4, 16, 2, 2], [4, 24, 2, 2]], last: 64}"}, 0.03, 1, 0.06},
	{"vit", []string{"student={arch: vit_tiny4, width: 32, depth: 2, heads: 2, mlp_ratio: 2}", "optimizer={name: adamw, lr: 0.002}"}, 0.06, 2, 0.01},
}

func TestFirstGradientsInFloat16AreThoseOfFloat32(t *testing.T) {
	for _, n := range halfNetworks {
		distance, cosine := apart(firstGradients(t, n.steps, append(n.overrides, "precision=float16")...), firstGradients(t, n.steps, n.overrides...))
		if !(distance <= n.gradient && distance > 1e-5) {
			t.Errorf("%s: they are %.2g apart, want 1e-5 to %v", n.name, distance, n.gradient)
		}
		t.Logf("%s: relative distance %.2g, cosine 1 − %.2g", n.name, distance, 1-cosine)
	}
}

func TestLossesInFloat16FollowThoseOfFloat32(t *testing.T) {
	if testing.Short() {
		t.Skip("it trains three networks twice")
	}
	for _, n := range halfNetworks {
		base := append([]string{"epochs=5", "optimizer.lr=0.02"}, n.overrides...)
		want, _ := stepLosses(t, recipe(t, base...))
		got, run := stepLosses(t, recipe(t, append(base, "precision=float16")...))
		worst := 0.0
		for i := range want {
			worst = math.Max(worst, math.Abs(got[i]/want[i]-1))
		}
		if len(want) != 50 || !(worst <= n.loss && worst > 0) {
			t.Errorf("%s: in %d steps the losses differ by %.2g, want at most %v", n.name, len(want), worst, n.loss)
		}
		if s := run.State.Scale; s.Value != 65536 || s.Taken != 50 || s.Skipped != 0 {
			t.Errorf("%s: the loss scale is %+v", n.name, *s)
		}
		t.Logf("%s: losses differ by %.2g at most, the last are %.4f and %.4f", n.name, worst, want[49], got[49])
	}
}
