package teacher

import (
	"slices"
	"testing"

	"distill/data"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// needWinograd skips a test where this machine has no convolution of Winograd's.
func needWinograd(t *testing.T) {
	t.Helper()
	if target, err := runtime.Probe(runtime.Options{}); err != nil || target.Winograd == graph.WinogradNever {
		t.Skipf("there is no convolution of Winograd's here: %+v, %v", target, err)
	}
}

// wide is a classifier of images [N,3,8,8] into 10 classes that has a convolution for Winograd's algorithm.
func wide(t *testing.T) string {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		pads := op.ConvAttrs{Pads: [4]int{1, 1, 1, 1}}
		x := op.Relu(op.Conv(g.Input("image", graph.Float32, 2, 3, 8, 8), g.Param("stem", graph.Shape{128, 3, 3, 3}, nn.Uniform(3*9)), nil, pads))
		x = op.Relu(op.Conv(x, g.Param("body", graph.Shape{128, 128, 3, 3}, nn.Uniform(128*9)), nil, pads))
		x = op.Flatten(op.GlobalAveragePool(x))
		g.Output("out", op.Scale(op.Gemm(x, g.Param("head", graph.Shape{10, 128}, nn.Uniform(128)), g.Param("bias", graph.Shape{10}, graph.Constant(0))), 30))
	})
	if err != nil {
		t.Fatal(err)
	}
	return written(t, p, onnx.Lowering{Batch: "batch"}, nil)
}

func TestTeacherOfAKnownNumberOfImagesSaysTheSame(t *testing.T) {
	needWinograd(t)
	o := Options{Model: wide(t), Mean: []float64{0.485, 0.456, 0.406}, Std: []float64{0.229, 0.224, 0.225}, Taps: []string{"*Relu*"}}
	plain := open(t, o)
	o.Images = 64 // 32 in a run, on two threads
	special := open(t, o)
	if plain.Specialized() != "" || special.Specialized() == "" {
		t.Fatalf("specialised: %q and %q, want the second alone", plain.Specialized(), special.Specialized())
	}
	if !slices.Equal(special.Taps(), plain.Taps()) || special.Output() != plain.Output() || special.SHA256() != plain.SHA256() {
		t.Error("it is taken for another teacher")
	}
	if again := open(t, o).Specialized(); again != special.Specialized() {
		t.Errorf("opened again, its form is %s, not %s", again, special.Specialized())
	}
	o.Images = 128
	if another := open(t, o).Specialized(); another == special.Specialized() {
		t.Error("for another number of images its form is the same")
	}
	images := noiseImages(33, 8)
	want := forward(t, plain, images)
	all := forward(t, special, images)
	for _, n := range []int{1, 31, 32, 33} {
		b := &data.Batch{X: images.X[:n*3*8*8], Shape: [4]int{n, 3, 8, 8}}
		got := forward(t, special, b)
		near(t, got.Logits, want.Logits[:n*10], 1e-4)
		if !slices.Equal(got.Logits, all.Logits[:n*10]) {
			t.Errorf("%d images: the logits depend on how many there are", n)
		}
		for _, name := range plain.Taps() {
			tap, whole := got.Taps[name], want.Taps[name]
			if tap.Shape[0] != n || !tap.Shape[1:].Equal(whole.Shape[1:]) {
				t.Fatalf("%d images: tap %s is %v", n, name, tap.Shape)
			}
			near(t, tap.F, whole.F[:len(tap.F)], 1e-4)
		}
	}
}

func TestTeacherIsSpecialisedWhereItPays(t *testing.T) {
	needWinograd(t)
	for _, c := range []struct {
		name string
		o    Options
		want bool
	}{
		{"a batch", Options{Model: wide(t), Images: 64}, true},
		{"a batch in parts", Options{Model: wide(t), Images: 64, Batch: 16}, true},
		{"any number", Options{Model: wide(t)}, false},
		{"one by one", Options{Model: wide(t), Images: 64, Batch: 1}, false},
		{"too many for any memory", Options{Model: wide(t), Images: 1 << 23}, false},
		{"few channels", Options{Model: resnet, Images: 64}, false},
	} {
		if got := open(t, c.o).Specialized() != ""; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	_, err := Open(Options{Model: wide(t), Images: -1}, data.DefaultPreprocess(), 0)
	wantError(t, err, "-1")
}
