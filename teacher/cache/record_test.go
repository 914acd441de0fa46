package cache

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"distill/internal/disktest"
	"distill/teacher"
)

func TestHalfPrecisionRoundsToNearestEven(t *testing.T) {
	for h := range 1 << 16 { // every half comes back
		h := uint16(h)
		v := fromHalf(h)
		if got := toHalf(v); got != h && v == v {
			t.Fatalf("%#x is %v and comes back as %#x", h, v, got)
		}
		if h&0x7fff >= 0x7bff {
			continue
		}
		// Halfway to the next, the even one; a little beside it, the nearer one.
		next := fromHalf(h + 1)
		middle := (v + next) / 2 // exact
		even := h + h&1
		if got := toHalf(middle); got != even {
			t.Fatalf("%v, halfway between %#x and %#x, becomes %#x", middle, h, h+1, got)
		}
		away, to := math.Nextafter32(middle, next), math.Nextafter32(middle, v)
		if toHalf(away) != h+1 || toHalf(to) != h {
			t.Fatalf("beside %v: %#x, %#x", middle, toHalf(to), toHalf(away))
		}
	}
	for v, want := range map[float32]uint16{65519: 0x7bff, 65520: 0x7c00, -1e30: 0xfc00, 1: 0x3c00, 1e-8: 0, -1e-9: 0x8000} {
		if got := toHalf(v); got != want {
			t.Errorf("%v becomes %#x, want %#x", v, got, want)
		}
	}
	if h := toHalf(float32(math.NaN())); fromHalf(h) == fromHalf(h) {
		t.Errorf("NaN becomes %#x", h)
	}
}

func TestFloat16IsCloseAndHalfTheSize(t *testing.T) {
	k := key()
	k.DType, k.Taps, k.Classes, k.Samples, k.Augment.Views = dtype16, nil, 3, 1, 1
	c := create(t, t.TempDir(), k)
	want := []float32{3.14159, -0.0001, 12345}
	if err := c.Add(0, []int{0}, teacher.Outputs{Logits: want}); err != nil {
		t.Fatal(err)
	}
	got, ok, err := c.Fetch(0, []int{0})
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	for i, v := range want {
		if d := math.Abs(float64(got.Logits[i]-v)) / math.Abs(float64(v)); d > 0x1p-11 {
			t.Errorf("%v came back as %v", v, got.Logits[i])
		}
	}
	if recordSize(3, true) != 16 || recordSize(1000, true) != 2008 || recordSize(1000, false) != 4008 {
		t.Errorf("records of %d, %d, %d bytes", recordSize(3, true), recordSize(1000, true), recordSize(1000, false))
	}
	k.Samples = 2
	c = create(t, t.TempDir(), k)
	refused(t, c.Add(0, []int{1}, teacher.Outputs{Logits: []float32{1, 70000, 2}}), "sample 1", "70000 does not fit into float16", "dtype=float32")
}

func TestAFullDiskIsAnErrorAndWhatIsThereStays(t *testing.T) {
	k := key()
	k.Samples = 50000 // 2 MB a shard: the limit is far above what testing itself writes meanwhile
	folder := t.TempDir()
	c := create(t, folder, k)
	all := make([]int, k.Samples)
	for i := range all {
		all[i] = i
	}
	if err := c.Add(0, all, outputs(0, all...)); err != nil {
		t.Fatal(err)
	}
	t.Run("full", func(t *testing.T) {
		disktest.Limit(t, 1<<20)
		refused(t, c.Add(1, all, outputs(1, all...)), "write", "free some space", "goes on with it")
	})
	c.Close()
	holds(t, reopened(t, folder), 0, all...)
	c = create(t, folder, k)
	if err := c.Add(1, all, outputs(1, all...)); err != nil { // once there is room
		t.Fatal(err)
	}
	holds(t, c, 1, all...)
}

// unprivileged makes this goroutine's file accesses those of a user who owns nothing.
func unprivileged(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		syscall.Setfsuid(0)
		runtime.UnlockOSThread()
	})
}

func TestAReadOnlyFolderIsReadAndNotWritten(t *testing.T) {
	folder := filled(t, key())
	if err := os.Chmod(folder, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(folder, 0o777)
	part := filepath.Join(t.TempDir(), "part")
	create(t, part, key()).Close()
	if err := errors.Join(os.Chmod(filepath.Join(part, lockName), 0o444), os.Chmod(part, 0o555)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(part, 0o777)
	for _, f := range []string{folder, part} { // what the testing package makes is closed to others
		for d := filepath.Dir(f); d != filepath.Clean(os.TempDir()); d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("unprivileged", func(t *testing.T) {
		unprivileged(t)
		c := reopened(t, folder)
		holds(t, c, 2, 0, 10)
		if st, err := c.Status(); err != nil || !st.Complete() {
			t.Errorf("%+v, %v", st, err)
		}
		for _, f := range []string{filepath.Join(folder, "sub"), part} {
			_, err := Create(f, Info{Key: key()})
			refused(t, err, "permission denied", "choose a folder that can be written to")
		}
		refused(t, Remove(part), "permission denied")
	})
}

// FuzzShard opens any bytes as a finished shard: an error, or records that are intact.
func FuzzShard(f *testing.F) {
	k := key()
	k.Samples, k.Augment.Views = 2, 1
	folder := f.TempDir()
	c, err := Create(folder, Info{Key: k})
	if err != nil {
		f.Fatal(err)
	}
	if err := c.Add(0, []int{0, 1}, outputs(0, 0, 1)); err != nil {
		f.Fatal(err)
	}
	c.Close()
	path := filepath.Join(folder, "000000.shard")
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:headerSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		folder := t.TempDir()
		c, err := open(folder, Info{Key: k})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		write(t, filepath.Join(folder, "000000.shard"), b)
		if _, ok, err := c.Fetch(0, []int{0, 1}); ok != slices.Equal(b, good) && ok {
			// Other records with good checksums are records, too; the header must be the one.
			if !slices.Equal(b[:headerSize], good[:headerSize]) {
				t.Errorf("a shard with another header is read: %v", err)
			}
		}
		if err := c.verifyShard(0); err == nil && len(b) != len(good) {
			t.Error("a shard of another size is good")
		}
	})
}

func FuzzInfo(f *testing.F) {
	good := Info{Format: version, Key: key()}
	good.Sum = good.sum()
	f.Add([]byte(indented(good)))
	f.Add([]byte(`{"format":1,"key":{"samples":1e99}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseInfo(b)
		if err != nil {
			return
		}
		l, err := info.Key.layout()
		if err != nil || l.record <= 0 || l.shards() <= 0 {
			t.Errorf("an info that is read has the layout %+v, %v", l, err)
		}
	})
}
