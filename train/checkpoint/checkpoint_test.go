package checkpoint

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/internal/safetensors"
	"distill/runtime/graph"
)

type state struct {
	Recipe string             `json:"recipe"`
	Seed   uint64             `json:"seed"`
	Step   int                `json:"step"`
	Best   map[string]float64 `json:"best"`
}

var trained = state{Recipe: "epochs: 1\n", Seed: 1<<63 + 1, Step: 42, Best: map[string]float64{"top1": 0.1}}

func store(size int) *graph.Store {
	s := &graph.Store{}
	w := graph.NewTensor(graph.Float32, size)
	for i := range w.F {
		w.F[i] = 1 / float32(i+3)
	}
	s.Set("fc/weight", graph.Param, w)
	s.Set("bn.mean", graph.State, graph.Floats([]float32{1, 2}, 2, 1))
	s.Set("sgd.fc/weight", graph.Moment, graph.Scalar(3))
	s.Set("steps", graph.Moment, graph.Ints([]int64{42}, 1))
	return s
}

// saved is the path of a checkpoint of store(10) and trained.
func saved(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "last.ckpt")
	if err := Save(path, store(10), trained); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	var got state
	s, err := Load(saved(t), &got)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s, store(10)) {
		t.Errorf("store is %v, want %v", s, store(10))
	}
	if !reflect.DeepEqual(got, trained) {
		t.Errorf("state is %+v, want %+v", got, trained)
	}
}

func TestSaveIsDeterministic(t *testing.T) {
	a, _ := os.ReadFile(saved(t))
	b, _ := os.ReadFile(saved(t))
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Errorf("two saves of the same run differ")
	}
}

func TestAnyFlippedBitIsFound(t *testing.T) {
	path := saved(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range good { // every byte, a random bit of it
		bad := bytes.Clone(good)
		bad[i] ^= 1 << r.IntN(8)
		if err := os.WriteFile(path, bad, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, &state{}); err == nil {
			t.Errorf("byte %d: 0x%02x in place of 0x%02x went unseen", i, bad[i], good[i])
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("byte %d: error %v does not name the file", i, err)
		}
	}
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	os.WriteFile(path, bad, 0o666)
	if _, err := Load(path, &state{}); err == nil || !strings.Contains(err.Error(), "checksum") || hint.Of(err) == "" {
		t.Errorf("a flipped bit in a tensor gave %v, hint %q", err, hint.Of(err))
	}
}

func TestAnyTruncationIsFound(t *testing.T) {
	path := saved(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(good) - 1; n >= 0; n-- {
		if err := os.Truncate(path, int64(n)); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, &state{}); err == nil || !strings.Contains(err.Error(), path+": truncated: ") {
			t.Fatalf("%d of %d bytes: error %v", n, len(good), err)
		}
	}
}

func TestOtherFilesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		tensors map[string]graph.Tensor
		meta    map[string]string
		want    string
	}{
		"weights alone":   {map[string]graph.Tensor{"w": graph.Scalar(1)}, nil, "not a checkpoint"},
		"another version": {nil, map[string]string{versionKey: "9"}, `version "9", this program reads "1"`},
		"no checksum":     {nil, map[string]string{versionKey: version}, "damaged"},
		"unknown kind":    {map[string]graph.Tensor{"w": graph.Scalar(1)}, map[string]string{versionKey: version, checksumKey: "ok"}, `tensor "w" is of no known kind`},
		"no state":        {nil, map[string]string{versionKey: version, checksumKey: "ok"}, "its state does not fit"},
		"another state":   {nil, map[string]string{versionKey: version, checksumKey: "ok", stateKey: `{"other":1}`}, `unknown field "other"`},
	} {
		if c.meta[checksumKey] == "ok" {
			delete(c.meta, checksumKey)
			c.meta[checksumKey], _ = checksum(c.tensors, c.meta)
		}
		var b bytes.Buffer
		if err := safetensors.Write(&b, c.tensors, c.meta); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x.ckpt")
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, &state{}); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), &state{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
}
