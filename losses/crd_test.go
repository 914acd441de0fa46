package losses_test

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"distill/losses"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

const crdPrefix = "loss.crd"

// openCRD opens the memory of a loss over a set of n samples, of classes 0 1 2 0 1 2 …
func openCRD(t *testing.T, loss losses.CRD, n int, s *graph.Store, seed uint64) losses.Host {
	t.Helper()
	labels := make([]int64, n)
	for i := range labels {
		labels[i] = int64(i % 3)
	}
	h, err := loss.Open(crdPrefix, s, labels, seed)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// fed is what a host feeds for a step, copied.
func fed(t *testing.T, h losses.Host, step int, index ...int64) map[string]graph.Tensor {
	t.Helper()
	labels := make([]int64, len(index))
	for i, n := range index {
		labels[i] = n % 3
	}
	in, err := h.Feed(step, index, labels)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]graph.Tensor{}
	for name, v := range in {
		kept[name] = v.Clone()
	}
	return kept
}

func TestNegativesDependOnSeedAndStepAlone(t *testing.T) {
	loss := losses.CRD{Negatives: 8, Temperature: 0.07, Momentum: 0.5}
	at := func(seed uint64, steps ...int) graph.Tensor {
		h := openCRD(t, loss, 30, &graph.Store{}, seed)
		var last graph.Tensor
		for _, step := range steps {
			last = fed(t, h, step, 4, 5)["student.negatives"]
		}
		return last
	}
	want := at(1, 7)
	if !reflect.DeepEqual(at(1, 0, 1, 2, 7), want) {
		t.Error("the steps before change the negatives")
	}
	if reflect.DeepEqual(at(1, 8), want) {
		t.Error("two steps have the same negatives")
	}
	if reflect.DeepEqual(at(2, 7), want) {
		t.Error("two seeds give the same")
	}
}

func TestNegativesAreOfOtherClassesAndCountK(t *testing.T) {
	for _, c := range []struct{ n, k, drawn int }{{60, 16, 16}, {60, 60, 60}, {12, 64, 12}, {2, 5, 2}} {
		s := &graph.Store{}
		h := openCRD(t, losses.CRD{Negatives: c.k, Temperature: 0.07, Momentum: 0.5}, c.n, s, 1)
		memory, _ := s.Tensor(crdPrefix + ".memory.teacher")
		in := fed(t, h, 3, 0, 1, 0)
		if got := in["drawn"].F[0]; got != float32(c.drawn) {
			t.Errorf("of %d samples %v are drawn for %d, want %d", c.n, got, c.k, c.drawn)
		}
		times := map[int]int{}
		for k := range c.k {
			row := in["teacher.negatives"].F[k*128 : (k+1)*128]
			i := -1 // the sample
			for j := range c.n {
				if slices.Equal(memory.F[j*128:(j+1)*128], row) {
					i = j
				}
			}
			if k < c.drawn == (i < 0) {
				t.Errorf("row %d of %d drawn from %d is sample %d", k, c.drawn, c.n, i)
			}
			if i >= 0 {
				times[i]++
			}
			for b, index := range []int{0, 1, 0} {
				if share := in["shares"].F[b*c.k+k]; (share > 0) != (i >= 0 && i%3 != index%3) {
					t.Errorf("sample %d of class %d counts sample %d by %v", index, index%3, i, share)
				}
			}
		}
		if len(times) != c.drawn {
			t.Errorf("%d samples differ among %d drawn", len(times), c.drawn)
		}
		for b := range 3 {
			sum := 0.0
			for _, v := range in["shares"].F[b*c.k : (b+1)*c.k] {
				sum += float64(v)
			}
			if math.Abs(sum-float64(c.drawn)) > 1e-4 {
				t.Errorf("image %d counts %v, want %d", b, sum, c.drawn)
			}
		}
	}
}

func TestEverySampleIsDrawnAsOften(t *testing.T) {
	const n, k, steps = 12, 4, 3000
	s := &graph.Store{}
	h := openCRD(t, losses.CRD{Negatives: k, Temperature: 0.07, Momentum: 0.5}, n, s, 1)
	memory, _ := s.Tensor(crdPrefix + ".memory.student")
	times := make([]int, n)
	for step := range steps {
		in := fed(t, h, step, 0)
		for row := range k {
			first := in["student.negatives"].F[row*128]
			for i := range n {
				if memory.F[i*128] == first {
					times[i]++
				}
			}
		}
	}
	for i, got := range times { // 1000 ± 26 by chance
		if math.Abs(float64(got)-steps*k/n) > 130 {
			t.Errorf("sample %d is drawn %d times, want %d", i, got, steps*k/n)
		}
	}
}

func TestMemoryTakesInWhatTheStepComputed(t *testing.T) {
	s := &graph.Store{}
	h := openCRD(t, losses.CRD{Negatives: 4, Temperature: 0.07, Momentum: 0.25}, 6, s, 1)
	memory, _ := s.Tensor(crdPrefix + ".memory.student")
	before := memory.Clone()
	fed(t, h, 0, 5, 2)
	u := graph.NewTensor(graph.Float32, 2, 128)
	u.F[3], u.F[128+7] = 1, -1
	if err := h.Take(map[string]graph.Tensor{"student": u, "teacher": u}); err != nil {
		t.Fatal(err)
	}
	for row, i := range []int{5, 2} {
		length, want := 0.0, make([]float64, 128)
		for j := range want {
			want[j] = 0.25*float64(before.F[i*128+j]) + 0.75*float64(u.F[row*128+j])
			length += want[j] * want[j]
		}
		for j := range want {
			if got := float64(memory.F[i*128+j]); math.Abs(got-want[j]/math.Sqrt(length)) > 1e-6 {
				t.Fatalf("sample %d[%d] is %v, want %v", i, j, got, want[j]/math.Sqrt(length))
			}
		}
	}
	if !slices.Equal(memory.F[:2*128], before.F[:2*128]) {
		t.Error("samples that were not in the batch have moved")
	}
	if err := h.Take(map[string]graph.Tensor{"student": u}); err == nil {
		t.Error("embeddings that are not there are taken")
	}
}

