package losses_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"distill/losses"
	"distill/losses/verify"
	"distill/runtime/graph"
	"distill/runtime/runtimetest"
)

func TestMain(m *testing.M) { runtimetest.Main(m) }

// waves is a tensor without pattern, of numbers in −size..size.
func waves(size, phase float64, shape ...int) verify.Tensor {
	t := verify.Tensor{Shape: shape, Data: make([]float64, graph.Shape(shape).Size())}
	for i := range t.Data {
		t.Data[i] = size * math.Sin(12.9898*float64(i+1)+phase)
	}
	return t
}

// inputs are all that a loss may ask for, for n samples of k classes: pairs as its row says, of equal shapes where an adapter
// makes them so, and else not.
func inputs(t *testing.T, row losses.Row, n, k int) *verify.Case {
	t.Helper()
	student, teacher := waves(3, 0, n, k), waves(4, 1, n, k)
	c := &verify.Case{Loss: row.Name, Case: "random", Student: &student, Teacher: &teacher}
	for i := range n {
		c.Labels = append(c.Labels, int64(3*i%k))
		c.Index = append(c.Index, int64(5*i%64))
	}
	pairs := map[losses.Taps][][2][]int{
		losses.Last:   {{{n, 4, 4, 4}, {n, 6, 4, 4}}},
		losses.Stages: {{{n, 3, 8, 8}, {n, 5, 8, 8}}, {{n, 4, 4, 4}, {n, 6, 4, 4}}},
		losses.Pooled: {{{n, 5}, {n, 7}}},
		losses.Tokens: {{{n, 5, 6}, {n, 5, 8}}},
		losses.Heads:  {{{n, k}, {n, k}}, {{n, k}, {n, k}}},
	}[row.Taps]
	width := 6
	for i, p := range pairs {
		s, te := p[0], p[1]
		if row.Adapter != "" {
			s = te
		}
		c.Pairs = append(c.Pairs, verify.Pair{
			Student: waves(1, float64(2*i), s...), Teacher: waves(1, float64(2*i+1), te...),
			Gamma: waves(1, 5, te[1]).Data, Beta: waves(1, 6, te[1]).Data,
		})
		width = te[1]
		if row.Taps == losses.Tokens {
			width = te[2]
		}
	}
	c.Classifier = &verify.Classifier{Weight: waves(0.5, 7, k, width), Bias: waves(0.1, 8, k)}
	if row.Taps == losses.Last {
		c.Head = &verify.Classifier{Weight: waves(0.5, 10, k, c.Pairs[0].Student.Shape[1]), Bias: waves(0.1, 11, k)}
	}
	feed(t, row, c)
	return c
}

// feed gives a case what a loss's host would.
func feed(t *testing.T, row losses.Row, c *verify.Case) {
	t.Helper()
	hosted, ok := row.New().(losses.Hosted)
	if !ok {
		return
	}
	all := make([]int64, 64)
	for i := range all {
		all[i] = int64(i % 4)
	}
	host, err := hosted.Open(losses.Prefix(row.Name), &graph.Store{}, all, 1)
	if err != nil {
		t.Fatalf("%s: %v", row.Name, err)
	}
	got, err := host.Feed(0, c.Index, c.Labels)
	if err != nil {
		t.Fatalf("%s: %v", row.Name, err)
	}
	c.Host = map[string]verify.Tensor{}
	for part, v := range got {
		data := make([]float64, v.Shape.Size())
		for i := range data {
			if v.I != nil {
				data[i] = float64(v.I[i])
			} else {
				data[i] = float64(v.F[i])
			}
		}
		c.Host[part] = verify.Tensor{Shape: v.Shape, Data: data}
	}
}

