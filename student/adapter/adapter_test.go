package adapter_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/internal/hint"
	"distill/internal/strictyaml"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
	"distill/runtime/runtimetest"
	"distill/student/adapter"
)

func TestMain(m *testing.M) { runtimetest.Main(m) }

// pairs are shapes that each adapter brings together.
var pairs = map[string][]struct{ student, teacher graph.Shape }{
	"attention": {
		{graph.Shape{2, 3, 2, 3}, graph.Shape{2, 8, 3, 2}},
		{graph.Shape{1, 3, 1, 1}, graph.Shape{1, 8, 2, 2}}, // a batch and a key of one
		{graph.Shape{2, 5, 3}, graph.Shape{2, 4, 8}},
		{graph.Shape{2, 3, 3}, graph.Shape{2, 4, 5}}, // a width that 4 heads do not share
		{graph.Shape{2, 6}, graph.Shape{2, 4, 2, 1}},
		{graph.Shape{2, 3, 2, 2}, graph.Shape{2, 6}},
		{graph.Shape{2, 3, 2, 2}, graph.Shape{2, 5, 4}},
		{graph.Shape{2, 3, 6}, graph.Shape{2, 4, 2, 2}},
	},
	"conv": {
		{graph.Shape{2, 3, 4, 4}, graph.Shape{2, 5, 4, 4}},
		{graph.Shape{2, 3, 8, 4}, graph.Shape{2, 5, 4, 2}},
		{graph.Shape{2, 3, 7, 5}, graph.Shape{2, 2, 3, 4}},
		{graph.Shape{2, 3, 2, 3}, graph.Shape{2, 2, 5, 6}},
		{graph.Shape{2, 3, 5, 2}, graph.Shape{2, 2, 2, 5}}, // one axis shorter, the other longer
		{graph.Shape{1, 1, 1, 1}, graph.Shape{1, 1, 3, 3}},
		{graph.Shape{1, 4, 5, 7}, graph.Shape{1, 2, 1, 1}},
	},
	"convreg": {
		{graph.Shape{2, 3, 4, 4}, graph.Shape{2, 5, 4, 4}},
		{graph.Shape{2, 3, 6, 4}, graph.Shape{2, 2, 3, 2}},
		{graph.Shape{2, 3, 3, 2}, graph.Shape{2, 2, 6, 4}},
		{graph.Shape{2, 3, 5, 7}, graph.Shape{2, 2, 2, 4}},
		{graph.Shape{2, 2, 1, 1}, graph.Shape{2, 3, 1, 1}},
		{graph.Shape{2, 2, 1, 1}, graph.Shape{2, 3, 2, 2}},
		{graph.Shape{8, 16, 2, 2}, graph.Shape{8, 16, 4, 4}}, // channels that fill blocks
		{graph.Shape{8, 16, 4, 4}, graph.Shape{8, 16, 2, 2}},
	},
	"linear": {
		{graph.Shape{3, 4}, graph.Shape{3, 6}},
		{graph.Shape{2, 5, 4}, graph.Shape{2, 5, 3}},
		{graph.Shape{1, 1, 1}, graph.Shape{1, 1, 1}},
	},
	"map": {
		{graph.Shape{2, 4, 3}, graph.Shape{2, 5, 2, 2}},
		{graph.Shape{2, 5, 3}, graph.Shape{2, 4, 4, 4}},  // with a class token
		{graph.Shape{2, 8, 3}, graph.Shape{2, 4, 2, 4}},  // twice as wide as high
		{graph.Shape{2, 19, 3}, graph.Shape{2, 4, 1, 2}}, // 3x6 tokens and the class's
		{graph.Shape{2, 1, 3}, graph.Shape{2, 4, 3, 3}},
	},
	"ofa": {
		{graph.Shape{4, 4, 7, 9}, graph.Shape{4, 7}},
		{graph.Shape{3, 2, 17, 9}, graph.Shape{3, 2}},  // two halvings
		{graph.Shape{8, 16, 9, 9}, graph.Shape{8, 16}}, // channels that fill blocks
		{graph.Shape{2, 10, 8}, graph.Shape{2, 3}},
		{graph.Shape{2, 9, 3}, graph.Shape{2, 3}},
		{graph.Shape{1, 197, 2}, graph.Shape{1, 3}}, // one merging
	},
	"tokens": {
		{graph.Shape{2, 3, 4, 4}, graph.Shape{2, 16, 5}},
		{graph.Shape{2, 3, 6, 6}, graph.Shape{2, 5, 4}},
		{graph.Shape{2, 3, 2, 2}, graph.Shape{2, 10, 4}},
		{graph.Shape{2, 3, 4, 8}, graph.Shape{2, 9, 4}}, // 2x4 tokens and the class's
		{graph.Shape{2, 17, 3}, graph.Shape{2, 10, 4}},
		{graph.Shape{2, 16, 3}, graph.Shape{2, 10, 4}},
		{graph.Shape{2, 10, 3}, graph.Shape{2, 4, 4}},
	},
}

