package runtime

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// TestONNXNodeCases lifts the single-operator cases of ONNX's backend tests and runs them on both engines: those kept in
// testdata always, all of them where DISTILL_ONNX_CASES names their archive. With -v it prints how many pass and why others
// are not run.
func TestONNXNodeCases(t *testing.T) {
	testInit(t)
	kept := conform(t, "../testdata/onnx-node")
	t.Logf("kept cases: %v", kept)
	if kept.passed < 250 {
		t.Errorf("%d kept cases pass, which is too few", kept.passed)
	}
	if archive := os.Getenv("DISTILL_ONNX_CASES"); archive != "" {
		t.Logf("%s: %v", filepath.Base(archive), conform(t, unpack(t, archive)))
	}
}

// outside is why a case is not run: it has nothing that a trained network has.
type outside string

func (o outside) Error() string { return string(o) }

// refused is the form of a lifted operator that lifting refuses.
type refused string

func (r refused) Error() string { return string(r) }

const constant = outside("constants alone, which lifting folds")

// expected are the refusals of lifting that are meant, by a part of the message.
var expected = []struct {
	message string
	reason  error
}{
	{"cannot be trained", outside("another operator")},
	{"of type GRAPH, which cannot be lifted", outside("another operator")},
	{"it does not depend on the input", constant},
	{"has no elements", outside("tensors without elements")},
	{"only images [N,C,H,W] can be", refused("windows of one or three dimensions")},
	{"ceil_mode is not supported", refused("ceil_mode")},
	{"column-major indices are not supported", refused("column-major indices")},
	{"dilated windows are not supported", refused("dilated pooling")},
	{"only the inference form", refused("batch norm in training mode")},
	{"only padding by zeros", refused("padding by other than zeros")},
	{"allowzero is not supported", refused("allowzero")},
	{"a step of -1 is not supported", refused("slicing backwards")},
	{"range {Axis:1 From:1000", refused("an empty slice")},
}

// tally counts cases.
type tally struct {
	passed, refused, failed, outside int
	reasons                          map[error]int
}

func (c tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d use operators that are lifted: %d pass, %d are refused, %d fail; %d lie outside",
		c.passed+c.refused+c.failed, c.passed, c.refused, c.failed, c.outside)
	for _, r := range c.sorted() {
		fmt.Fprintf(&b, "\n%5d %s: %v", c.reasons[r], strings.TrimPrefix(fmt.Sprintf("%T", r), "runtime."), r)
	}
	return b.String()
}

// sorted are the reasons, the most frequent first.
func (c tally) sorted() []error {
	return slices.SortedFunc(maps.Keys(c.reasons), func(x, y error) int {
		return cmp.Or(c.reasons[y]-c.reasons[x], cmp.Compare(x.Error(), y.Error()))
	})
}

// conform runs every case of a folder.
func conform(t *testing.T, folder string) tally {
	t.Helper()
	models, err := filepath.Glob(filepath.Join(folder, "*", "model.onnx"))
	if err != nil || len(models) == 0 {
		t.Fatalf("no cases in %s: %v", folder, err)
	}
	total := tally{reasons: map[error]int{}}
	for _, model := range models {
		dir := filepath.Dir(model)
		switch err := conforms(dir).(type) {
		case nil:
			total.passed++
		case refused:
			total.refused++
			total.reasons[err]++
		case outside:
			total.outside++
			total.reasons[err]++
		default:
			total.failed++
			t.Errorf("%s: %v", filepath.Base(dir), err)
		}
	}
	return total
}