// built is a case's program and what it reads, with the loss's own parameters moved from where they start, which may be zero.
func built(t *testing.T, c *verify.Case) (*graph.Program, map[string]graph.Array) {
	t.Helper()
	p, err := c.Program()
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Inputs(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range p.Stored {
		if l.Kind == graph.Param && strings.HasPrefix(l.Name, losses.Prefix(c.Loss)) {
			for i, v := range waves(0.1, 9, l.Shape...).Data {
				in[l.Name].F[i] += v
			}
		}
	}
	return p, in
}

func TestGradientsEqualCentralDifferences(t *testing.T) {
	const h, most = 1e-5, 12 // elements of each tensor that are moved
	for _, row := range losses.Table {
		t.Run(row.Name, func(t *testing.T) {
			p, in := built(t, inputs(t, row, 4, 5))
			tape, err := graph.NewTape(p)
			if err != nil {
				t.Fatal(err)
			}
			defer tape.Close()
			eval := func() map[string]graph.Array {
				out, _, err := tape.Eval(in)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			gradients, checked := eval(), 0
			for name, g := range gradients {
				leaf, ok := strings.CutPrefix(name, "gradient.")
				if !ok {
					continue
				}
				if part, own := strings.CutPrefix(leaf, "params."); own {
					leaf = losses.Prefix(row.Name) + "." + part
				}
				largest := 0.0
				for _, v := range g.F {
					largest = math.Max(largest, math.Abs(v))
				}
				x := in[leaf].F
				for i := 0; i < len(x); i += 1 + len(x)/most {
					kept := x[i]
					x[i] = kept + h
					up := eval()["value"].F[0]
					x[i] = kept - h
					down := eval()["value"].F[0]
					x[i] = kept
					if slope := (up - down) / (2 * h); !(math.Abs(slope-g.F[i]) <= 1e-5*largest+1e-8) {
						t.Errorf("%s[%d]: the gradient is %.9g, by differences %.9g", leaf, i, g.F[i], slope)
					}
					checked++
				}
			}
			if checked == 0 {
				t.Error("there is no gradient")
			}
		})
	}
}

func TestEnginesAgreeOnEveryLoss(t *testing.T) {
	for _, row := range losses.Table {
		t.Run(row.Name, func(t *testing.T) {
			p, in := built(t, inputs(t, row, 6, 7))
			want, err := verify.Tape(p, in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := verify.ONNXRuntime(p, in)
			if err != nil {
				t.Fatal(err)
			}
			for name, w := range want {
				largest := 1.0
				for _, v := range w.F {
					largest = math.Max(largest, math.Abs(v))
				}
				for i, v := range w.F {
					if d := math.Abs(got[name].F[i] - v); !(d <= 5e-6*largest) {
						t.Errorf("%s[%d] is %.9g in ONNX Runtime, %.9g on the tape", name, i, got[name].F[i], v)
					}
				}
			}
		})
	}
}

// fill puts one value everywhere in a tensor.
func fill(t *verify.Tensor, v float64) {
	for i := range t.Data {
		t.Data[i] = v
	}
}

func TestExtremesGiveFiniteNumbersOrATypedError(t *testing.T) {
	for _, c := range []struct {
		name string
		n, k int
		edit func(c *verify.Case)
	}{
		{"logits of ±1e4", 4, 5, func(c *verify.Case) {
			for i := range c.Student.Data {
				c.Student.Data[i] = 1e4 * math.Copysign(1, c.Student.Data[i])
				c.Teacher.Data[i] = 1e4 * math.Copysign(1, c.Teacher.Data[i])
			}
		}},
		{"teacher equal to student", 4, 5, func(c *verify.Case) {
			copy(c.Teacher.Data, c.Student.Data)
			for i := range c.Pairs {
				if slices.Equal(c.Pairs[i].Student.Shape, c.Pairs[i].Teacher.Shape) {
					copy(c.Pairs[i].Teacher.Data, c.Pairs[i].Student.Data)
				}
			}
		}},
		{"zeros from the student", 4, 5, func(c *verify.Case) {
			fill(c.Student, 0)
			for i := range c.Pairs {
				fill(&c.Pairs[i].Student, 0)
			}
		}},
		{"zeros from both", 4, 5, func(c *verify.Case) {
			fill(c.Student, 0)
			fill(c.Teacher, 0)
			for i := range c.Pairs {
				fill(&c.Pairs[i].Student, 0)
				fill(&c.Pairs[i].Teacher, 0)
			}
		}},
		{"features of ±1e3", 4, 5, func(c *verify.Case) {
			for i := range c.Pairs {
				for j := range c.Pairs[i].Student.Data {
					c.Pairs[i].Student.Data[j] *= 1e3
				}
				for j := range c.Pairs[i].Teacher.Data {
					c.Pairs[i].Teacher.Data[j] *= 1e3
				}
			}
		}},
		{"equal samples", 4, 5, func(c *verify.Case) {
			repeat := func(t *verify.Tensor) {
				row := len(t.Data) / t.Shape[0]
				for i := row; i < len(t.Data); i++ {
					t.Data[i] = t.Data[i-row]
				}
			}
			repeat(c.Student)
			repeat(c.Teacher)
			for i := range c.Pairs {
				repeat(&c.Pairs[i].Student)
				repeat(&c.Pairs[i].Teacher)
			}
		}},
		{"a batch of one", 1, 5, func(*verify.Case) {}},
		{"two classes", 4, 2, func(*verify.Case) {}},
	} {
		for _, row := range losses.Table {
			t.Run(row.Name+"/"+c.name, func(t *testing.T) { checkFinite(t, row, c.n, c.k, c.edit) })
		}
	}
}

// checkFinite wants finite numbers on both engines, or a *graph.Error.
func checkFinite(t *testing.T, row losses.Row, n, k int, edit func(c *verify.Case)) {
	c := inputs(t, row, n, k)
	edit(c)
	p, err := c.Program()
	if mistake := (*graph.Error)(nil); errors.As(err, &mistake) {
		t.Logf("refused: %v", err)
		return
	} else if err != nil {
		t.Fatal(err)
	}
	in, err := c.Inputs(p)
	if err != nil {
		t.Fatal(err)
	}
	for engine, run := range map[string]func(*graph.Program, map[string]graph.Array) (map[string]graph.Array, error){
		"the tape": verify.Tape, "ONNX Runtime": verify.ONNXRuntime,
	} {
		out, err := run(p, in)
		if err != nil {
			t.Fatalf("%s: %v", engine, err)
		}
		for name, a := range out {
			if i := slices.IndexFunc(a.F, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }); i >= 0 {
				t.Errorf("%s[%d] is %v by %s", name, i, a.F[i], engine)
			}
		}
	}
}

// TestDeployedLossNeedsOnlyWhatWasTrained builds what a loss keeps at export, which has no teacher beside it.
func TestDeployedLossNeedsOnlyWhatWasTrained(t *testing.T) {
	for _, row := range losses.Table {
		deployed, ok := row.New().(losses.Deployed)
		if !ok {
			continue
		}
		c := inputs(t, row, 4, 5)
		training, err := c.Program()
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
			term := losses.Weighted{Name: row.Name, Loss: deployed, Classifier: &losses.Classifier{
				Weight: graph.Array{Shape: c.Classifier.Weight.Shape, F: c.Classifier.Weight.Data},
				Bias:   graph.Array{Shape: c.Classifier.Bias.Shape, F: c.Classifier.Bias.Data},
			}}
			for i, pair := range c.Pairs {
				term.Pairs = append(term.Pairs, losses.Pair{
					Student: g.Input(fmt.Sprintf("pair%d", i), graph.Float32, pair.Student.Shape...), Shape: pair.Teacher.Shape,
				})
			}
			g.Output("logits", deployed.Deploy(losses.NewInputs(g, g.Input("student", graph.Float32, c.Student.Shape...)).For(term)))
		})
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		if s := graph.ShapeOf(p.Outputs[0].Node); !s.Equal(c.Student.Shape) {
			t.Errorf("%s: it deploys logits %v, not %v", row.Name, s, c.Student.Shape)
		}
		for _, l := range p.Stored {
			if !slices.ContainsFunc(training.Stored, func(m graph.Leaf) bool { return m.Name == l.Name && m.Shape.Equal(l.Shape) }) {
				t.Errorf("%s: it deploys %s of %v, which was not trained", row.Name, l.Name, l.Shape)
			}
		}
	}
}