// others are adapters with settings that describe something else than the defaults.
var others = map[string][]adapter.Adapter{
	"attention": {&adapter.Attention{Query: "teacher", Heads: 4, Groups: 4}, &adapter.Attention{Query: "position", Heads: 3, Groups: 2}},
	"ofa":       {&adapter.OFA{Stage: 2}, &adapter.OFA{Stage: 4}},
}

// each visits every adapter and its pairs.
func each(t *testing.T, check func(t *testing.T, a adapter.Adapter, student, teacher graph.Shape)) {
	for _, row := range adapter.Table {
		if len(pairs[row.Name]) == 0 {
			t.Errorf("%s has no pair here", row.Name)
		}
		for _, p := range pairs[row.Name] {
			for i, a := range append([]adapter.Adapter{row.New()}, others[row.Name]...) {
				t.Run(fmt.Sprintf("%s %d/%v/%v", row.Name, i, p.student, p.teacher), func(t *testing.T) { check(t, a, p.student, p.teacher) })
			}
		}
	}
}

// build describes an adapter called "a" on the input "teacher" and the trained tensor "student".
func build(a adapter.Adapter, mode graph.Mode, student, teacher graph.Shape, describe func(g *graph.Graph, y *G.Node)) (*graph.Program, error) {
	return graph.Build(mode, func(g *graph.Graph) {
		s := g.Param("student", student, graph.Constant(0))
		y := a.Build(g, "a", s, g.Input("teacher", graph.Float32, teacher...))
		g.Output("y", y)
		describe(g, y)
	})
}

