package cache

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/teacher"
)

// key is of 3 views of 11 samples, with 4 logits and a tap of 3 features.
func key() Key {
	return Key{
		Teacher: strings.Repeat("a", 64), Classes: 4, Preprocess: data.DefaultPreprocess(), Data: strings.Repeat("d", 64), Samples: 11,
		Augment: Augment{Crop: 4, Flip: true, Views: 3, Seed: 7}, DType: dtype32, Taps: []Tap{{"features", graph.Shape{3, 1, 1}}},
		Run: Run{ONNXRuntime: "1.30.0", Processor: "amd64 avx2", Provider: "cpu", Threads: 2, Batch: 4},
	}
}

// outputs are what the teacher of a test says of samples in a view: no two values of a cache are equal.
func outputs(view int, samples ...int) teacher.Outputs {
	out := teacher.Outputs{Taps: map[string]graph.Tensor{"features": graph.NewTensor(graph.Float32, len(samples), 3, 1, 1)}}
	for n, i := range samples {
		at := float32(1000*view + 10*i)
		out.Logits = append(out.Logits, at, at+1, at+2, at+3)
		copy(out.Taps["features"].F[3*n:], []float32{at + 4, at + 5, at + 6})
	}
	return out
}

func create(t *testing.T, folder string, k Key) *Cache {
	t.Helper()
	c, err := Create(folder, Info{Key: k, Model: "net.onnx", Recipe: "seed: 7\n", Made: "2026-11-24"})
	if err != nil {
		t.Fatalf("%v\n%s", err, hint.Of(err))
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// filled makes a whole cache and closes it.
func filled(t *testing.T, k Key) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "cache")
	c := create(t, folder, k)
	for view := range k.Augment.Views {
		for i := range k.Samples {
			if err := c.Add(view, []int{i}, outputs(view, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func reopened(t *testing.T, folder string) *Cache {
	t.Helper()
	c, err := Open(folder)
	if err != nil {
		t.Fatalf("%v\n%s", err, hint.Of(err))
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// holds fails unless the cache gives the teacher's outputs, bit for bit.
func holds(t *testing.T, c *Cache, view int, samples ...int) {
	t.Helper()
	got, ok, err := c.Fetch(view, samples)
	if err != nil || !ok {
		t.Fatalf("view %d, samples %v: %v, %v", view, samples, ok, err)
	}
	want := outputs(view, samples...)
	if !slices.Equal(got.Logits, want.Logits) || !slices.Equal(got.Taps["features"].F, want.Taps["features"].F) ||
		!got.Taps["features"].Shape.Equal(want.Taps["features"].Shape) {
		t.Errorf("view %d, samples %v: %v, want %v", view, samples, got, want)
	}
}

func lacks(t *testing.T, c *Cache, view int, samples ...int) {
	t.Helper()
	if _, ok, err := c.Fetch(view, samples); ok || err != nil {
		t.Errorf("view %d, samples %v: %v, %v; want them not to be there", view, samples, ok, err)
	}
}

func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	text := err.Error() + "\n" + hint.Of(err)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("error %s\ndoes not say %q", text, w)
		}
	}
}

func TestWhatIsAddedComesBackBitForBit(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a", "cache")
	c := create(t, folder, key())
	lacks(t, c, 1, 3)
	if err := c.Add(1, []int{3, 9, 0}, outputs(1, 3, 9, 0)); err != nil {
		t.Fatal(err)
	}
	holds(t, c, 1, 0, 3, 9, 3) // from a shard under way
	lacks(t, c, 1, 3, 4)
	lacks(t, c, 0, 3)
	rest, err := c.Missing(1)
	if err != nil || !slices.Equal(rest, []int{1, 2, 4, 5, 6, 7, 8, 10}) {
		t.Errorf("missing %v, %v", rest, err)
	}
	if err := c.Add(1, rest, outputs(1, rest...)); err != nil {
		t.Fatal(err)
	}
	if left, err := c.Left(1); left != 0 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	holds(t, c, 1, 10, 0, 1)                                  // from a finished one
	if err := c.Add(1, []int{5}, outputs(2, 5)); err != nil { // what is there stays
		t.Fatal(err)
	}
	other := reopened(t, folder) // while the first may still write
	holds(t, other, 1, 5, 10)
	lacks(t, other, 0, 0)
}

func TestSpecialValuesKeepTheirBits(t *testing.T) {
	k := key()
	k.Taps, k.Classes, k.Samples, k.Augment.Views = nil, 6, 1, 1
	c := create(t, t.TempDir(), k)
	want := []float32{float32(math.Inf(1)), float32(math.NaN()), float32(math.Copysign(0, -1)), 1e-45, math.MaxFloat32, 0}
	if err := c.Add(0, []int{0}, teacher.Outputs{Logits: want}); err != nil {
		t.Fatal(err)
	}
	got, ok, err := c.Fetch(0, []int{0})
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	for i := range want {
		if math.Float32bits(got.Logits[i]) != math.Float32bits(want[i]) {
			t.Errorf("%v came back as %v", want[i], got.Logits[i])
		}
	}
}

// A record of 32 MB makes shards of two.
func TestLargeRecordsLieInSeveralShardsAView(t *testing.T) {
	k := key()
	k.Classes, k.Taps, k.Samples, k.Augment.Views = 8<<20, nil, 5, 2
	l, err := k.layout()
	if err != nil {
		t.Fatal(err)
	}
	if l.perShard != 1 || l.perView != 5 {
		t.Errorf("%d records a shard, %d shards a view", l.perShard, l.perView)
	}
	k.Classes = 4 << 20 // with its checksum, a little over a quarter of a shard
	if l, err = k.layout(); err != nil {
		t.Fatal(err)
	}
	counts := []int{}
	for s := range l.shards() {
		counts = append(counts, l.records(s))
	}
	if want := []int{3, 2, 3, 2}; !slices.Equal(counts, want) {
		t.Errorf("shards of %v records, want %v", counts, want)
	}
	if s, p := l.find(1, 4); s != 3 || p != 1 {
		t.Errorf("sample 4 of view 1 is record %d of shard %d, want 1 of 3", p, s)
	}
	if n, err := k.Bytes(); err != nil || n != 10*(16<<20+8)+4*headerSize {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestAKilledWriterLosesNothingThatWasWritten(t *testing.T) {
	folder := t.TempDir()
	if os.Getenv("CACHE_TEST_FOLDER") != "" { // the process to be killed
		c, err := Create(os.Getenv("CACHE_TEST_FOLDER"), Info{Key: key()})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{2, 3, 5} {
			if err := c.Add(0, []int{i}, outputs(0, i)); err != nil {
				t.Fatal(err)
			}
		}
		os.Stdout.WriteString("written\n")
		select {}
	}
	p := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	p.Env = append(os.Environ(), "CACHE_TEST_FOLDER="+folder)
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	_, err = Create(folder, Info{Key: key()})
	refused(t, err, folder, "another process is writing", "wait for it to end")
	if !errors.Is(err, ErrLocked) {
		t.Error("the error is not ErrLocked")
	}
	if st, err := reopened(t, folder).Status(); err != nil || !st.Busy || st.Started != 1 || st.Whole != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	refused(t, Remove(folder), "another process is writing")
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.Wait()

	c := create(t, folder, key())
	holds(t, c, 0, 2, 3, 5)
	lacks(t, c, 0, 4)
	rest, err := c.Missing(0)
	if err != nil || len(rest) != 8 {
		t.Fatalf("missing %v, %v", rest, err)
	}
	if err := c.Add(0, rest, outputs(0, rest...)); err != nil {
		t.Fatal(err)
	}
	holds(t, reopened(t, folder), 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
}

// A process may be killed inside a write, between the last record and the renaming, or as it makes the file.
func TestAnyLengthOfAPartIsGoneOnWith(t *testing.T) {
	whole := filled(t, key())
	b, err := os.ReadFile(filepath.Join(whole, "000001.shard"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.ReadFile(filepath.Join(whole, infoName))
	if err != nil {
		t.Fatal(err)
	}
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for n := 0; n <= len(b); n += 7 {
		folder := t.TempDir()
		write(t, filepath.Join(folder, infoName), info)
		write(t, filepath.Join(folder, "000001.part"), b[:n])
		c := create(t, folder, key())
		missing, err := c.Missing(1)
		if err != nil {
			t.Fatal(err)
		}
		if want := 11 - max(0, n-headerSize)/c.layout.record; len(missing) != want {
			t.Errorf("of %d bytes %d records are missing, want %d", n, len(missing), want)
		}
		if err := c.Add(1, all, outputs(1, all...)); err != nil {
			t.Fatal(err)
		}
		holds(t, c, 1, all...)
		got, err := os.ReadFile(filepath.Join(folder, "000001.shard"))
		if err != nil || !slices.Equal(got, b) {
			t.Errorf("from %d bytes the shard comes out otherwise: %v", n, err)
		}
		c.Close()
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	k := key()
	k.Samples = 2
	for _, dtype := range []string{dtype32, dtype16} {
		k.DType = dtype
		folder := filled(t, k)
		want, err := ReadInfo(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"000002.shard", infoName} {
			path := filepath.Join(folder, name)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for bit := range 8 * len(good) {
				bad := slices.Clone(good)
				bad[bit/8] ^= 1 << (bit % 8)
				if name == infoName {
					// A space may become another one, or a name's letter a capital: that says the same.
					if info, err := parseInfo(bad); err == nil && !reflect.DeepEqual(info, want) {
						t.Fatalf("%s: bit %d is not found", name, bit)
					}
					continue
				}
				write(t, path, bad)
				c, err := Open(folder)
				if err != nil {
					t.Fatal(err)
				}
				damaged, err := c.Verify(t.Context(), func(int, int) {})
				if err != nil || len(damaged) != 1 {
					t.Fatalf("%s: verify finds %v, %v for bit %d", name, damaged, err, bit)
				}
				_, _, err = c.Fetch(2, []int{0, 1})
				refused(t, err, path, "remove that file")
				c.Close()
			}
			write(t, path, good)
		}
		holds(t, reopened(t, folder), 1, 0, 1)
	}
}

func TestDamagedFoldersAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(folder string) error
		want  []string
	}{
		{"truncated shard", func(f string) error { return os.Truncate(filepath.Join(f, "000001.shard"), 300) },
			[]string{"000001.shard", "it has 300 bytes, not 460", "remove that file"}},
		{"empty shard", func(f string) error { return os.Truncate(filepath.Join(f, "000001.shard"), 0) }, []string{"it has 0 bytes"}},
		{"longer shard", func(f string) error { return os.Truncate(filepath.Join(f, "000001.shard"), 461) }, []string{"it has 461 bytes"}},
		{"a folder for a shard", func(f string) error {
			return errors.Join(os.Remove(filepath.Join(f, "000001.shard")), os.Mkdir(filepath.Join(f, "000001.shard"), 0o777))
		}, []string{"000001.shard"}},
		{"shard of another place", func(f string) error {
			return os.Rename(filepath.Join(f, "000002.shard"), filepath.Join(f, "000001.shard"))
		}, []string{"it is a shard of another cache, or in another's place"}},
		{"something else", func(f string) error {
			return os.WriteFile(filepath.Join(f, "000001.shard"), make([]byte, 460), 0o666)
		}, []string{"it does not begin as a shard does"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := filled(t, key())
			if err := tt.spoil(folder); err != nil {
				t.Fatal(err)
			}
			c := reopened(t, folder)
			holds(t, c, 0, 1)
			_, _, err := c.Fetch(1, []int{1})
			refused(t, err, tt.want...)
			damaged, err := c.Verify(t.Context(), func(int, int) {})
			if err != nil || len(damaged) != 1 {
				t.Fatalf("verify finds %v, %v", damaged, err)
			}
			refused(t, damaged[0], tt.want...)
		})
	}
}

// The kernel answers a read of a mapping whose file was cut short with a signal.
func TestAFileCutShortWhileItIsMappedIsAnError(t *testing.T) {
	k := key()
	k.Samples, k.Augment.Views = 1000, 1 // several pages
	folder := filled(t, k)
	c := reopened(t, folder)
	holds(t, c, 0, 999)
	if err := os.Truncate(filepath.Join(folder, "000000.shard"), 5000); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.Fetch(0, []int{999})
	refused(t, err, "000000.shard", "cut short")
	holds(t, c, 0, 1)
}

func TestAForeignKeyIsRefusedByWhatDiffers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		change   func(*Key)
		rounding bool
		want     []string // nil: it serves
	}{
		{"equal", func(*Key) {}, false, nil},
		{"teacher", func(k *Key) { k.Teacher = strings.Repeat("b", 64) }, true, []string{"its teacher (SHA-256) is", "bbb", "name another folder"}},
		{"classes", func(k *Key) { k.Classes = 5 }, true, []string{"number of classes is 4, not 5"}},
		{"class map", func(k *Key) { k.ClassMap = []int{3, 0, 1, 2} }, true, []string{"class map is null, not [3,0,1,2]"}},
		{"preprocessing", func(k *Key) { k.Preprocess.Mean = []float64{0.5} }, true, []string{"preprocessing"}},
		{"images", func(k *Key) { k.Data = "e" }, true, []string{"training images"}},
		{"seed of the views", func(k *Key) { k.Augment.Seed = 8 }, true, []string{`"seed":7`, `"seed":8`, "leave data.augment.views and seed out"}},
		{"crop", func(k *Key) { k.Augment.Crop = 2 }, true, []string{"augmentation"}},
		{"dtype", func(k *Key) { k.DType = dtype16 }, true, []string{"dtype", "set teacher.cache.dtype=float32"}},
		{"another tap", func(k *Key) { k.Taps[0].Name = "pool" }, true, []string{`does not hold the teacher's tensor "pool"`}},
		{"no tap", func(k *Key) { k.Taps = nil }, false, nil},
		{"batch", func(k *Key) { k.Run.Batch = 8 }, false, []string{`"batch":8`, "set teacher.cache.rounding=true"}},
		{"threads", func(k *Key) { k.Run.Threads = 1 }, false, []string{"last bits"}},
		{"library", func(k *Key) { k.Run.ONNXRuntime = "1.31.0" }, false, []string{"1.31.0"}},
		{"batch, where rounding may differ", func(k *Key) { k.Run.Batch = 8 }, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := key()
			tt.change(&want)
			err := key().Serves(want, tt.rounding)
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, tt.want...)
			if !errors.Is(err, ErrForeign) {
				t.Error("the error is not ErrForeign")
			}
			_, err = Create(filled(t, key()), Info{Key: want})
			refused(t, err, "cache: ")
		})
	}
}

// A field that a record hangs on must be in the key.
func TestTheKeyKnowsAllOfAnAugmentation(t *testing.T) {
	b, err := json.Marshal(data.Augment{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	for _, known := range []string{"Crop", "Flip", "Views", "Seed"} {
		delete(fields, known)
	}
	for name := range fields {
		t.Errorf("data.Augment has a field %s: put it into the key, or, if it mixes samples, refuse it where a cache is opened", name)
	}
}

func TestHostileInfosAreRefused(t *testing.T) {
	good := Info{Format: version, Key: key()}
	for _, tt := range []struct {
		name   string
		change func(*Info)
		want   string
	}{
		{"format", func(i *Info) { i.Format = 2 }, "its format is 2"},
		{"no samples", func(i *Info) { i.Key.Samples = 0 }, "out of range"},
		{"many samples", func(i *Info) { i.Key.Samples = 1 << 40 }, "out of range"},
		{"many views", func(i *Info) { i.Key.Augment.Views = 1 << 30 }, "out of range"},
		{"negative classes", func(i *Info) { i.Key.Classes = -1 }, "out of range"},
		{"a tap that overflows", func(i *Info) { i.Key.Taps[0].Shape = graph.Shape{1 << 40, 1 << 40} }, "has the shape"},
		{"an empty tap", func(i *Info) { i.Key.Taps[0].Shape = graph.Shape{0} }, "has the shape"},
		{"taps too large together", func(i *Info) {
			i.Key.Taps = slices.Repeat([]Tap{{"a", graph.Shape{1 << 23}}}, 3)
		}, "too large"},
		{"dtype", func(i *Info) { i.Key.DType = "int8" }, "neither float32 nor float16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info := good
			info.Key = key()
			tt.change(&info)
			info.Sum = info.sum()
			folder := t.TempDir()
			write(t, filepath.Join(folder, infoName), []byte(indented(info)))
			_, err := Open(folder)
			refused(t, err, filepath.Join(folder, infoName), tt.want, "build the cache anew")
		})
	}
	folder := t.TempDir()
	_, err := Open(folder)
	refused(t, err, folder, "is no cache", "distill cache build")
	write(t, filepath.Join(folder, infoName), slices.Repeat([]byte(" "), maxInfo+1))
	_, err = Open(folder)
	refused(t, err, "more than")
	folder = t.TempDir()
	write(t, filepath.Join(folder, "holiday.jpg"), nil)
	_, err = Create(folder, Info{Key: key()})
	refused(t, err, "holiday.jpg", "it is no cache")
}

func TestWrongOutputsAndPlacesAreRefused(t *testing.T) {
	c := create(t, t.TempDir(), key())
	refused(t, c.Add(3, []int{0}, outputs(3, 0)), "view 3 of 3")
	refused(t, c.Add(0, []int{11}, outputs(0, 11)), "sample 11 of 11")
	refused(t, c.Add(0, []int{0, 1}, outputs(0, 0)), "4 logits for 2 samples")
	refused(t, c.Add(0, []int{0}, teacher.Outputs{Logits: make([]float32, 4)}), `tensor "features"`)
	_, _, err := c.Fetch(-1, []int{0})
	refused(t, err, "view -1")
}

func TestRemoveTakesACacheAndNothingElse(t *testing.T) {
	folder := filled(t, key())
	write(t, filepath.Join(folder, "notes.txt"), nil)
	if err := Remove(folder); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 || entries[0].Name() != "notes.txt" {
		t.Errorf("left: %v, %v", entries, err)
	}
	refused(t, Remove(folder), "is no cache")
	folder = filled(t, key())
	if err := Remove(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}
