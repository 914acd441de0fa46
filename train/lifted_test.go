package train

import (
	"bytes"
	"context"
	"fmt"
	picture "image" // as an image is a shape here
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

const exports = "../testdata/exports"

// bring is the recipe of a student from a file, for three steps under the teacher.
func bring(t *testing.T, path string, overrides ...string) *Recipe {
	t.Helper()
	return recipe(t, append([]string{"student={onnx: " + path + "}", "teacher.model=" + resnet, "epochs=1", "optimizer.lr=0.01",
		"data.train=data_batch_1.bin[0:48]"}, overrides...)...)
}

func read(t *testing.T, path string) *onnx.Model {
	t.Helper()
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// moved lists the tensors of the store that a file has too, with other shapes or elements.
func moved(t *testing.T, s *graph.Store, m *onnx.Model) (names []string) {
	t.Helper()
	for _, name := range s.Names(graph.Param, graph.State) {
		got, _ := s.Tensor(name)
		was, err := m.Initializer(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Shape, was.Shape) || !slices.Equal(got.F, was.F) {
			names = append(names, name)
		}
	}
	return names
}

func TestNetworkFromPyTorchIsTrainedAndExported(t *testing.T) {
	for _, name := range []string{"mobilenet_v2", "mobilenet_v3", "efficientnet", "vit", "deit", "efficientnet_same", "resnet_d"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(exports, name+".onnx")
			run := trained(t, bring(t, path))
			if run.State.Step != 3 {
				t.Errorf("%d steps, want 3", run.State.Step)
			}
			if still := len(run.Store.Names(graph.Param)) - len(moved(t, run.Store, read(t, path))); still > 0 {
				t.Errorf("%d weights are the file's", still)
			}
			exported(t, run)
		})
	}
}

func TestInterruptedRunOfALiftedNetworkResumesBitIdentically(t *testing.T) {
	for _, c := range []struct {
		name      string
		overrides []string
	}{
		{"vit", nil},
		{"mobilenet_v3", []string{"student.batch_norm=true", "student.dropout=0.2"}},
	} {
		path := filepath.Join(exports, c.name+".onnx")
		want := trained(t, bring(t, path, c.overrides...))
		r := bring(t, path, c.overrides...)
		interrupted(t, r, Options{}, 2)
		run := open(t, r, Options{Resume: true})
		if err := run.Train(context.Background()); err != nil {
			t.Fatal(err)
		}
		same(t, run.Store, want.Store)
		exported(t, run)
	}
}

func TestFrozenWeightsStayTheFiles(t *testing.T) {
	path := filepath.Join(exports, "mobilenet_v2.onnx")
	run := trained(t, bring(t, path, "student.freeze=[onnx::*]")) // all but the head: folded convolutions have such names
	if got := moved(t, run.Store, read(t, path)); !slices.Equal(got, run.Store.Names(graph.Param)) || len(got) == 0 {
		t.Errorf("moved are %v, trained %v", got, run.Store.Names(graph.Param))
	}
	m := exported(t, run)
	for _, name := range run.Store.Names(graph.State) {
		v, err := m.Initializer(name)
		if kept, _ := run.Store.Tensor(name); err != nil || !slices.Equal(v.F, kept.F) {
			t.Errorf("%s is not exported as it was frozen: %v", name, err)
		}
	}
}

func TestLiftedNetworkGetsAHeadForTheDatasClasses(t *testing.T) {
	two := twoClasses(t)
	for _, c := range []struct {
		path string
		head []string
	}{
		{resnet, []string{"linear.bias", "linear.weight"}},
		{exports + "/mobilenet_v2.onnx", []string{"classifier.1.bias", "classifier.1.weight"}},
		{exports + "/mobilenet_v3.onnx", []string{"classifier.3.bias", "classifier.3.weight"}},
		{exports + "/efficientnet.onnx", []string{"classifier.1.bias", "classifier.1.weight"}},
		{exports + "/vit.onnx", []string{"heads.head.bias", "heads.head.weight"}},
		{exports + "/deit.onnx", []string{"head.bias", "head.weight", "head_dist.bias", "head_dist.weight"}},
	} {
		t.Run(filepath.Base(c.path), func(t *testing.T) {
			run := open(t, recipe(t, "data.source=folder:"+two, "student={onnx: "+c.path+"}", "epochs=1", "batch=8", "optimizer.lr=0.01"), Options{})
			if got := slices.Sorted(slices.Values(moved(t, run.Store, read(t, c.path)))); !slices.Equal(got, c.head) {
				t.Errorf("new are %v, want %v", got, c.head)
			}
			if err := run.Train(context.Background()); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "student.onnx")
			if p, err := run.Export(path); err != nil {
				t.Fatalf("%v; %+v", err, p)
			}
			if out := read(t, path).Outputs()[0].Shape; len(out) != 2 || out[1].Size != 2 {
				t.Errorf("the file gives %v", out)
			}
		})
	}
}