// training gives "y", "cost", which is Σ y[i]·sin(i+1), and "d" + name for the gradient of each parameter and the student.
func training(t *testing.T, a adapter.Adapter, student, teacher graph.Shape) *graph.Program {
	t.Helper()
	p, err := build(a, graph.Training, student, teacher, func(g *graph.Graph, y *G.Node) {
		w := runtimetest.Filled(graph.ShapeOf(y), func(i float64) float64 { return math.Sin(i + 1) })
		cost := op.ReduceSum(op.Mul(y, g.Const(w)), nil, false)
		g.Output("cost", cost)
		for _, d := range g.Grad(cost) {
			g.Output("d"+d.Name, d.Grad)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// values are something for all that a program reads: random parameters, as they are drawn, moved a little.
func values(t *testing.T, p *graph.Program) map[string]graph.Array {
	t.Helper()
	store := &graph.Store{}
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	in := map[string]graph.Array{}
	for k, l := range append(slices.Clone(p.Inputs), p.Stored...) {
		drawn, stored := store.Tensor(l.Name)
		in[l.Name] = runtimetest.Filled(l.Shape, func(i float64) float64 {
			v := math.Sin(12.9898*(i+1) + 78.233*float64(k+1))
			if stored && l.Name != "student" {
				v = 0.2*v + float64(drawn.F[int(i)])
			}
			return float64(float32(v))
		})
	}
	return in
}

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

func TestResultHasTheTeachersShapeInBothModes(t *testing.T) {
	each(t, func(t *testing.T, a adapter.Adapter, student, teacher graph.Shape) {
		var stored [2][]string
		for mode := range stored {
			p, err := build(a, graph.Mode(mode), student, teacher, func(g *graph.Graph, y *G.Node) {
				if s := graph.ShapeOf(y); !s.Equal(teacher) {
					t.Errorf("it gives %v", s)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range p.Stored {
				if l.Name != "student" && !strings.HasPrefix(l.Name, "a.") {
					t.Errorf("it stores %s, not a.…", l.Name)
				}
				stored[mode] = append(stored[mode], l.Name+l.Shape.String())
			}
		}
		if !slices.Equal(stored[0], stored[1]) {
			t.Errorf("for inference it stores %v, for training %v", stored[0], stored[1])
		}
	})
}

func TestGradientsEqualCentralDifferences(t *testing.T) {
	each(t, func(t *testing.T, a adapter.Adapter, student, teacher graph.Shape) {
		p := training(t, a, student, teacher)
		tape, err := graph.NewTape(p)
		if err != nil {
			t.Fatal(err)
		}
		defer tape.Close()
		in := values(t, p)
		eval := func() map[string]graph.Array {
			out, _, err := tape.Eval(in)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		grads := map[string][]float64{}
		for name, v := range eval() {
			grads[name] = slices.Clone(v.F)
		}
		const h = 1e-5
		for _, l := range p.Stored {
			if l.Kind != graph.Param {
				continue
			}
			x := in[l.Name].F
			for i := 0; i < len(x); i += 1 + len(x)/5 { // up to 5 of a tensor's elements
				at := x[i]
				x[i] = at + h
				up := eval()["cost"].F[0]
				x[i] = at - h
				down := eval()["cost"].F[0]
				x[i] = at
				if want, got := (up-down)/(2*h), grads["d"+l.Name][i]; math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
					t.Errorf("%s[%d]: central difference %.9g, gradient %.9g", l.Name, i, want, got)
				}
			}
		}
	})
}

func TestEnginesAgree(t *testing.T) {
	probed, err := runtime.Probe(runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]graph.Target{"plain": {}, "fused": {Fused: true}, "probed": probed}
	each(t, func(t *testing.T, a adapter.Adapter, student, teacher graph.Shape) {
		p := training(t, a, student, teacher)
		in := values(t, p)
		want := onTape(t, p, in)
		for target, of := range targets {
			store, inputs := &graph.Store{}, map[string]graph.Tensor{"teacher": float32s(in["teacher"])}
			for _, l := range p.Stored {
				store.Set(l.Name, l.Kind, float32s(in[l.Name]))
			}
			step, err := runtime.Compile(p, store, runtime.ONNXRuntime, runtime.Options{Threads: 1}, &of)
			if err != nil {
				t.Fatal(err)
			}
			out, err := step.Run(inputs)
			step.Close()
			if err != nil {
				t.Fatal(err)
			}
			for name, w := range want {
				near(t, target+": "+name, out[name].F, w.F, 2e-5)
			}
		}
	})
}

func float32s(a graph.Array) graph.Tensor {
	v := graph.NewTensor(graph.Float32, a.Shape...)
	for i, x := range a.F {
		v.F[i] = float32(x)
	}
	return v
}

func TestNoGradientReachesTheTeacher(t *testing.T) {
	each(t, func(t *testing.T, a adapter.Adapter, student, teacher graph.Shape) {
		_, err := graph.Build(graph.Training, func(g *graph.Graph) {
			q := g.Param("teacher", teacher, graph.Constant(0))
			cost := op.ReduceSum(a.Build(g, "a", g.Param("student", student, graph.Constant(0)), q), nil, false)
			g.Output("d", g.GradInput(cost, q)[0].Grad)
		})
		if err == nil || !strings.Contains(err.Error(), "Non Differentiable WRTs: map[teacher") {
			t.Errorf("a gradient for the teacher: %v", err)
		}
	})
}

// section is a recipe's section of an adapter.
type section struct {
	Name    string          `yaml:"adapter,choice"`
	Adapter adapter.Adapter `yaml:",inline"`
}

func (section) Choose(name string) any {
	a, err := adapter.New(name)
	if err != nil {
		return nil
	}
	return a
}

func (section) Choices() []string { return adapter.Names() }

func decode(src string) (section, error) {
	var s section
	err := strictyaml.Decode([]byte(src), "recipe.yaml", &s, nil)
	return s, err
}

func TestEveryAdapterIsItsYAMLSection(t *testing.T) {
	for _, row := range adapter.Table {
		want, err := decode("adapter: " + row.Name)
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		if !reflect.DeepEqual(want.Adapter, row.New()) {
			t.Errorf("%s: the name alone gives %+v, not the defaults", row.Name, want.Adapter)
		}
		if err := row.New().Validate(); err != nil {
			t.Errorf("%s: the defaults: %v", row.Name, err)
		}
		text, err := strictyaml.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(string(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: decodes from\n%s\nto %+v, %v", row.Name, text, got, err)
		}
		if row.Doc == "" {
			t.Errorf("%s has no line to tell what it is", row.Name)
		}
	}
	if !slices.IsSortedFunc(adapter.Table, func(a, b adapter.Row) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the rows are not in order")
	}
}

func TestUnknownNameListsTheKnown(t *testing.T) {
	a, err := adapter.New("convv")
	if err == nil || a != nil || !strings.Contains(hint.Of(err), "conv, convreg") {
		t.Errorf("%v, %v, hint %q", a, err, hint.Of(err))
	}
}

func TestSettingsOutOfRangeAreRefusedByName(t *testing.T) {
	for _, c := range []struct{ adapter, setting, value string }{
		{"attention", "query", "student"}, {"attention", "heads", "0"}, {"attention", "heads", "65"}, {"attention", "groups", "-1"},
		{"ofa", "stage", "5"}, {"ofa", "stage", "-1"}, {"ofa", "width", "-1"}, {"ofa", "width", "65537"},
	} {
		_, err := decode(fmt.Sprintf("adapter: %s\n%s: %s\n", c.adapter, c.setting, c.value))
		if err == nil || !strings.Contains(err.Error(), c.setting+" must be") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
