package adapter_test

import (
	"math/rand/v2"
	"testing"

	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
	"distill/runtime/runtimetest"
	"distill/student/adapter"
)

// studentOf fills a student's tokens for a teacher's, all [N,L,D].
type studentOf func(rng *rand.Rand, s, teacher []float32)

// trained is the mean squared error of an attention's result against a teacher's tokens, after an attention alone has been
// trained, by gradient descent with momentum, on ever new ones of mean 0 and variance 1. A student that says nothing of them
// has an error of 1 at best.
func trained(t *testing.T, query string, shape graph.Shape, student studentOf) float64 {
	t.Helper()
	const steps, last, lr, momentum = 600, 50, 0.1, 0.9
	a := &adapter.Attention{Query: query, Heads: 4, Groups: 4}
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		teacher := g.Input("teacher", graph.Float32, shape...)
		d := op.Sub(a.Build(g, "a", g.Input("student", graph.Float32, shape...), teacher), teacher)
		cost := op.ReduceMean(op.Mul(d, d), nil, false)
		g.Output("cost", cost)
		for _, d := range g.Grad(cost) {
			m := g.State(d.Name+".momentum", graph.Moment, graph.ShapeOf(d.Param), graph.Constant(0))
			v := op.Add(op.Scale(m, momentum), d.Grad)
			g.Update(d.Name+".momentum", v)
			g.Update(d.Name, op.Sub(d.Param, op.Scale(v, lr)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	store := &graph.Store{}
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	step, err := runtime.Compile(p, store, runtime.ONNXRuntime, runtime.Options{Threads: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	var sum float64
	for i := range steps {
		s, q := graph.NewTensor(graph.Float32, shape...), graph.NewTensor(graph.Float32, shape...)
		normal(rng, q.F)
		student(rng, s.F, q.F)
		out, err := step.Run(map[string]graph.Tensor{"student": s, "teacher": q})
		if err != nil {
			t.Fatal(err)
		}
		if i >= steps-last {
			sum += float64(out["cost"].F[0]) / last
		}
	}
	return sum
}

func normal(rng *rand.Rand, x []float32) {
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
}

func TestStudentThatSaysNothingIsToldFromOneThatDoes(t *testing.T) {
	shape := graph.Shape{32, 4, 8}
	code := make([]float32, 4*8)
	normal(rand.New(rand.NewPCG(3, 4)), code)
	students := map[string]studentOf{
		"informative": func(_ *rand.Rand, s, teacher []float32) { copy(s, teacher) },
		"constant": func(_ *rand.Rand, s, _ []float32) {
			for i := range s {
				s[i] = code[i%8]
			}
		},
		"place": func(_ *rand.Rand, s, _ []float32) { // each token its own, the same for all images
			for i := range s {
				s[i] = code[i%len(code)]
			}
		},
		"noise": func(rng *rand.Rand, s, _ []float32) { normal(rng, s) },
	}
	for _, c := range []struct {
		query, student string
		least, most    float64
	}{
		{"position", "informative", 0, 0.05},
		{"position", "constant", 0.95, 1.05},
		{"position", "place", 0.95, 1.05},
		{"position", "noise", 0.95, 1.05},
		{"teacher", "informative", 0, 0.2},
		{"teacher", "constant", 0.95, 1.05},
		// Here the teacher's own tensor gets past the attention, as which of the student's tokens answer.
		{"teacher", "place", 0.2, 0.6},
		{"teacher", "noise", 0.6, 0.8},
	} {
		got := trained(t, c.query, shape, students[c.student])
		t.Logf("asked by %s, the %s student's error is %.4f", c.query, c.student, got)
		if !(got >= c.least && got <= c.most) {
			t.Errorf("asked by %s, the %s student's error is %.4f, not in %v..%v", c.query, c.student, got, c.least, c.most)
		}
	}
}

func TestTokensThatAreAllAlikeGiveOneAnswerWhateverTheTeacherAsks(t *testing.T) {
	student, teacher := graph.Shape{2, 3, 3, 2}, graph.Shape{2, 8, 2, 2}
	p, err := build(&adapter.Attention{Query: "teacher", Heads: 4, Groups: 4}, graph.Training, student, teacher, nothing)
	if err != nil {
		t.Fatal(err)
	}
	in := values(t, p)
	in["student"] = runtimetest.Filled(student, func(i float64) float64 { return float64(int(i) / 6) }) // each channel of each image its own
	first := onTape(t, p, in)["y"]
	in["teacher"] = runtimetest.Filled(teacher, func(i float64) float64 { return 10 * (i - 7) })
	near(t, "y", onTape(t, p, in)["y"].F, first.F, 1e-12)
	for i := range first.F { // as its first place, of the 4 of an image and channel
		near(t, "y", first.F[i:i+1], first.F[i/4*4:i/4*4+1], 1e-12)
	}
}
