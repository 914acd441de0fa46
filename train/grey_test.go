package train

import (
	"path/filepath"
	"testing"

	"distill/runtime/graph"
)

const fashion = "../testdata/fashion-mnist"

// grey is the recipe of a run on grey images: three steps an epoch.
func grey(t *testing.T, overrides ...string) *Recipe {
	t.Helper()
	return recipe(t, append([]string{"data.source=mnist:" + fashion, "data.train=train-images*[0:48]", "data.val=train-images*[48:96]",
		"data.augment={crop: 2, flip: true}", "preprocess={mean: [0.1307], std: [0.3081]}"}, overrides...)...)
}

// A network for grey images is trained and exported; its file teaches one of the same form, lifted from it.
func TestGreyImagesTrainANetworkAndTheOneLiftedFromItsFile(t *testing.T) {
	run := trained(t, grey(t, "student={arch: cnn, widths: [8, 16]}", "epochs=6", "optimizer.lr=0.05"))
	if h := run.State.History; !(h[5].Loss < h[0].Loss) {
		t.Errorf("the loss goes from %v to %v", h[0].Loss, h[5].Loss)
	}
	m := exported(t, run)
	if in := m.Inputs()[0].Shape; len(in) != 4 || !in[0].Dynamic() || in[1].Size != 1 || in[2].Size != 28 || in[3].Size != 28 {
		t.Errorf("the file takes %v", in)
	}
	path := filepath.Join(t.TempDir(), "student.onnx")
	if _, err := run.Export(path); err != nil {
		t.Fatal(err)
	}
	lifted := trained(t, grey(t, "student={onnx: "+path+"}", "teacher.model="+path, "epochs=1", "optimizer.lr=0.01"))
	if still := len(lifted.Store.Names(graph.Param)) - len(moved(t, lifted.Store, m)); still > 0 {
		t.Errorf("%d weights are the file's", still)
	}
	exported(t, lifted)
}

func TestChannelsThatDoNotFitAreNamed(t *testing.T) {
	for _, c := range []struct {
		name      string
		overrides []string
		words     []string
	}{
		{"preprocessing of colours", []string{"preprocess={mean: [0.5, 0.5, 0.5], std: [1]}"},
			[]string{"mean has 3 values for 1-channel images", "preprocess: {mean: [0.1307], std: [0.3081]}"}},
		{"a teacher of colours", []string{"teacher.model=" + resnet},
			[]string{"teacher: open " + resnet, "the model takes 3-channel images, the data has 1-channel ones", "same number of channels"}},
		{"a grey teacher with its preprocessing", []string{"data.source=cifar10:" + tiny, "data.train=data_batch_1.bin", "data.val=val.bin",
			"preprocess.mean=[]", "preprocess.std=[]", "teacher={model: ../models/mnist_cntk.onnx, mean: [0.1307], std: [0.3081]}"},
			[]string{"the model takes 1-channel images, the data has 3-channel ones"}},
		{"a student of colours", []string{"student={onnx: " + exports + "/mobilenet_v2.onnx}", "preprocess.size=[32, 32]"},
			[]string{"mobilenet_v2.onnx", "the network takes [batch 3 32 32]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(grey(t, c.overrides...), Options{})
			wants(t, err, c.words...)
		})
	}
}