// conforms runs one case: its inputs become tensors of the model, those of floats stored ones, so that no size is taken for
// the batch's, and its outputs of floats are compared.
func conforms(dir string) error {
	m, err := onnx.Read(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return err
	}
	for i, v := range m.Inputs() {
		if !slices.Contains([]string{"float32", "int64", "int32"}, v.DType) {
			return kindOf(v)
		}
		x, err := onnx.ReadTensor(filepath.Join(dir, "test_data_set_0", fmt.Sprintf("input_%d.pb", i)))
		if err != nil {
			return err
		}
		m.SetInitializer(v.Name, x)
	}
	want := map[string]graph.Tensor{}
	var outputs []string
	for i, v := range m.Outputs() {
		if v.DType != "float32" {
			continue
		}
		outputs = append(outputs, v.Name)
		want[v.Name], err = onnx.ReadTensor(filepath.Join(dir, "test_data_set_0", fmt.Sprintf("output_%d.pb", i)))
		if err != nil {
			return err
		}
	}
	if len(outputs) == 0 {
		return kindOf(m.Outputs()[0])
	}
	p, err := liftCase(m, outputs)
	if err == constant && len(outputs) > 1 { // the others are not lifted, as the statistics of a LayerNormalization
		p, err = liftCase(m, outputs[:1])
	}
	if err != nil {
		return err
	}
	if len(p.Stored) == 0 {
		return constant
	}
	for _, engine := range []Engine{Gorgonia, ONNXRuntime} {
		got, err := ran(p, engine)
		if err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
		for name, g := range got {
			if err := agree(g, want[name]); err != nil {
				return fmt.Errorf("%s: %s %w", engine, name, err)
			}
		}
	}
	return nil
}

// kindOf groups the types that no float32 network has.
func kindOf(v onnx.Value) outside {
	switch v.DType {
	case "":
		return "a sequence or an optional"
	case "string":
		return "strings"
	case "float16", "bfloat16", "float64":
		return "floats other than float32"
	}
	return "integers and booleans"
}

func liftCase(m *onnx.Model, outputs []string) (*graph.Program, error) {
	m, err := m.Only(outputs...)
	if err != nil {
		return nil, err
	}
	n, err := m.Lift(onnx.Lifting{})
	if err != nil {
		return nil, refusal(err)
	}
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		for name, y := range n.Build(g, nil) {
			g.Output(name, y)
		}
	})
	if err != nil {
		return nil, refusal(err)
	}
	return p, nil
}

// refusal is the reason that is expected for the message; the error itself where none is.
func refusal(err error) error {
	for _, e := range expected {
		if strings.Contains(err.Error(), e.message) {
			return e.reason
		}
	}
	return err
}

func ran(p *graph.Program, engine Engine) (map[string]graph.Tensor, error) {
	var store graph.Store
	if err := p.Fill(&store, 1); err != nil {
		return nil, err
	}
	step, err := Compile(p, &store, engine, Options{Threads: 1}, &graph.Target{})
	if err != nil {
		return nil, err
	}
	defer step.Close()
	return step.Run(nil)
}

func agree(got, want graph.Tensor) error {
	if !got.Shape.Equal(want.Shape) {
		return fmt.Errorf("is %v, want %v", got.Shape, want.Shape)
	}
	for i, w := range want.F {
		g, w := float64(got.F[i]), float64(w)
		if g != w && !(math.Abs(g-w) <= 1e-5*max(1, math.Abs(w))) && !(math.IsNaN(g) && math.IsNaN(w)) {
			return fmt.Errorf("[%d] is %g, want %g", i, g, w)
		}
	}
	return nil
}

// unpack extracts the cases of a .tar.gz archive and returns the folder that holds them.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	if err := extract(dir, archive); err != nil {
		t.Fatalf("unpack %s: %v", archive, err)
	}
	models, err := filepath.Glob(filepath.Join(dir, "*", "*", "model.onnx"))
	if err != nil || len(models) == 0 {
		t.Fatalf("unpack %s: it holds no FOLDER/CASE/model.onnx; %v", archive, err)
	}
	return filepath.Dir(filepath.Dir(models[0]))
}

func extract(dir, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // keeps every path inside
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(r, 16<<20))
		if err != nil {
			return err
		}
		if err := root.MkdirAll(filepath.Dir(h.Name), 0o700); err != nil {
			return err
		}
		if err := root.WriteFile(h.Name, b, 0o600); err != nil {
			return err
		}
	}
}
