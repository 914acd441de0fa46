package train

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"distill/data"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// linearTeacher writes a classifier of CIFAR's images that is one dense layer, its weights drawn by a seed; its class i is that
// which order names, of the seed's.
func linearTeacher(t *testing.T, seed uint64, order []int) string {
	t.Helper()
	return writeLinear(t, seed, order, 2, "batch")
}

// writeLinear is linearTeacher for so many images at a time, or any number, where that has a name.
func writeLinear(t *testing.T, seed uint64, order []int, images int, batch string) string {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := op.AveragePool(g.Input("images", graph.Float32, images, 3, 32, 32), op.PoolAttrs{Kernel: [2]int{8, 8}, Strides: [2]int{8, 8}})
		g.Output("logits", op.Scale(nn.Linear{Name: "fc", In: 48, Out: 10}.Apply(g, op.Flatten(x)), 4))
	})
	if err != nil {
		t.Fatal(err)
	}
	store := &graph.Store{}
	if err := p.Fill(store, seed); err != nil {
		t.Fatal(err)
	}
	for _, name := range store.Names() {
		w, _ := store.Tensor(name)
		rows := slices.Clone(w.F)
		for i, from := range order {
			copy(w.F[i*len(rows)/10:][:len(rows)/10], rows[from*len(rows)/10:])
		}
	}
	m, err := onnx.Lower(p, onnx.Lowering{Store: store, Batch: batch})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "linear.onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// learning is a run under several teachers, of which each is a file or a flow mapping.
func learning(t *testing.T, teachers []string, overrides ...string) *Recipe {
	t.Helper()
	items := slices.Clone(teachers)
	for i, text := range items {
		if !strings.HasPrefix(text, "{") {
			items[i] = "{model: " + text + "}"
		}
	}
	return recipe(t, append([]string{"teachers=[" + strings.Join(items, ", ") + "]"}, overrides...)...)
}

func TestTwoCopiesOfATeacherTeachWhatItDoes(t *testing.T) {
	path := linearTeacher(t, 1, nil)
	alone := trained(t, recipe(t, "teacher.model="+path))
	for _, combine := range []string{"average", "{by: weights, weights: [1, 3]}", "confidence", "{by: confidence, of: entropy}", "agreement"} {
		both := trained(t, learning(t, []string{path, path}, "combine="+combine))
		same(t, both.Store, alone.Store)
		if a, b := timeless(both.State.History), timeless(alone.State.History); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: metrics %+v, want %+v", combine, a, b)
		}
	}
	other := linearTeacher(t, 2, nil)
	same(t, trained(t, learning(t, []string{other, path}, "combine={by: weights, weights: [0, 1]}")).Store, alone.Store)
	if r := learning(t, []string{path, other}); r.Combine.By != "average" {
		t.Errorf("teachers without a rule are combined by %q", r.Combine.By)
	}
}

func TestEachRuleTeachesInItsOwnWay(t *testing.T) {
	a, b := linearTeacher(t, 1, nil), linearTeacher(t, 2, nil)
	seen := map[string]string{}
	for _, combine := range []string{"average", "{by: average, temperature: 4}", "{by: weights, weights: [1, 3]}", "confidence",
		"{by: confidence, of: entropy}", "agreement"} {
		run := trained(t, learning(t, []string{a, b}, "combine="+combine, "epochs=1"))
		kd := fmt.Sprint(run.State.History[0].Terms)
		if other, ok := seen[kd]; ok {
			t.Errorf("%s and %s have the losses %s", combine, other, kd)
		}
		seen[kd] = combine
	}
}

func TestClassMapUndoesAnotherOrderOfTheClasses(t *testing.T) {
	order := []int{7, 2, 9, 0, 4, 1, 3, 8, 6, 5} // of which class the i-th is
	classes := make([]string, 10)
	for i, from := range order {
		classes[from] = fmt.Sprint(i)
	}
	plain, moved := linearTeacher(t, 1, nil), linearTeacher(t, 1, order)
	class := "teacher.classes=[" + strings.Join(classes, ", ") + "]"
	want := trained(t, recipe(t, "teacher.model="+plain))
	same(t, trained(t, recipe(t, "teacher.model="+moved, class)).Store, want.Store)

	// Its cache holds what it says in the data's order, and is refused for another.
	folder := filepath.Join(t.TempDir(), "cache")
	same(t, trained(t, recipe(t, append(keep(folder, true), "teacher.model="+moved, class)...)).Store, want.Store)
	same(t, silent(t, recipe(t, append(keep(folder, false), "teacher.model="+moved, class)...)).Store, want.Store)
	_, err := Open(recipe(t, append(keep(folder, false), "teacher.model="+moved)...), Options{})
	wants(t, err, folder, "class map")
}

