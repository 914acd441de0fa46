package onnx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"distill/runtime/graph"
)

func TestDamagedTensorFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	whole, err := proto.Marshal(encode("", graph.Floats([]float32{1, 2}, 2)))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"empty.pb": {}, "cut.pb": whole[:len(whole)-1], "text.pb": []byte("not a tensor")} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTensor(path); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadTensor(dir); err == nil {
		t.Error("a folder is read as a tensor")
	}
}

func FuzzTensorFile(f *testing.F) {
	for _, t := range []graph.Tensor{graph.Floats([]float32{1, 2}, 2), graph.Ints([]int64{3}, 1, 1), graph.Scalar(4)} {
		b, err := proto.Marshal(encode("", t))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseTensor(b)
		if err == nil && len(v.F)+len(v.I) != v.Shape.Size() {
			t.Fatalf("%d elements of shape %v", len(v.F)+len(v.I), v.Shape)
		}
	})
}
