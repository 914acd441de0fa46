package train

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distill/internal/safetensors"
	"distill/losses"
	"distill/losses/losstest"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// withLosses adds the losses of losstest to the table for a test.
func withLosses(t *testing.T) {
	t.Helper()
	kept := losses.Table
	t.Cleanup(func() { losses.Table = kept })
	losses.Table = slices.Concat(kept, losstest.Rows)
}

func TestTapsThatARecipeLeavesOpenAreChosenAndWrittenDown(t *testing.T) {
	withLosses(t)
	asked := recipe(t, "teacher.model="+resnet, "epochs=1", "losses=[{loss: ce}, {loss: test_hint}]")
	run := trained(t, asked)
	if len(asked.Losses[1].Taps) != 0 {
		t.Error("the caller's recipe was changed")
	}
	text, err := os.ReadFile(run.Folder.path(recipeFile))
	if err != nil {
		t.Fatal(err)
	}
	again := parsed(t, string(text))
	taps := again.Losses[1].Taps
	if len(taps) != 3 || taps[0].Student != "layer1" || taps[2].Student != "layer3" || taps[2].Adapter != "conv" || again.Losses[1].Weight != 3 {
		t.Fatalf("it wrote the terms %+v", again.Losses)
	}
	for i, want := range []graph.Shape{{16, 32, 32}, {32, 16, 16}, {64, 8, 8}} {
		if got := run.Teacher.TapShape(taps[i].Teacher); !got.Equal(want) {
			t.Errorf("%s is %v, want %v", taps[i].Teacher, got, want)
		}
	}
	if names := run.Store.Names(graph.Param); !slices.ContainsFunc(names, isLosses) {
		t.Errorf("no adapter was trained: %v", names)
	}
	m := exported(t, run)
	if lifted, err := m.Lift(onnx.Lifting{}); err != nil || slices.ContainsFunc(lifted.Weights(), func(w onnx.Weight) bool { return isLosses(w.Name) }) {
		t.Errorf("the adapter is exported, or %v", err)
	}
	path := filepath.Join(t.TempDir(), "weights.safetensors")
	if err := run.SaveWeights(path); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name := range f.Tensors {
		if isLosses(name) {
			t.Errorf("%s is among the student's weights", name)
		}
	}
	// They are what another run can start from, whatever its losses train of their own.
	open(t, recipe(t, "teacher.model="+resnet, "losses=[{loss: ce}, {loss: test_hint}]", "student.init="+path), Options{})
}

func TestInterruptedRunWithInnerTensorsResumesBitIdentically(t *testing.T) {
	withLosses(t)
	overrides := []string{"teacher.model=" + resnet, "losses=[{loss: ce}, {loss: test_hint}, {loss: test_bank}]"}
	want := trained(t, recipe(t, overrides...))
	r := recipe(t, overrides...)
	interrupted(t, r, Options{}, 13) // in the second epoch
	run := open(t, r, Options{Resume: true})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	same(t, run.Store, want.Store)
	if bank, ok := run.Store.Tensor("loss.test_bank.bank"); !ok || !bank.Shape.Equal(graph.Shape{trainImages, 10}) {
		t.Errorf("the bank is %v", bank.Shape)
	}
}

func TestScheduledKnobsMoveWithTheEpochs(t *testing.T) {
	withLosses(t)
	run := trained(t, recipe(t, "losses=[{loss: ce}, {loss: test_bank}]"))
	h := run.State.History
	if first, second := h[0].Terms[1].Value, h[1].Terms[1].Value; !(first > 0 && second > 0) {
		t.Errorf("the loss is %v, then %v", first, second)
	}
	for epoch, want := range []float32{0.5, 1} {
		run.State.Step = epoch * run.phase.Loader.Steps()
		it := &item{input: make([]float32, 16*3*32*32)}
		it.batch.Y, it.batch.Index = make([]int64, 16), make([]int, 16)
		in, err := run.stride().inputs(it)
		if err != nil || in["test_bank.pace"].F[0] != want {
			t.Errorf("epoch %d: the knob is %v, %v; want %v", epoch+1, in["test_bank.pace"], err, want)
		}
	}
}