func TestRunUnderSeveralTeachersResumesBitIdentically(t *testing.T) {
	small := linearTeacher(t, 1, nil)
	set := func() *Recipe {
		return learning(t, []string{resnet, small}, "combine={by: confidence, temperature: 4}", "batch=48", "losses=[{loss: ce}, {loss: kd}, {loss: rkd}]")
	}
	want := trained(t, set())
	r := set()
	interrupted(t, r, Options{}, 4) // inside the second epoch
	run := open(t, r, Options{Resume: true})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	same(t, run.Store, want.Store)
	if a, b := timeless(run.State.History), timeless(want.State.History); !reflect.DeepEqual(a, b) {
		t.Errorf("metrics %+v, want %+v", a, b)
	}

	// The exported student says whose it is.
	m := exported(t, run)
	card, ok, err := data.ReadCard(m.Metadata())
	if err != nil || !ok {
		t.Fatalf("card %v, %v", ok, err)
	}
	if want := run.Teachers[0].SHA256() + " " + run.Teachers[1].SHA256(); card.TeacherSHA256 != want {
		t.Errorf("the card names the teachers %s, want %s", card.TeacherSHA256, want)
	}
}

func TestEachTeacherMayHaveACache(t *testing.T) {
	a, b := linearTeacher(t, 1, nil), linearTeacher(t, 2, nil)
	dir := t.TempDir()
	of := func(path, folder string, write bool) string {
		return fmt.Sprintf("{model: %s, cache: {folder: %s, write: %v}}", path, filepath.Join(dir, folder), write)
	}
	live := trained(t, learning(t, []string{a, b}, "combine=confidence"))
	for _, tt := range []struct {
		name     string
		teachers []string
	}{
		{"one cold", []string{a, of(b, "b", true)}},
		{"one cold, one warm", []string{of(a, "a", true), of(b, "b", false)}},
		{"warm", []string{of(a, "a", false), of(b, "b", false)}},
	} {
		run := open(t, learning(t, tt.teachers, "combine=confidence"), Options{})
		if tt.name == "warm" { // teachers that could answer nothing
			for _, t := range run.Teachers {
				t.Close()
			}
		}
		if err := run.Train(context.Background()); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		same(t, run.Store, live.Store)
		if run.State.Recipe != live.State.Recipe {
			t.Errorf("%s: a checkpoint is bound to\n%s\nand a live one to\n%s", tt.name, run.State.Recipe, live.State.Recipe)
		}
		run.Close()
	}
	// A cache is of its teacher alone: a run with that one takes it.
	alone := trained(t, recipe(t, "teacher.model="+b))
	same(t, silent(t, recipe(t, append(keep(filepath.Join(dir, "b"), false), "teacher.model="+b)...)).Store, alone.Store)
}

func TestReportListsEveryTeacher(t *testing.T) {
	a, b := linearTeacher(t, 1, nil), linearTeacher(t, 2, nil)
	report, err := Execute(context.Background(), learning(t, []string{a, b}, "epochs=1"), Options{}, true)
	if err != nil {
		t.Fatal(err)
	}
	if report.Teacher != nil || len(report.Teachers) != 2 || report.Teachers[0].File != a || report.Teachers[1].File != b {
		t.Errorf("teachers %+v, %+v", report.Teacher, report.Teachers)
	}
	if report.Student.Agreement == nil || report.Labels == nil || report.Labels.Agreement == nil {
		t.Errorf("the students %+v, %+v agree with nobody", report.Student, report.Labels)
	}
}

func TestAgreementIsTheMeanOverTeachers(t *testing.T) {
	m := &measured{predictions: []int{1, 2, 3, 4}}
	m.agree([]*measured{{predictions: []int{1, 2, 3, 0}}, {predictions: []int{0, 2, 0, 0}}})
	if *m.Agreement != 0.5 {
		t.Errorf("agreement %v, want 0.5", *m.Agreement)
	}
}

