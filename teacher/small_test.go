package teacher

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"distill/data"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// small is a classifier of [N,3,4,4] into 6 classes that ends as its fields say.
type small struct {
	ending string // see describe
	fixed  int    // batch; 0: dynamic
	meta   map[string]string
}

func (s small) describe(g *graph.Graph) {
	normal := func(values []float32, _ graph.Shape, rng *rand.Rand) {
		for i := range values {
			values[i] = float32(rng.NormFloat64())
		}
	}
	x := g.Input("image", graph.Float32, max(2, s.fixed), 3, 4, 4)
	pooled := op.GlobalAveragePool(op.Conv(x, g.Param("w", graph.Shape{6, 3, 3, 3}, normal), nil, op.ConvAttrs{}))
	z := op.Flatten(pooled)
	switch s.ending {
	case "logits":
		g.Output("out", op.Scale(z, 3))
	case "softmax":
		g.Output("out", op.Softmax(op.Scale(z, 3), 1))
	case "log_softmax":
		g.Output("out", op.LogSoftmax(op.Scale(z, 3), -1))
	case "written out softmax":
		e := op.Exp(op.Scale(z, 3))
		g.Output("out", op.Div(e, op.ReduceSum(e, []int{1}, true)))
	case "written out log_softmax":
		z = op.Scale(z, 3)
		g.Output("out", op.Sub(z, op.Log(op.ReduceSum(op.Exp(z), []int{1}, true))))
	case "softmax over the batch":
		g.Output("out", op.Softmax(op.Scale(z, 3), 0))
	case "[N,K,1,1]":
		g.Output("out", op.Scale(pooled, 3))
	case "features first":
		g.Output("features", x)
		g.Output("out", op.Softmax(op.Scale(z, 3), 1))
	case "features only":
		g.Output("features", op.Relu(x))
		g.Output("mean", op.ReduceMean(z, nil, false))
	case "one class":
		g.Output("out", op.ReduceMean(z, []int{1}, true))
	case "two inputs":
		g.Output("out", op.Mul(z, g.Input("mask", graph.Float32, 1, 6)))
	case "transposed tap":
		g.Output("turned", op.Transpose(z, 1, 0))
		g.Output("out", op.Scale(z, 3))
	}
}

// write puts the model in a file and returns its path. All endings have the same weights.
func (s small) write(t testing.TB) string {
	t.Helper()
	p, err := graph.Build(graph.Inference, s.describe)
	if err != nil {
		t.Fatal(err)
	}
	l := onnx.Lowering{}
	if s.fixed == 0 {
		l.Batch = "batch"
	}
	return written(t, p, l, s.meta)
}