func TestDeployedLossReplacesTheStudentsClassifier(t *testing.T) {
	withLosses(t)
	run := trained(t, recipe(t, "teacher.model="+resnet, "epochs=1", "losses=[{loss: test_kept}]"))
	names := func(m *onnx.Model) string {
		lifted, err := m.Lift(onnx.Lifting{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, w := range lifted.Weights() {
			names = append(names, w.Name)
		}
		return strings.Join(names, " ")
	}
	got := names(exported(t, run)) // on which the file agrees with the trainer
	if !strings.Contains(got, "loss.test_kept.projector.weight") || strings.Contains(got, "linear.weight") {
		t.Errorf("it exports %s", got)
	}
	again, err := Reopen(string(run.Folder), "last", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if other := names(exported(t, again)); other != got {
		t.Errorf("reopened, it exports %s", other)
	}
}

func TestTensorThatTwoLossesCompareIsOneInput(t *testing.T) {
	withLosses(t)
	run := open(t, recipe(t, "teacher.model="+resnet, "losses=[{loss: ce}, {loss: test_hint}, {loss: test_hint, weight: 1}]"), Options{})
	n := 0
	for _, l := range run.phase.Step.Inputs {
		if strings.HasPrefix(l.Name, tapInput("")) {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d inputs from the teacher, want 3", n)
	}
}

func TestStandardizedLogitsTeachToo(t *testing.T) {
	run := trained(t, recipe(t, "teacher.model="+resnet, "epochs=1", "losses=[{loss: ce}, {loss: kd, temperature: 2, weight: 9, standardize: true}]"))
	if kd := run.State.History[0].Terms[1].Value; !(kd > 0 && kd < 20) {
		t.Errorf("kd is %v", kd)
	}
}

// bare is a teacher of small images without a dense layer.
func bare(t *testing.T) string {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := nn.Conv{Name: "conv", In: 3, Out: 10, Kernel: 3, Pad: 1}.Apply(g, g.Input("images", graph.Float32, 2, 3, 32, 32))
		g.Output("logits", op.Flatten(op.GlobalAveragePool(x)))
	})
	if err != nil {
		t.Fatal(err)
	}
	store := &graph.Store{}
	if err := p.Fill(store, 1); err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Lower(p, onnx.Lowering{Store: store, Batch: "batch"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bare.onnx")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatALossCannotCompareIsRefusedBeforeTraining(t *testing.T) {
	withLosses(t)
	plain := bare(t)
	for _, c := range []struct {
		overrides []string
		words     []string
	}{
		{[]string{"losses=[{loss: test_hint}]"}, []string{"needs a teacher", "--teacher"}},
		{[]string{"losses=[{loss: test_hint, taps: [{student: layer1, teacher: x}]}]"}, []string{"needs a teacher"}},
		{[]string{"teacher.model=" + resnet, "losses=[{loss: test_hint, taps: [{student: layer4, teacher: logits}]}]"},
			[]string{"losses.0 (test_hint): taps.0", `no tap "layer4"`, "it has layer1"}},
		{[]string{"teacher.model=" + resnet, "losses=[{loss: test_hint, taps: [{student: layer3, teacher: nothing}]}]"}, []string{"nothing", "no such tensor", "nearest"}},
		{[]string{"teacher.model=" + resnet, "losses=[{loss: test_hint, taps: [{student: layer3, teacher: '*Relu*'}]}]"}, []string{"no tensor \"*Relu*\"", "inspect --taps"}},
		{[]string{"teacher.model=" + resnet, "losses=[{loss: test_hint, taps: [{student: layer3}]}]"}, []string{"one of the teacher"}},
		{[]string{"teacher.model=" + resnet, "losses=[{loss: test_hint, taps: [{student: layer3, teacher: x, adapter: convv}]}]"}, []string{"adapter must be", "conv"}},
		{[]string{"teacher.model=" + resnet, "student={arch: mlp}", "losses=[{loss: test_hint}]"}, []string{"test_hint", "mlp", "no tap that is a map", "taps:"}},
		{[]string{"teacher.model=" + plain, "losses=[{loss: test_kept}]"}, []string{"test_kept", "bare.onnx", "known to be a vector"}},
		{[]string{"teacher.model=" + plain, "losses=[{loss: test_kept, taps: [{student: pool, teacher: logits}]}]"},
			[]string{"test_kept", "bare.onnx", "come from a GlobalAveragePool", "another loss"}},
		{[]string{"teacher.model=" + plain, "losses=[{loss: test_kept, taps: [{student: pool, teacher: logits, adapter: linear}]}]"},
			[]string{"test_kept", "set adapter to none"}},
		{[]string{"teacher.model=" + resnet, "losses=[{loss: test_kept}, {loss: test_kept}]"}, []string{"one loss only"}},
	} {
		r, err := LoadRecipe("", append([]string{"data.source=cifar10:" + tiny, "output=" + filepath.Join(t.TempDir(), "run"),
			"epochs=1", "batch=16", "student={arch: resnet8, width: 4}"}, c.overrides...))
		if err == nil {
			var run *Run
			if run, err = Open(r, Options{}); err == nil {
				run.Close()
			}
		}
		wants(t, err, c.words...)
	}
}
