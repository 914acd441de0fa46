package train

import (
	"slices"
	"testing"

	"distill/data"
	"distill/internal/strictyaml"
	"distill/student"
	"distill/teacher"
)

func TestProbeFindsWhatGoesTogether(t *testing.T) {
	for _, c := range []struct {
		file, student string
		kinds         [2]string // of student and teacher
		levels        [2]int
		loss          string
		adapters      []string // of the levels
	}{
		{resnet, "resnet8", [2]string{Map, Map}, [2]int{3, 3}, "reviewkd", []string{"none", "none", "none"}},
		{resnet, "vit_tiny4", [2]string{Tokens, Map}, [2]int{4, 3}, "ofa", []string{"map", "map", "map"}},
		{exports + "/vit.onnx", "resnet8", [2]string{Map, Tokens}, [2]int{3, 4}, "ofa", nil},
		{exports + "/vit.onnx", "vit_tiny8", [2]string{Tokens, Tokens}, [2]int{4, 4}, "vitkd", nil},
		{exports + "/deit.onnx", "resnet8", [2]string{Map, Tokens}, [2]int{3, 3}, "ofa", nil},   // two heads
		{exports + "/swin.onnx", "resnet8", [2]string{Map, Map}, [2]int{3, 1}, "reviewkd", nil}, // its patches alone: see stream
		{exports + "/efficientnet.onnx", "cnn", [2]string{Map, Map}, [2]int{3, 2}, "reviewkd", nil},
		{"../models/mnist_cntk.onnx", "cnn", [2]string{Map, Map}, [2]int{3, 3}, "reviewkd", nil},
		{resnet, "mlp", [2]string{Vector, Map}, [2]int{0, 3}, "pkt", nil},
		{"../models/mnist_cntk.onnx", "mlp", [2]string{Vector, Map}, [2]int{0, 3}, "", nil}, // its classifier reads no vector that is known
	} {
		o := teacher.Options{Model: c.file}
		tc, err := teacher.Open(o, data.DefaultPreprocess(), 1)
		if err != nil {
			t.Fatal(err)
		}
		arch, err := student.New(c.student)
		if err != nil {
			t.Fatal(err)
		}
		var in [3]int
		in[0], in[1], in[2] = tc.InputShape()
		p, err := NewProbe(Student{Name: c.student, Arch: arch}, in, tc.Classes(), tc, o, 1)
		tc.Close()
		if err != nil {
			t.Fatalf("%s and %s: %v", c.student, c.file, err)
		}
		if got := [2]string{p.StudentKind, p.TeacherKind}; got != c.kinds {
			t.Errorf("%s and %s are %v, want %v", c.student, c.file, got, c.kinds)
		}
		var levels [2]int
		for i, tensors := range [][]Inner{p.Student, p.Teacher} {
			for _, t := range tensors {
				levels[i] = max(levels[i], t.Level)
			}
		}
		if levels != c.levels {
			t.Errorf("%s and %s have %v levels, want %v", c.student, c.file, levels, c.levels)
		}
		var adapters []string
		for _, m := range p.Matches {
			if m.Taps == "levels" {
				adapters = append(adapters, m.Adapter)
			}
		}
		if c.adapters != nil && !slices.Equal(adapters, c.adapters) {
			t.Errorf("%s and %s: the adapters are %v, want %v", c.student, c.file, adapters, c.adapters)
		}
		loss, terms := p.Suited()
		if loss != c.loss {
			t.Errorf("%s and %s: it advises %q, want %q", c.student, c.file, loss, c.loss)
		}
		for _, m := range p.Matches {
			if slices.Contains(m.Losses, "at") != (m.Taps == "levels" && c.kinds == [2]string{Map, Map}) {
				t.Errorf("%s and %s: %s are compared by %v; attention is that of maps", c.student, c.file, m.Taps, m.Losses)
			}
		}
		section := struct {
			Losses []Term `yaml:"losses"`
		}{terms}
		text, err := strictyaml.Encode(section)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRecipe(text, "", []string{"data.source=cifar10:x", "teacher.model=" + c.file}); err != nil {
			t.Errorf("its losses are no recipe's: %v\n%s", err, text)
		}
	}
}

// What a probe advises trains: each pair of kinds for a step.
func TestAdvisedLossesTrain(t *testing.T) {
	for _, c := range []struct{ student, overrides string }{
		{"resnet8", "student={arch: resnet8, width: 4}"},
		{"vit_tiny4", "student={arch: vit_tiny4, width: 8, depth: 4, heads: 2}"},
	} {
		r := recipe(t, "teacher.model="+resnet, "epochs=1", c.overrides, "data.train=data_batch_1.bin[0:16]")
		o := r.Teacher
		tc, err := teacher.Open(o, r.Preprocess, 1)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewProbe(r.Student, [3]int{3, 32, 32}, 10, tc, o, 1)
		tc.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, r.Losses = p.Suited()
		if got := len(trained(t, r).State.History); got != 1 {
			t.Errorf("%s trained for %d epochs", c.student, got)
		}
	}
}