// twoClasses writes the airplanes and automobiles of tiny as PNG files in train, val and test folders.
func twoClasses(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	classes := []string{"airplane", "automobile"}
	for split, file := range map[string]string{"train": "data_batch_1.bin", "val": "val.bin", "test": "test_batch.bin"} {
		records, err := os.ReadFile(filepath.Join(tiny, file))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; len(records) > 0; i, records = i+1, records[3073:] {
			label, pixels := int(records[0]), records[1:3073]
			if label >= len(classes) {
				continue
			}
			m := picture.NewNRGBA(picture.Rect(0, 0, 32, 32))
			for p := range 1024 {
				m.SetNRGBA(p%32, p/32, color.NRGBA{pixels[p], pixels[1024+p], pixels[2048+p], 255})
			}
			var b bytes.Buffer
			if err := png.Encode(&b, m); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, split, classes[label], fmt.Sprintf("%03d.png", i))
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// Where DISTILL_TEACHERS names a folder, each network in it is trained and exported, or it is said why not.
func TestEveryTeacherIsTrainedAndExportedOrRefusedWithTheReason(t *testing.T) {
	dir := os.Getenv("DISTILL_TEACHERS")
	if dir == "" {
		t.Skip("DISTILL_TEACHERS names no folder of networks")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.onnx"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s has no networks: %v", dir, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			in := read(t, path).Inputs()[0].Shape
			if !in[0].Dynamic() {
				_, err := LoadRecipe("", []string{"student={onnx: " + path + "}", "data.source=cifar10:" + tiny})
				wants(t, err, path, fmt.Sprintf("fixes a batch of %v", in[0]), "dynamic_axes")
				return
			}
			few := []string{"batch=8", "optimizer.lr=0.001", fmt.Sprintf("preprocess.size=[%v, %v]", in[2], in[3])}
			r := bring(t, path, append(few, "data.train=data_batch_1.bin[0:24]")...)
			if in[1].Size == 1 {
				r = grey(t, append(few, "student={onnx: "+path+"}", "teacher.model="+path, "epochs=1", "data.train=train-images*[0:24]")...)
			}
			run := trained(t, r)
			if loss := run.State.History[0].Loss; math.IsNaN(loss) || run.State.Step != 3 {
				t.Errorf("the loss is %v after %d steps", loss, run.State.Step)
			}
			exported(t, run)
		})
	}
}

// A batch norm whose running statistics are frozen normalises by those, in training too, and leaves them as they are.
func TestFrozenBatchNormKeepsItsStatistics(t *testing.T) {
	const path = "../docs/tutorial/net.onnx"
	still := func(freeze string) (stem, other bool) {
		run := trained(t, recipe(t, "student={onnx: "+path+", freeze: ["+freeze+"]}", "epochs=1", "batch=16", "optimizer.lr=0.01"))
		m := read(t, path)
		same := func(name string) bool {
			was, err := m.Initializer(name)
			if err != nil {
				t.Fatal(err)
			}
			is, _ := run.Store.Tensor(name)
			return slices.Equal(was.F, is.F)
		}
		return same("stem.1.running_mean"), same("blocks.0.depthwise.1.running_mean")
	}
	if stem, other := still("'stem.*'"); !stem || other {
		t.Errorf("frozen statistics stay: %v; those of a layer that is trained stay: %v", stem, other)
	}
}
