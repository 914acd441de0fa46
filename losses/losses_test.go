package losses_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/internal/strictyaml"
	"distill/losses"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/train"
)

func TestMain(m *testing.M) {
	if err := runtime.Init(""); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s\n", err, hint.Of(err))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// golden is a case of testdata/goldens/losses.json; losses.py says how it was made.
type golden struct {
	Name             string
	Batch, Classes   int
	Student, Teacher []float64
	Labels           []int64
	Losses           map[string]struct {
		Value    float64
		Gradient []float64
	}
}

// goldenTerms are the losses of the goldens.
var goldenTerms = map[string][]losses.Weighted{
	"ce":          {{Name: "ce", Loss: &losses.CE{Targets: "labels"}, Weight: 1}},
	"ce_smoothed": {{Name: "ce", Loss: &losses.CE{Targets: "labels", LabelSmoothing: 0.1}, Weight: 1}},
	"ce_soft":     {{Name: "ce", Loss: &losses.CE{Targets: "teacher"}, Weight: 1}},
	"kd_t1":       {{Name: "kd", Loss: &losses.KD{Temperature: 1}, Weight: 1}},
	"kd_t4":       {{Name: "kd", Loss: &losses.KD{Temperature: 4}, Weight: 1}},
	"ce_kd": {
		{Name: "ce", Loss: &losses.CE{Targets: "labels"}, Weight: 0.1},
		{Name: "kd", Loss: &losses.KD{Temperature: 4}, Weight: 0.9},
	},
}

func readGoldens(t *testing.T) []golden {
	t.Helper()
	b, err := os.ReadFile("../testdata/goldens/losses.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// program sums the terms on logits that are an input "student" [n,k]; it gives "value" and "gradient".
func program(t *testing.T, terms []losses.Weighted, n, k int) *graph.Program {
	t.Helper()
	p, err := graph.Build(graph.Training, func(g *graph.Graph) {
		s := g.Input("student", graph.Float32, n, k)
		cost := losses.Sum(g, s, terms)
		g.Output("value", cost)
		g.Output("gradient", g.GradInput(cost, s)[0].Grad)
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// onTape runs in float64.
func onTape(t *testing.T, p *graph.Program, in map[string]graph.Array) map[string]graph.Array {
	t.Helper()
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	out, _, err := tape.Eval(in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// onORT runs in float32 on the machine's own target, and gives the program only those inputs that it has.
func onORT(t *testing.T, p *graph.Program, in map[string]graph.Array) map[string]graph.Tensor {
	t.Helper()
	step, err := runtime.Compile(p, &graph.Store{}, runtime.ONNXRuntime, runtime.Options{Threads: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	tensors := map[string]graph.Tensor{}
	for _, l := range p.Inputs {
		a, ok := in[l.Name]
		switch {
		case !ok:
		case a.I != nil:
			tensors[l.Name] = graph.Ints(a.I, a.Shape...)
		default:
			v := graph.NewTensor(graph.Float32, a.Shape...)
			for i, x := range a.F {
				v.F[i] = float32(x)
			}
			tensors[l.Name] = v
		}
	}
	out, err := step.Run(tensors)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inputs are a golden's, with the weights in float64, which float32 knobs would round.
func (g golden) inputs(terms []losses.Weighted) map[string]graph.Array {
	shape := graph.Shape{g.Batch, g.Classes}
	in := map[string]graph.Array{
		"student":           {Shape: shape, F: g.Student},
		losses.TeacherInput: {Shape: shape, F: g.Teacher},
		losses.LabelsInput:  {Shape: graph.Shape{g.Batch}, I: g.Labels},
	}
	for _, w := range terms {
		exact := math.Round(float64(w.Weight)*10) / 10
		in[w.Name+".weight"] = graph.Array{Shape: graph.Shape{}, F: []float64{exact}}
	}
	return in
}

// near fails unless |Δ| ≤ tolerance·max(1, |want|) everywhere.
func near[T float32 | float64](t *testing.T, what string, got []T, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d elements, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tolerance*math.Max(1, math.Abs(w))) {
			t.Errorf("%s[%d] is %.12g, want %.12g", what, i, got[i], w)
		}
	}
}

func TestLossesEqualPyTorch(t *testing.T) {
	for _, g := range readGoldens(t) {
		for name, want := range g.Losses {
			t.Run(g.Name+"/"+name, func(t *testing.T) {
				terms, ok := goldenTerms[name]
				if !ok {
					t.Fatalf("no loss here for the golden %q", name)
				}
				p, in := program(t, terms, g.Batch, g.Classes), g.inputs(terms)
				tape := onTape(t, p, in)
				near(t, "tape: value", tape["value"].F, []float64{want.Value}, 1e-9)
				near(t, "tape: gradient", tape["gradient"].F, want.Gradient, 1e-9)
				ort := onORT(t, p, in)
				near(t, "ONNX Runtime: value", ort["value"].F, []float64{want.Value}, 2e-6)
				near(t, "ONNX Runtime: gradient", ort["gradient"].F, want.Gradient, 2e-6)
			})
		}
	}
}

func TestHugeLogitsGiveFiniteLossesOnBothEngines(t *testing.T) {
	const n, k = 3, 4
	s := []float64{1e4, -1e4, -1e4, 0, -1e4, -1e4, -1e4, -1e4, 1e4, 1e4, -1e4, 1e4}
	q := []float64{-1e4, 1e4, 1e4, 0, 1e4, -1e4, 0, -1e4, -1e4, -1e4, 1e4, -1e4}
	for _, row := range losses.Table {
		terms := []losses.Weighted{{Name: row.Name, Loss: row.New(), Weight: 1}}
		p := program(t, terms, n, k)
		in := golden{Batch: n, Classes: k, Student: s, Teacher: q, Labels: []int64{1, 0, 2}}.inputs(terms)
		tape, ort := onTape(t, p, in), onORT(t, p, in)
		for out, values := range tape {
			for i, v := range values.F {
				w := float64(ort[out].F[i])
				if math.IsNaN(v) || math.IsInf(v, 0) || math.IsNaN(w) || math.IsInf(w, 0) {
					t.Errorf("%s: %s[%d] is %v on the tape, %v in ONNX Runtime", row.Name, out, i, v, w)
				}
			}
		}
	}
}

func TestEnginesAgreeOnEveryLoss(t *testing.T) {
	const n, k = 6, 7
	s, q, labels := make([]float64, n*k), make([]float64, n*k), make([]int64, n)
	for i := range s {
		s[i], q[i] = 3*math.Sin(12.9898*float64(i+1)), 4*math.Sin(78.233*float64(i+1))
	}
	for i := range labels {
		labels[i] = int64(3 * i % k)
	}
	for _, row := range losses.Table {
		t.Run(row.Name, func(t *testing.T) {
			terms := []losses.Weighted{{Name: row.Name, Loss: row.New(), Weight: 1}}
			p := program(t, terms, n, k)
			in := golden{Batch: n, Classes: k, Student: s, Teacher: q, Labels: labels}.inputs(terms)
			ort := onORT(t, p, in)
			for name, want := range onTape(t, p, in) {
				near(t, name, ort[name].F, want.F, 5e-6)
			}
		})
	}
}

// section is a recipe's list of losses.
type section struct {
	Losses []train.Term `yaml:"losses"`
}

func decode(src string) (section, error) {
	var s section
	err := strictyaml.Decode([]byte(src), "recipe.yaml", &s, nil)
	return s, err
}

func TestEveryLossIsItsYAMLSection(t *testing.T) {
	for _, row := range losses.Table {
		want, err := decode("losses: [{loss: " + row.Name + "}]")
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		if term := want.Losses[0]; term.Weight != 1 || !reflect.DeepEqual(term.Loss, row.New()) {
			t.Errorf("%s: the name alone gives %+v of weight %v, not the defaults", row.Name, term.Loss, term.Weight)
		}
		if err := row.New().Validate(); err != nil {
			t.Errorf("%s: the defaults: %v", row.Name, err)
		}
		text, err := strictyaml.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(string(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: decodes from\n%s\nto %+v, %v", row.Name, text, got, err)
		}
		if row.Doc == "" {
			t.Errorf("%s has no line to tell what it is", row.Name)
		}
	}
}

func TestSettingsOutOfRangeAreRefusedByName(t *testing.T) {
	cases := map[string][]struct{ setting, value string }{
		"ce": {{"label_smoothing", "-0.1"}, {"label_smoothing", "1.1"}, {"label_smoothing", ".nan"}, {"targets", "none"}},
		"kd": {{"temperature", "0"}, {"temperature", "-1"}, {"temperature", ".nan"}, {"temperature", ".inf"}},
	}
	for _, row := range losses.Table {
		if len(cases[row.Name]) == 0 {
			t.Errorf("%s has no case here", row.Name)
		}
		for _, c := range append(cases[row.Name], struct{ setting, value string }{"weight", ".nan"}) {
			_, err := decode(fmt.Sprintf("losses:\n  - loss: %s\n    %s: %s\n", row.Name, c.setting, c.value))
			if err == nil || !strings.Contains(err.Error(), "recipe.yaml:2") || !strings.Contains(err.Error(), c.setting+" must be") {
				t.Errorf("%s with %s %s: %v", row.Name, c.setting, c.value, err)
			}
		}
	}
}

func TestUnknownLossSuggestsTheNearest(t *testing.T) {
	_, err := decode("losses: [{loss: kdd}]")
	if err == nil || !strings.Contains(hint.Of(err), `"kd"`) {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestSumNamesEachTermAndItsKnobs(t *testing.T) {
	terms := []losses.Weighted{
		{Name: "ce", Loss: &losses.CE{Targets: "labels"}, Weight: 0.5},
		{Name: "kd", Loss: &losses.KD{Temperature: 4}, Weight: 2},
		{Name: "kd2", Loss: &losses.KD{Temperature: 1}, Weight: 0},
	}
	p := program(t, terms, 4, 5)
	knobs := map[string]float32{}
	inputs := 0
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
	g := readGoldens(t)[0]
	out := onTape(t, p, map[string]graph.Array{
		"student":           {Shape: graph.Shape{4, 5}, F: g.Student},
		losses.TeacherInput: {Shape: graph.Shape{4, 5}, F: g.Teacher},
		losses.LabelsInput:  {Shape: graph.Shape{4}, I: g.Labels},
	})
	near(t, "value", out["value"].F, []float64{0.5*g.Losses["ce"].Value + 2*g.Losses["kd_t4"].Value}, 1e-9)
	near(t, "kd2", out["kd2"].F, []float64{g.Losses["kd_t1"].Value}, 1e-9)
}
