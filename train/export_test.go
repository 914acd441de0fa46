package train

import (
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"distill/data"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

var update = flag.Bool("update", false, "rewrite testdata/goldens/student.onnx")

func exported(t *testing.T, run *Run) *onnx.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "student.onnx")
	p, err := run.Export(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.Images != valImages || !(p.MaxDiff <= p.Limit) || p.Limit < (runtime.Provider{}).Parity() || p.Flipped != 0 {
		t.Errorf("parity %+v", p)
	}
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestExportedFileIsPlainFoldedAndOfAnyBatch(t *testing.T) {
	for _, arch := range []string{
		"student={arch: resnet8, width: 4}",
		"student={arch: resnet8, width: 4, shortcut: B}",
		"student={arch: cnn, widths: [4, 6]}",
		"student={arch: mlp, hidden: [8]}",
	} {
		run := trained(t, recipe(t, "epochs=1", arch))
		m := exported(t, run)
		if d := m.Domains(); !reflect.DeepEqual(d, map[string]int{"ai.onnx": 17}) {
			t.Errorf("%s: operator sets %v", arch, d)
		}
		if a := m.Audit(); a.BatchNormNodes != 0 || len(a.CustomDomains) != 0 || !a.DynamicBatch || a.ExternalData || a.Output != "logits" {
			t.Errorf("%s: %+v", arch, a)
		}
		in, out := m.Inputs(), m.Outputs()
		if len(in) != 1 || in[0].Name != imagesInput || in[0].Shape[0].Name != "batch" || len(out) != 1 || out[0].Name != logitsOutput {
			t.Errorf("%s: inputs %+v, outputs %+v", arch, in, out)
		}
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		s, err := runtime.NewSession(b, runtime.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, n := range []int{1, 3, 65} {
			got, err := s.Run(map[string]graph.Tensor{imagesInput: graph.NewTensor(graph.Float32, n, 3, 32, 32)})
			if err != nil || !got[logitsOutput].Shape.Equal(graph.Shape{n, 10}) {
				t.Errorf("%s: batch %d gives %v, %v", arch, n, got[logitsOutput].Shape, err)
			}
		}
	}
}

func TestExportedFileCarriesItsCard(t *testing.T) {
	run := open(t, recipe(t, "teacher.model="+resnet), Options{})
	m := exported(t, run)
	card, ok, err := data.ReadCard(m.Metadata())
	if err != nil || !ok {
		t.Fatalf("card %v, %v", ok, err)
	}
	_, sha, err := run.Recipe.Identity()
	if err != nil {
		t.Fatal(err)
	}
	want := data.Card{Preprocess: run.Recipe.Preprocess, Classes: run.Splits.Train.Classes(), RecipeSHA256: sha, TeacherSHA256: run.Teacher.SHA256()}
	if !reflect.DeepEqual(card, want) {
		t.Errorf("card %+v, want %+v", card, want)
	}
}

func TestBatchSizeLeavesNoTraceInTheFile(t *testing.T) {
	bytes := func(r *Recipe, batch int) string {
		m, err := open(t, r, Options{}).model(batch)
		if err != nil {
			t.Fatal(err)
		}
		m.SetMetadata("distill.recipe_sha256", "") // the recipe's batch does belong in there
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, arch := range []string{
		"student={arch: resnet8, width: 4}", "student={arch: resnet8, width: 4, shortcut: B}",
		"student={arch: cnn, widths: [4, 6]}", "student={arch: mlp, hidden: [8]}",
	} {
		want := bytes(recipe(t, arch), 2)
		for _, other := range []string{bytes(recipe(t, arch), 3), bytes(recipe(t, arch), 1), bytes(recipe(t, arch, "batch=40"), 2)} {
			if other != want {
				t.Errorf("%s: the files differ", arch)
			}
		}
	}
}

// corrupt is a copy of the store in which one weight is off by 1.
func corrupt(s *graph.Store) *graph.Store {
	c := s.Clone()
	v, _ := c.Tensor("linear.bias")
	v.F[3]++
	return c
}

func TestFileThatDisagreesWithTheTrainerIsNotWritten(t *testing.T) {
	run := trained(t, recipe(t))
	good, err := run.model(2)
	if err != nil {
		t.Fatal(err)
	}
	// The trainer's network still reads its own store; the file is made from the copy.
	run.Store = corrupt(run.Store)
	path := filepath.Join(t.TempDir(), "student.onnx")
	_, err = run.Export(path)
	isParityError(t, err)
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}

	if err := good.Write(path); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	_, err = run.Export(path)
	isParityError(t, err)
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file from before is lost")
	}
}

func isParityError(t *testing.T, err error) {
	t.Helper()
	var bad *ParityError
	if !errors.As(err, &bad) {
		t.Fatalf("error %v", err)
	}
	if bad.ExitCode() != 3 || bad.Images != valImages || math.Abs(bad.MaxDiff-1) > 1e-3 {
		t.Errorf("%+v, exit status %d", bad, bad.ExitCode())
	}
	wants(t, err, "train: export: ", "limit")
}

func TestOneWeightChangedInTheFileIsFound(t *testing.T) {
	run := trained(t, recipe(t))
	m, err := run.model(2)
	if err != nil {
		t.Fatal(err)
	}
	verify := func() error {
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		_, err = run.verify(b)
		return err
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	w, err := m.Initializer("layer2.0.conv1.weight")
	if err != nil {
		t.Fatal(err)
	}
	w.F[7] += 0.1
	m.SetInitializer("layer2.0.conv1.weight", w)
	var bad *ParityError
	if err := verify(); !errors.As(err, &bad) {
		t.Errorf("error %v", err)
	}
}

func TestParity(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name          string
		file, trainer []float32 // two classes
		ok            bool
	}{
		{"equal", []float32{1, 2, 3, 4}, []float32{1, 2, 3, 4}, true},
		{"within the tolerance", []float32{0.5, 0.10009}, []float32{0.5, 0.1}, true},
		{"beyond the tolerance", []float32{0.5, 0.10011}, []float32{0.5, 0.1}, false},
		{"relative to the largest logit", []float32{1000.09, 0}, []float32{1000, 0}, true},
		{"a tie may fall either way", []float32{1, 1.00005}, []float32{1.00005, 1}, true},
		{"NaN first", []float32{nan, 2, 3, 4}, []float32{1, 2, 3, 4}, false},
		{"NaN last", []float32{1, 2, 3, nan}, []float32{1, 2, 3, 4}, false},
		{"NaN in both", []float32{nan, 2}, []float32{nan, 2}, false},
		{"infinite in the file", []float32{inf, 2}, []float32{1, 2}, false},
		{"infinite in the trainer", []float32{1, 2}, []float32{inf, 2}, false},
		{"infinite in both", []float32{inf, 2}, []float32{inf, 2}, false},
	} {
		p, err := parity(c.file, c.trainer, 2, (runtime.Provider{}).Parity())
		var bad *ParityError
		if (err == nil) != c.ok || err != nil && !errors.As(err, &bad) {
			t.Errorf("%s: %v, %+v", c.name, err, p)
		}
	}
}

// TestExportedStudentIsThatOfTheGolden compares a student of fixed weights with the one that was kept. After -update, let
// onnx look at it: python3 -c 'import onnx; onnx.checker.check_model("testdata/goldens/student.onnx", full_check=True)'.
func TestExportedStudentIsThatOfTheGolden(t *testing.T) {
	const golden = "../testdata/goldens/student.onnx"
	run := open(t, recipe(t), Options{})
	for k, name := range run.Store.Names(graph.Param, graph.State) {
		v, _ := run.Store.Tensor(name)
		for i := range v.F {
			v.F[i] = float32(0.2 * math.Sin(0.7*float64(i)+float64(k)))
			if strings.HasSuffix(name, "running_var") {
				v.F[i]++
			}
		}
	}
	got := exported(t, run)
	got.SetMetadata("distill.recipe_sha256", strings.Repeat("0", 64)) // recipes grow
	if *update {
		if err := got.Write(golden); err != nil {
			t.Fatal(err)
		}
	}
	want, err := onnx.Read(golden)
	if err != nil {
		t.Fatal(err)
	}
	// The last bit of a folded weight may hang on the processor; all else must be equal.
	compared := 0
	for _, name := range run.Store.Names(graph.Param) {
		for _, name := range []string{name, strings.TrimSuffix(name, ".weight") + ".bias"} {
			w, err := want.Initializer(name)
			if err != nil {
				continue
			}
			g, err := got.Initializer(name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range w.F {
				if d := math.Abs(float64(g.F[i] - w.F[i])); !(d <= 1e-6) {
					t.Fatalf("%s[%d] is %v, want %v", name, i, g.F[i], w.F[i])
				}
			}
			got.SetInitializer(name, w)
			want.SetInitializer(name, w)
			compared++
		}
	}
	if compared < 16 { // the weight and bias of 7 convolutions and of the last layer
		t.Errorf("%d tensors in common", compared)
	}
	a, err := got.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("the files differ in more than weights: %d bytes, want %d", len(a), len(b))
	}
}