func TestSumNamesEachTermAndItsKnobs(t *testing.T) {
	terms := []losses.Weighted{
		{Name: "ce", Loss: &losses.CE{Targets: "labels"}, Weight: 0.5},
		{Name: "kd", Loss: &losses.KD{Temperature: 4}, Weight: 2},
		{Name: "kd2", Loss: &losses.KD{Temperature: 1}, Weight: 0},
	}
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		g.Output("sum", losses.Sum(g, g.Input("student", graph.Float32, 4, 5), terms))
	})
	if err != nil {
		t.Fatal(err)
	}
	knobs, inputs := map[string]float32{}, 0
	for _, l := range p.Inputs {
		if l.Knob {
			knobs[l.Name] = l.Default
		} else {
			inputs++
		}
	}
	want := map[string]float32{"ce.weight": 0.5, "kd.weight": 2, "kd.temperature": 4, "kd2.weight": 0, "kd2.temperature": 1}
	if !reflect.DeepEqual(knobs, want) {
		t.Errorf("knobs %v, want %v", knobs, want)
	}
	if inputs != 3 { // student, labels, teacher: shared by the losses
		t.Errorf("%d inputs, want 3", inputs)
	}
	student, teacher := waves(3, 0, 4, 5), waves(4, 1, 4, 5)
	out, err := verify.Tape(p, map[string]graph.Array{
		"student":           {Shape: student.Shape, F: student.Data},
		losses.TeacherInput: {Shape: teacher.Shape, F: teacher.Data},
		losses.LabelsInput:  {Shape: graph.Shape{4}, I: []int64{0, 1, 2, 3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.5*out["ce"].F[0] + 2*out["kd"].F[0]
	if got := out["sum"].F[0]; !(math.Abs(got-sum) <= 1e-9) || out["kd"].F[0] == out["kd2"].F[0] {
		t.Errorf("the sum is %v, its terms make %v; they are %v", got, sum, out)
	}
}

func TestLossThatLacksWhatItNeedsIsNamed(t *testing.T) {
	for want, ask := range map[string]func(in losses.In){
		"loss hint: it compares inner tensors: name them": func(in losses.In) { in.Pairs() },
		"loss hint: it needs the weight of the teacher's": func(in losses.In) { in.Classifier() },
	} {
		_, err := graph.Build(graph.Training, func(g *graph.Graph) {
			ask(losses.NewInputs(g, g.Input("student", graph.Float32, 4, 5)).For(losses.Weighted{Name: "hint"}))
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
