package onnx_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"distill/internal/hint"
	pb "distill/internal/onnxpb"
	"distill/runtime/graph/onnx"
)

const resnet = "../../../models/cifar10_resnet56.onnx"

func TestExportedNetworkIsRead(t *testing.T) {
	m, err := onnx.Read(resnet)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Inputs(); len(got) != 1 || got[0].Name != "input" || got[0].DType != "float32" || len(got[0].Shape) != 4 {
		t.Errorf("inputs %v", got)
	}
	if got := m.Outputs(); len(got) != 1 || got[0].Name != "logits" || got[0].Shape[1].Size != 10 {
		t.Errorf("outputs %v", got)
	}
	if m.Opset() != 13 || !strings.HasPrefix(m.Producer(), "pytorch 1.13") {
		t.Errorf("opset %d of %q, want 13 of pytorch 1.13", m.Opset(), m.Producer())
	}
	audit := m.Audit()
	if audit.BatchNorm != "folded" || audit.Output != "logits" || !audit.DynamicBatch || audit.ExternalData {
		t.Errorf("audit %+v", audit)
	}
	if n := m.Params(); n < 850_000 || n > 860_000 { // 0.85 M in He et al. 2016, table 6
		t.Errorf("%d parameters, want about 0.85 million", n)
	}
	decoded(t, m)
}

func TestStrayFilesAreToldByWhatTheyLookLike(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, want string }{
		"empty":       {"", "an empty file"},
		"image":       {"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a PNG image"},
		"checkpoint":  {"PK\x03\x04\x00\x00\x08\x08archive/data.pkl", "a PyTorch checkpoint"},
		"pickle":      {"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a Python pickle"},
		"pointer":     {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"},
		"text":        {"learning_rate: 0.1\n# für später\n", "text"},
		"tflite":      {"\x1c\x00\x00\x00TFL3\x14\x00\x20\x00", "a TensorFlow Lite model"},
		"safetensors": {"\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}       ", "a safetensors file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name+".onnx")
			if err := os.WriteFile(path, []byte(c.content), 0o666); err != nil {
				t.Fatal(err)
			}
			_, err := onnx.Read(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one that names %s and %s", err, path, c.want)
			}
			if hint.Of(err) == "" {
				t.Errorf("error %v has no hint", err)
			}
		})
	}
}

func TestPlacesWithoutAFileAreErrors(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.onnx"): "no such file",
		dir:                                "not a regular file",
		os.DevNull:                         "not a regular file",
	} {
		if _, err := onnx.Read(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want %q of %s", err, want, path)
		}
	}
}

func TestFileOverTheLimitIsRefusedUnread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.onnx")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(math.MaxInt32 + 1); err != nil { // sparse: takes no space
		t.Skip(err)
	}
	if _, err := onnx.Read(path); err == nil || !strings.Contains(err.Error(), "2147483648 bytes") {
		t.Errorf("error %v, want one that gives the size", err)
	}
}

func TestTruncatedFileNamesItsField(t *testing.T) {
	b := encoded(t, network())
	for n := range len(b) {
		if _, err := onnx.Parse(b[:n], "cut.onnx"); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a model", n, len(b))
		}
	}
	_, err := onnx.Parse(b[:len(b)/2], "cut.onnx")
	if err == nil || !strings.Contains(err.Error(), `cut.onnx: truncated: the file ends at byte`) ||
		!strings.Contains(err.Error(), `"graph"`) {
		t.Errorf("error %v, want the offset and the field graph", err)
	}
}

func TestMarshalAlwaysGivesTheSameBytes(t *testing.T) {
	m := parsed(t, network())
	m.SetMetadata("b", "2")
	m.SetMetadata("a", "1")
	first, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := m.Marshal()
		if err != nil || !bytes.Equal(again, first) {
			t.Fatalf("the bytes differ (%v)", err)
		}
	}
}

func TestWrittenModelIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	m := parsed(t, network())
	m.SetMetadata("classes", "cat")
	m.SetMetadata("classes", "cat,dog")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	back, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(decoded(t, back), decoded(t, m)) {
		t.Error("the model read differs from the one written")
	}
	if got := back.Metadata(); len(got) != 1 || got["classes"] != "cat,dog" {
		t.Errorf("metadata %v", got)
	}
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "m.onnx"), 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "m.onnx") // a folder: the rename fails
	if err := parsed(t, network()).Write(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names %s", err, path)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("folder holds %v", entries)
	}
}

func TestUnknownFieldsSurvive(t *testing.T) {
	p := network()
	p.Graph.ProtoReflect().SetUnknown([]byte{0x82, 0x01, 0x01, 'x'}) // field 16: metadata_props of IR version 10
	m, err := parsed(t, p).WithOutputs("logits")
	if err != nil {
		t.Fatal(err)
	}
	if got := decoded(t, m).Graph.ProtoReflect().GetUnknown(); len(got) != 4 {
		t.Errorf("%d bytes of unknown fields, want 4", len(got))
	}
}

// FuzzParse also calls everything that examines or changes a model: what Parse lets through must not break them, and what
// they make must be well formed again.
func FuzzParse(f *testing.F) {
	full := encoded(f, network())
	f.Add(full)
	f.Add(full[:len(full)/2])
	f.Add(encoded(f, branching()))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := onnx.Parse(b, "fuzz.onnx")
		if err != nil {
			return
		}
		m.Inputs()
		m.Outputs()
		m.Params()
		m.Producer()
		m.Audit()
		m.MACs(nil)
		var names []string
		for _, tap := range m.Taps() {
			names = append(names, tap.Tensor)
		}
		m.Glob("*[a-c]?/*")
		for _, name := range names[:min(len(names), 8)] {
			if cut, err := m.Only(name); err != nil {
				t.Errorf("cut to %q: %v", name, err)
			} else {
				decoded(t, cut)
			}
		}
		tapped, err := m.WithOutputs(names...)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range decoded(t, tapped).Graph.Initializer {
			m.Initializer(w.GetName())
		}
		if _, err := tapped.FoldBatchNorm(); err == nil {
			decoded(t, tapped)
		}
		m.FoldBatchNorm()
		decoded(t, m)
	})
}

func TestSHA256IsThatOfTheBytes(t *testing.T) {
	b, err := proto.Marshal(network())
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Parse(b, "test.onnx")
	if err != nil {
		t.Fatal(err)
	}
	m.SetMetadata("key", "value")
	if sum := sha256.Sum256(b); m.SHA256() != hex.EncodeToString(sum[:]) {
		t.Errorf("after a change the SHA-256 is %q, want %x", m.SHA256(), sum)
	}
	cut, err := m.Only("logits")
	if err != nil {
		t.Fatal(err)
	}
	if cut.SHA256() != "" {
		t.Errorf("a copy that was never decoded has the SHA-256 %q", cut.SHA256())
	}
}

// branching is a model whose If reads tensors of the graph around it.
func branching() *pb.ModelProto {
	branch := func(name, op, reads string) *pb.AttributeProto {
		return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_GRAPH.Enum(), G: &pb.GraphProto{
			Name:   proto.String(name),
			Node:   []*pb.NodeProto{node(op, name+".y", []string{reads})},
			Output: []*pb.ValueInfoProto{info(name + ".y")},
		}}
	}
	return modelProto(
		[]*pb.ValueInfoProto{info("x", "batch", 2), info("unused", 1)},
		[]*pb.ValueInfoProto{info("y", "batch", 2)},
		[]*pb.TensorProto{
			{Name: proto.String("flag"), DataType: proto.Int32(int32(pb.TensorProto_BOOL)), Int32Data: []int32{1}},
			weight("bias", ramp(2, 1, 1), 2),
		},
		node("Relu", "h", []string{"x"}),
		node("Neg", "n", []string{"bias"}),
		node("If", "y", []string{"flag"}, branch("then_branch", "Exp", "h"), branch("else_branch", "Abs", "n")),
	)
}