func TestMemoryThatCannotServeIsRefused(t *testing.T) {
	loss := losses.CRD{Negatives: 4, Temperature: 0.07, Momentum: 0.5}
	if _, err := loss.Open(crdPrefix, &graph.Store{}, []int64{2, 2, 2}, 1); err == nil || !strings.Contains(err.Error(), "one class") {
		t.Errorf("a set of one class: %v", err)
	}
	if _, err := loss.Open(crdPrefix, &graph.Store{}, nil, 1); err == nil {
		t.Error("an empty set is taken")
	}
	s := &graph.Store{}
	openCRD(t, loss, 6, s, 1)
	if _, err := loss.Open(crdPrefix, s, []int64{0, 1, 2}, 1); err == nil || !strings.Contains(err.Error(), "[6,128]") {
		t.Errorf("the memory of another set: %v", err)
	}
	h := openCRD(t, loss, 6, &graph.Store{}, 1)
	for _, i := range []int64{-1, 6} {
		if _, err := h.Feed(0, []int64{i}, []int64{0}); err == nil {
			t.Errorf("sample %d of 6 is fed", i)
		}
	}
}

// crdRun trains CRD's layers for steps on a fixed set of 24 samples, 6 a step, and gives the losses.
func crdRun(t *testing.T, s *graph.Store, from, to int) (values []float32) {
	t.Helper()
	const n, set = 6, 24
	loss := losses.CRD{Negatives: 10, Temperature: 0.07, Momentum: 0.5}
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		pair := losses.Pair{Student: g.Input("s", graph.Float32, n, 5), Teacher: g.Input("t", graph.Float32, n, 7), Shape: graph.Shape{n, 7}}
		term := losses.Weighted{Name: "crd", Loss: &loss, Pairs: []losses.Pair{pair}}
		value := loss.Build(losses.NewInputs(g, g.Input("logits", graph.Float32, n, 3)).For(term))
		g.Output("value", value)
		for _, d := range g.Grad(value) {
			g.Update(d.Name, op.Sub(d.Param, op.Scale(d.Grad, 0.5)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Fill(s, 1); err != nil {
		t.Fatal(err)
	}
	h := openCRD(t, loss, set, s, 1)
	step, err := runtime.Compile(p, s, runtime.ONNXRuntime, runtime.Options{Threads: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	for k := from; k < to; k++ {
		in, student, teacher := map[string]graph.Tensor{}, graph.NewTensor(graph.Float32, n, 5), graph.NewTensor(graph.Float32, n, 7)
		var index []int64
		for i := range n {
			at := (k*n + i) % set
			index = append(index, int64(at))
			for j := range 5 {
				student.F[i*5+j] = float32(math.Sin(12.9898 * float64(at*5+j)))
			}
			for j := range 7 { // says what the student says
				teacher.F[i*7+j] = student.F[i*5+j%5] - student.F[i*5+(j+2)%5]
			}
		}
		for part, v := range fed(t, h, k, index...) {
			in[crdPrefix+"."+part] = v
		}
		in["s"], in["t"] = student, teacher
		in["logits"] = graph.NewTensor(graph.Float32, n, 3)
		out, err := step.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Take(map[string]graph.Tensor{"student": out[crdPrefix+".student"], "teacher": out[crdPrefix+".teacher"]}); err != nil {
			t.Fatal(err)
		}
		values = append(values, out["value"].F[0])
	}
	return values
}

func TestResumedContrastIsBitForBitTheSame(t *testing.T) {
	whole, parts := &graph.Store{}, &graph.Store{}
	want := crdRun(t, whole, 0, 9)
	got := crdRun(t, parts, 0, 4)
	parts = parts.Clone() // all that a checkpoint keeps
	got = append(got, crdRun(t, parts, 4, 9)...)
	if !slices.Equal(got, want) {
		t.Errorf("losses %v, without a stop %v", got, want)
	}
	for _, name := range whole.Names() {
		a, _ := whole.Tensor(name)
		b, _ := parts.Tensor(name)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestZIsOfTheFirstBatch(t *testing.T) {
	s := &graph.Store{}
	crdRun(t, s, 0, 1)
	first, _ := s.Tensor(crdPrefix + ".z")
	first = first.Clone()
	crdRun(t, s, 1, 5)
	if later, _ := s.Tensor(crdPrefix + ".z"); !slices.Equal(first.F, later.F) || !(first.F[0] > 0 && first.F[1] > 0) {
		t.Errorf("z is %v after a step, %v after five", first.F, later.F)
	}
}

func TestContrastIsLearnt(t *testing.T) {
	values := crdRun(t, &graph.Store{}, 0, 200)
	mean := func(v []float32) (m float64) {
		for _, x := range v {
			m += float64(x) / float64(len(v))
		}
		return m
	}
	if before, after := mean(values[:20]), mean(values[180:]); !(after < 0.5*before) {
		t.Errorf("the loss is %v at first and %v after 200 steps", before, after)
	}
}
