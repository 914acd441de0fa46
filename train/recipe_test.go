package train

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"distill/losses"
	"distill/student"
	"distill/train/optim"
	"distill/train/schedule"
)

const someData = "data: {source: cifar10:somewhere}\n"

func parsed(t *testing.T, text string, overrides ...string) *Recipe {
	t.Helper()
	r, err := ParseRecipe([]byte(text), "recipe.yaml", overrides)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

func TestDefaultsOfEveryChoiceRoundTrip(t *testing.T) {
	var texts []string
	for _, f := range student.Table {
		name := append(f.Members, f.Name)[0]
		text := "student: {arch: " + name + "}\n"
		if name == "onnx" { // which its key implies
			text = "student: {onnx: ../testdata/goldens/student.onnx}\n"
		}
		texts = append(texts, text)
	}
	for _, row := range optim.Table {
		texts = append(texts, "optimizer: {name: "+row.Name+", lr: 0.003}\n")
	}
	for name := range schedule.Table {
		settings := ""
		if name == "step" {
			settings = ", milestones: [3, 5]"
		}
		texts = append(texts, "schedule: {name: "+name+settings+"}\n")
	}
	for _, row := range losses.Table {
		texts = append(texts, "teacher: {model: t.onnx}\nlosses: [{loss: "+row.Name+"}, {loss: "+row.Name+", weight: 0}]\n")
	}
	for _, text := range append(texts, "", "teacher: {model: t.onnx}\n") {
		want := parsed(t, someData+text)
		whole, err := want.Text()
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed(t, whole); !reflect.DeepEqual(got, want) {
			t.Errorf("%q decodes from\n%s\nto %+v", text, whole, got)
		}
		if again, err := parsed(t, whole).Text(); err != nil || again != whole {
			t.Errorf("%q: the text changes from\n%s\nto\n%s", text, whole, again)
		}
	}
}

func TestWithoutATeacherTheLabelsAreAllThereIs(t *testing.T) {
	terms := func(r *Recipe) string {
		s := ""
		for _, term := range r.Losses {
			s += fmt.Sprintf("%v %s ", term.Weight, term.Name)
		}
		return strings.TrimSpace(s)
	}
	for _, c := range []struct {
		text      string
		overrides []string
		want      string
	}{
		{"", nil, "1 ce"},
		{"teacher: {model: t.onnx}\n", nil, "0.1 ce 0.9 kd"},
		{"", []string{"teacher.model=t.onnx"}, "0.1 ce 0.9 kd"},
		{"", []string{"losses.0.weight=0.5"}, "0.5 ce"},
		{"losses: [{loss: ce, weight: 2}, {loss: ce}]\n", nil, "2 ce 1 ce"},
		{"teacher: {model: t.onnx}\n", []string{"losses.1.weight=0"}, "0.1 ce 0 kd"},
	} {
		if got := terms(parsed(t, someData+c.text, c.overrides...)); got != c.want {
			t.Errorf("%q %q: losses %q, want %q", c.text, c.overrides, got, c.want)
		}
	}
	with := parsed(t, someData+"teacher: {model: t.onnx}\nseed: 5\nepochs: 7\n")
	bare := with.LabelsOnly("elsewhere")
	if terms(bare) != "1 ce" || bare.Teacher.Model != "" || bare.Output != "elsewhere" {
		t.Errorf("labels alone: %+v", bare)
	}
	if terms(with) != "0.1 ce 0.9 kd" || with.Teacher.Model != "t.onnx" {
		t.Errorf("it changed the recipe: %+v", with)
	}
	bare.Output, bare.Teacher, bare.Losses = with.Output, with.Teacher, with.Losses
	if !reflect.DeepEqual(bare, with) {
		t.Error("it differs in more than teacher, losses and output")
	}
}

func TestOverridesComeAfterTheFile(t *testing.T) {
	r := parsed(t, someData+"optimizer: {name: sgd, lr: 0.5}\nepochs: 3\n", "optimizer.lr=0.05", "student.arch=cnn", "student.widths=[8]", "seed=0")
	if r.Optimizer.LR != 0.05 || r.Epochs != 3 || r.Seed != 0 || !reflect.DeepEqual(r.Student.Arch, &student.CNN{Widths: []int{8}}) {
		t.Errorf("%+v", r)
	}
}

func TestRecipesThatCannotBeAreRefusedAtTheirPlace(t *testing.T) {
	for _, c := range []struct {
		text  string
		words []string
	}{
		{"epochs: 3\nepoch: 4\n", []string{"recipe.yaml:2:1", `"epoch"`, `"epochs"`}},
		{"optimizer:\n  name: sgd\n  momentun: 0.5\n", []string{"recipe.yaml:3:3", `"momentun"`, `"momentum"`}},
		{"student: {arch: resnet8, widht: 3}\n", []string{"recipe.yaml:1:26", `"width"`}},
		{"student: {arch: resnetto}\n", []string{"recipe.yaml:1", "resnet"}},
		{"losses: [{loss: kdd}]\n", []string{"recipe.yaml:1", `"kd"`}},
		{"schedule: {name: cosin}\n", []string{"recipe.yaml:1", `"cosine"`}},
		{"epochs: many\n", []string{"recipe.yaml:1", "epochs"}},
		{someData + "engine: torch\n", []string{"engine must be onnxruntime or gorgonia", `"torch"`}},
		{someData + "epochs: 0\n", []string{"epochs must be in 1..1000000, not 0"}},
		{someData + "batch: 1\n", []string{"batch must be in 2..65536, not 1"}},
		{someData + "threads: -1\n", []string{"threads"}},
		{someData + "clip_norm: -1\n", []string{"clip_norm"}},
		{someData + "clip_norm: .inf\n", []string{"clip_norm"}},
		{someData + "checkpoint: {every: -1}\n", []string{"checkpoint.every"}},
		{someData + "output: ''\n", []string{"output"}},
		{someData + "losses: []\n", []string{"losses"}},
		{"", []string{"data.source", "--data"}},
	} {
		_, err := ParseRecipe([]byte(c.text), "recipe.yaml", nil)
		wants(t, err, append(c.words, "train: recipe")...)
	}
	_, err := ParseRecipe([]byte(someData), "recipe.yaml", []string{"optimizer.momentun=1"})
	wants(t, err, "optimizer.momentun=1", `"momentum"`)
}

func TestRecipeFileThatIsMissingOrHugeIsNamed(t *testing.T) {
	dir := t.TempDir()
	_, err := LoadRecipe(filepath.Join(dir, "none.yaml"), nil)
	wants(t, err, "none.yaml", "distill init")
	huge := filepath.Join(dir, "huge.yaml")
	if err := os.WriteFile(huge, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Skip(err)
	}
	_, err = LoadRecipe(huge, nil)
	wants(t, err, "huge.yaml", "bytes")
}

func TestIdentityLeavesOutWhatDoesNotBearOnTheWeights(t *testing.T) {
	sha := func(overrides ...string) string {
		_, sha, err := parsed(t, someData, overrides...).Identity()
		if err != nil {
			t.Fatal(err)
		}
		return sha
	}
	want := sha()
	for _, same := range []string{"output=elsewhere", "checkpoint.every=5"} {
		if sha(same) != want {
			t.Errorf("%s changes it", same)
		}
	}
	for _, other := range []string{"seed=2", "batch=32", "optimizer.weight_decay=0", "engine=gorgonia", "data.augment.crop=2"} {
		if sha(other) == want {
			t.Errorf("%s does not change it", other)
		}
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add(someData)
	f.Add("losses: [{loss: kd, temperature: 2}]\n" + someData)
	f.Add("student: {arch: cnn, widths: [1]}\noptimizer: {name: adamw, lr: 1}\nschedule: {name: step, milestones: [1]}\n" + someData)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecipe([]byte(text), "recipe.yaml", nil)
		if err != nil {
			return
		}
		whole, err := r.Text()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseRecipe([]byte(whole), "resolved.yaml", nil); err != nil {
			t.Fatalf("resolved to\n%s\nwhich is refused: %v", whole, err)
		} else if text, _ := again.Text(); text != whole {
			t.Fatalf("resolved to\n%s\nthen to\n%s", whole, text)
		}
	})
}