func TestAnotherSecondTeacherIsRefusedOnResume(t *testing.T) {
	a, b := linearTeacher(t, 1, nil), linearTeacher(t, 2, nil)
	r := learning(t, []string{a, b})
	interrupted(t, r, Options{}, 3)
	m := read(t, b)
	m.SetMetadata("author", "another")
	if err := m.Write(b); err != nil {
		t.Fatal(err)
	}
	refused(t, r, lastFile, "another teacher", b)
	other := learning(t, []string{a, b}, "combine=agreement")
	other.Output = r.Output
	refused(t, other, "by: average", "by: agreement")
}

func TestTeachersThatCannotBeCombinedAreRefused(t *testing.T) {
	a := linearTeacher(t, 1, nil)
	for _, tt := range []struct {
		overrides []string
		words     []string
	}{
		{[]string{"teacher.model=a", "teachers=[{model: a}, {model: b}]"}, []string{"a teacher, and", "one of the two"}},
		{[]string{"teacher.model=a", "combine=average"}, []string{"no teachers", "teachers: [{model"}},
		{[]string{"teachers=[{model: a}, {batch: 2}]"}, []string{"teachers.1.model is missing"}},
		{[]string{"teachers=[{model: a}, {model: b}]", "combine=mean"}, []string{"combine", "mean", "average, weights, confidence, agreement"}},
		{[]string{"teachers=[{model: a}, {model: b}]", "combine={by: weights, weights: [1, 2, 3]}"}, []string{"3 numbers for 2 teachers"}},
		{[]string{"teachers=[{model: a}, {model: b}]", "combine=weights"}, []string{"combine", "a number for each teacher"}},
		{[]string{"teachers=[{model: a}, {model: b}]", "combine={by: average, of: label}"}, []string{"of", "combine"}},
		{[]string{"teachers=[{model: a, cache: {folder: c}}, {model: b, cache: {folder: c}}]"}, []string{"teachers.0 and teachers.1", "cache folder, c"}},
		{[]string{"teachers=[{model: a, classes: [1, 1]}]"}, []string{"teachers.0", "twice"}},
		{[]string{"teachers=[{model: " + a + "}, {model: none.onnx}]"}, []string{"none.onnx"}},
		{[]string{"teachers=[{model: " + a + "}, {model: " + a + ", classes: [0, 10]}]"}, []string{"classes.1", "0 to 9"}},
	} {
		r, err := LoadRecipe("", append([]string{"data.source=cifar10:" + tiny, "output=" + filepath.Join(t.TempDir(), "run")}, tt.overrides...))
		if err == nil {
			var run *Run
			if run, err = Open(r, Options{}); err == nil {
				run.Close()
			}
		}
		wants(t, err, tt.words...)
	}
	_, err := OpenCaching(learning(t, []string{a, a}))
	wants(t, err, "several teachers", "the only teacher")
}

func TestRecipeOfOneTeacherSaysNothingOfSeveral(t *testing.T) {
	text, err := parsed(t, someData+"teacher: {model: t.onnx}\n").Text()
	if err != nil || strings.Contains(text, "teachers") || strings.Contains(text, "combine") || strings.Contains(text, "classes") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, name := range (Combine{}).Choices() {
		settings := ""
		if name == "weights" {
			settings = ", weights: [1, 2]"
		}
		r := parsed(t, someData+"teachers: [{model: a, classes: [1, 0]}, {model: b, size: [4, 4]}]\ncombine: {by: "+name+settings+"}\n")
		text, err := r.Text()
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed(t, text); !reflect.DeepEqual(got, r) {
			t.Errorf("it decodes from\n%s\nto %+v", text, got)
		}
	}
	if r := parsed(t, someData+"teachers: [{model: a}, {model: b}]\n"); len(r.Losses) != 2 {
		t.Errorf("under several teachers the losses are %v", r.Losses)
	}
	if l := parsed(t, someData+"teachers: [{model: a}, {model: b}]\n").LabelsOnly("x"); l.Taught() || l.Combine.By != "" || l.check() != nil {
		t.Errorf("labels alone have teachers: %+v", l)
	}
}