// written puts a program in a file, with weights drawn from seed 1, and returns its path.
func written(t testing.TB, p *graph.Program, l onnx.Lowering, meta map[string]string) string {
	t.Helper()
	l.Store = new(graph.Store)
	if err := p.Fill(l.Store, 1); err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Lower(p, l)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range meta {
		m.SetMetadata(key, value)
	}
	path := filepath.Join(t.TempDir(), "small.onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func smallBatch(n int) *data.Batch { return noiseImages(n, 4) }

// noiseImages are n images of noise, of 3 channels and a size.
func noiseImages(n, size int) *data.Batch {
	b := &data.Batch{X: make([]float32, n*3*size*size), Shape: [4]int{n, 3, size, size}}
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range b.X {
		b.X[i] = float32(rng.IntN(256))
	}
	return b
}

// softened is softmax(z/T) of each row.
func softened(z []float32, k int, temperature float64) []float64 {
	p := make([]float64, len(z))
	for row := 0; row < len(z); row += k {
		sum := 0.0
		for i := row; i < row+k; i++ {
			p[i] = math.Exp(float64(z[i]) / temperature)
			sum += p[i]
		}
		for i := row; i < row+k; i++ {
			p[i] /= sum
		}
	}
	return p
}

func TestLogitsAreFoundWhateverTheEnding(t *testing.T) {
	b := smallBatch(7)
	want := forward(t, open(t, Options{Model: small{ending: "logits"}.write(t)}), b).Logits
	for _, c := range []struct {
		ending, output string
		exact          bool // the logits themselves, not up to a constant per row
	}{
		{"logits", "logits", true},
		{"[N,K,1,1]", "logits", true},
		{"softmax", "softmax", true},
		{"log_softmax", "log_softmax", true},
		{"features first", "softmax", true},
		{"written out softmax", "softmax", false},
		{"written out log_softmax", "log_softmax", false},
	} {
		t.Run(c.ending, func(t *testing.T) {
			teacher := open(t, Options{Model: small{ending: c.ending}.write(t)})
			if teacher.Output() != c.output || teacher.Classes() != 6 {
				t.Errorf("%s of %d classes, want %s of 6", teacher.Output(), teacher.Classes(), c.output)
			}
			got := forward(t, teacher, b).Logits
			if c.exact {
				near(t, got, want, 1e-6)
			}
			for _, temperature := range []float64{1, 4} {
				p, q := softened(got, 6, temperature), softened(want, 6, temperature)
				for i := range p {
					if math.Abs(p[i]-q[i]) > 1e-5 {
						t.Fatalf("at temperature %v, image %d class %d has probability %v, want %v", temperature, i/6, i%6, p[i], q[i])
					}
				}
			}
		})
	}
}

func TestSoftmaxOverAnotherAxisIsNoSoftmax(t *testing.T) {
	teacher := open(t, Options{Model: small{ending: "softmax over the batch"}.write(t)})
	if teacher.Output() != "logits" {
		t.Errorf("taken for %s", teacher.Output())
	}
}

// Pixels are so large that the exponentials of some classes vanish, and those of some images of noise overflow.
func TestVanishingProbabilityHasAFiniteLogit(t *testing.T) {
	scale := 6.0 / 255
	teacher := open(t, Options{Model: small{ending: "written out softmax"}.write(t), Scale: &scale})
	if teacher.Output() != "softmax" {
		t.Fatalf("taken for %s", teacher.Output())
	}
	logits := forward(t, teacher, smallBatch(1)).Logits
	least := slices.Min(logits)
	if want := float32(math.Log(smallest)); least != want || want < -87.4 || want > -87.3 {
		t.Errorf("the least logit is %v, want %v", least, want)
	}

	scale = 1e3
	_, err := Open(Options{Model: teacher.Path(), Scale: &scale}, data.DefaultPreprocess(), 1)
	wantError(t, err, `output "out" is NaN for each of 5 images of noise`, "the model's own mean")
}

func TestFixedBatchIsPaddedAndCut(t *testing.T) {
	want := forward(t, open(t, Options{Model: small{ending: "logits"}.write(t), Taps: []string{"Conv*"}}), smallBatch(8))
	fixed := open(t, Options{Model: small{ending: "logits", fixed: 3}.write(t), Taps: []string{"Conv*"}})
	for n := 1; n <= 8; n++ { // below, at and above the batch, and multiples of it
		got := forward(t, fixed, smallBatch(n))
		near(t, got.Logits, want.Logits[:n*6], 1e-6)
		for name, tap := range got.Taps {
			if !tap.Shape.Equal(graph.Shape{n, 6, 2, 2}) {
				t.Fatalf("tap %s is %v for %d images", name, tap.Shape, n)
			}
			near(t, tap.F, want.Taps[name].F[:n*6*2*2], 1e-6)
		}
	}
	_, err := Open(Options{Model: fixed.Path(), Batch: 2}, data.DefaultPreprocess(), 1)
	wantError(t, err, "batch 2 is below the file's fixed batch of 3", "leave teacher.batch out")
}

func TestUnsuitableModelIsNamedWithTheWayOut(t *testing.T) {
	for _, c := range []struct {
		model small
		opts  Options
		words []string
	}{
		{small{ending: "two inputs"}, Options{}, []string{`it has 2 inputs: "image" float32[batch,3,4,4], "mask" `, "as its only input"}},
		{small{ending: "features only"}, Options{}, []string{`"features" float32[batch,3,4,4], "mean" float32[`, "[N,K]", "with its head"}},
		{small{ending: "one class"}, Options{}, []string{`output "out" is [5,1] for 5 images`, "with its head"}},
		{small{ending: "transposed tap"}, Options{Taps: []string{"turned"}}, []string{`tensor "turned": it is float32[6,5] for 5 images`, "such as *Relu*"}},
		{small{ending: "logits"}, Options{Taps: []string{"Cnov*"}}, []string{`tap "Cnov*"`, "no such tensor", "Conv_0"}},
		{small{ending: "logits"}, Options{Provider: "tpu"}, []string{`provider "tpu" is unknown`, "cpu, cuda"}},
		{small{ending: "logits"}, Options{Batch: -1}, []string{"batch -1 is below 0"}},
		{small{ending: "logits"}, Options{Size: []int{8, 8}}, []string{`its size is given as 8×8, but input "image" is float32[batch,3,4,4]`, "the size that the model takes"}},
		{small{ending: "logits"}, Options{Mean: []float64{0.1}}, []string{`input "image" is float32[batch,3,4,4]: data: preprocess: mean has 1 values for 3-channel images`, "one value a channel"}},
		{small{ending: "logits"}, Options{Std: []float64{1, 0, 1}}, []string{"0 is out of range", "the model's own mean"}},
		{small{ending: "logits"}, Options{Channels: 1}, []string{"the model takes 3-channel images, the data has 1-channel ones", "same number of channels"}},
		{small{ending: "logits", meta: map[string]string{"distill.version": "9"}}, Options{}, []string{`distill.version is "9"`, "use the distill that wrote"}},
		{small{ending: "logits", meta: data.Card{Preprocess: data.DefaultPreprocess(), Classes: []string{"a", "b"}}.Metadata()}, Options{}, []string{"names 2 classes, but it has 6 logits"}},
	} {
		c.opts.Model = c.model.write(t)
		_, err := Open(c.opts, data.DefaultPreprocess(), 1)
		wantError(t, err, append(c.words, "teacher: ")...)
	}
}

func TestPreprocessingComesFromOptionsThenCardThenDefault(t *testing.T) {
	card := data.Card{
		Preprocess: data.Preprocess{Mean: []float64{1, 2, 3}, Std: []float64{4, 5, 6}, Scale: 0.5, Size: []int{4, 4}},
		Classes:    []string{"a", "b", "c", "d", "e", "f"},
	}
	defaults := data.Preprocess{Mean: []float64{9, 9, 9}, Scale: 9, Size: []int{9, 9}}
	scale := 0.25
	plain, carded := small{ending: "logits"}.write(t), small{ending: "logits", meta: card.Metadata()}.write(t)
	for _, c := range []struct {
		name string
		opts Options
		want data.Preprocess
	}{
		{"default, its size apart", Options{Model: plain}, data.Preprocess{Mean: []float64{9, 9, 9}, Scale: 9}},
		{"card", Options{Model: carded}, card.Preprocess},
		{"options in parts", Options{Model: carded, Std: []float64{7, 7, 7}, Scale: &scale},
			data.Preprocess{Mean: []float64{1, 2, 3}, Std: []float64{7, 7, 7}, Scale: 0.25, Size: []int{4, 4}}},
	} {
		teacher, err := Open(c.opts, defaults, 1)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := teacher.Preprocess(); !equalJSON(t, got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
		if _, ok := teacher.Card(); ok != (c.opts.Model == carded) {
			t.Errorf("%s: card found: %v", c.name, ok)
		}
		teacher.Close()
	}

	teacher, err := Open(Options{Model: carded}, defaults, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer teacher.Close()
	if err := teacher.Check(card.Classes, 3, 4, 4); err != nil {
		t.Error(err)
	}
	if err := teacher.Check([]string{"1", "2", "3", "4", "5", "6"}, 3, 9, 9); err != nil { // other names, and size stretches
		t.Error(err)
	}
	wantError(t, teacher.Check([]string{"a", "c", "b", "d", "e", "f"}, 3, 4, 4), `class 1 is "b" to the model and "c" in the data`, `"a" "b" "c"`)
}

// rewrite replaces bytes of a model file that occur just so often, and returns the path of the result.
func rewrite(t testing.TB, path, old, new string, times int) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte(old)); n != times {
		t.Fatalf("%q occurs %d times, want %d", old, n, times)
	}
	path = filepath.Join(t.TempDir(), "rewritten.onnx")
	if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(old), []byte(new)), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// Sizes of an axis as protobuf writes them: Dimension{dim_value: 3} and so on, and Dimension{dim_param: ""}.
const (
	axis0, axis3, axis4 = "\x0a\x02\x08\x00", "\x0a\x02\x08\x03", "\x0a\x02\x08\x04"
	axisFree            = "\x0a\x02\x12\x00"
)

func TestInputThatIsNoImageIsRefused(t *testing.T) {
	whole := small{ending: "logits"}.write(t)
	image := axis3 + axis4 + axis4
	for _, c := range []struct {
		path  string
		words []string
	}{
		{rewrite(t, whole, image, axis4+axis4+axis3, 1), []string{`input "image" is float32[batch,4,4,3]`, "looks like [N,H,W,C]"}},
		{rewrite(t, whole, image, axisFree+axis4+axis4, 1), []string{"float32[batch,?,4,4]", "leaves the number of channels free"}},
		{rewrite(t, whole, image, axis3+axis0+axis4, 1), []string{"float32[batch,3,0,4]", "has no elements"}},
	} {
		_, err := Open(Options{Model: c.path}, data.DefaultPreprocess(), 1)
		wantError(t, err, append(c.words, "with one input, float32 images [N,C,H,W]")...)
	}
}

func TestExternalDataIsRefused(t *testing.T) {
	whole, err := os.ReadFile(small{ending: "logits"}.write(t))
	if err != nil {
		t.Fatal(err)
	}
	// A second graph field merges into the first: an initializer "ext", float32[1], with its location in "w.bin".
	ext := "\x3a\x20\x2a\x1e\x08\x01\x10\x01\x42\x03ext\x6a\x11\x0a\x08location\x12\x05w.bin\x70\x01"
	path := filepath.Join(t.TempDir(), "external.onnx")
	if err := os.WriteFile(path, append(whole, ext...), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Model: path}, data.DefaultPreprocess(), 1)
	wantError(t, err, path, "external data", "save_as_external_data=False")
}

func TestFreeSizeOfImagesIsAskedFor(t *testing.T) {
	whole := small{ending: "logits"}.write(t) // the lowering always fixes the size
	path := rewrite(t, whole, axis4, axisFree, 2)
	_, err := Open(Options{Model: path}, data.DefaultPreprocess(), 1)
	wantError(t, err, "leaves the size of its images free", "teacher.size=[224,224]")
	_, err = Open(Options{Model: path, Size: []int{8192, 8192}}, data.DefaultPreprocess(), 1)
	wantError(t, err, "5 images of 3×8192×8192 have over 268435456 elements")

	defaults := data.DefaultPreprocess()
	defaults.Size = []int{4, 4}
	teacher, err := Open(Options{Model: path}, defaults, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer teacher.Close()
	b := smallBatch(2)
	near(t, forward(t, teacher, b).Logits, forward(t, open(t, Options{Model: whole}), b).Logits, 1e-6)
}
