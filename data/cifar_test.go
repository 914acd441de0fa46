package data

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"distill/internal/hint"
)

// cifarBytes makes n records; the first pixel of each is its number, its label the number's last digit.
func cifarBytes(n int) []byte {
	b := make([]byte, n*cifarRecord)
	for i := range n {
		b[i*cifarRecord] = byte(i % 10)
		b[i*cifarRecord+1] = byte(i)
	}
	return b
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// writeFiles writes files by slash-separated name into a new folder.
func writeFiles(t *testing.T, files map[string][]byte) string {
	dir := t.TempDir()
	for name, b := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o777)
		if err := errors.Join(err, os.WriteFile(path, b, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// firsts reads the first pixel of every sample.
func firsts(t *testing.T, s Source) []int {
	c, h, w := s.Shape()
	x := make([]float32, c*h*w)
	var v []int
	for i := range s.Len() {
		if _, err := s.Read(i, x); err != nil {
			t.Fatal(err)
		}
		v = append(v, int(x[0]))
	}
	return v
}

// wantError checks an error's text and hint for words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) && !strings.Contains(hint.Of(err), w) {
			t.Errorf("error %q, hint %q: no %q", err, hint.Of(err), w)
		}
	}
}

func TestCommittedSplits(t *testing.T) {
	s, err := Open(Options{Source: "cifar10:../testdata/cifar10"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 5000 || s.Val.Len() != 1000 || s.Test.Len() != 1000 {
		t.Errorf("splits of %d, %d and %d images", s.Train.Len(), s.Val.Len(), s.Test.Len())
	}
	x := make([]float32, cifarPixels)
	label, err := s.Test.Read(0, x)
	if err != nil || s.Test.Classes()[label] != "cat" {
		t.Errorf("test image 0 is %v, %v; want a cat", label, err)
	}
	m, err := ReadImage("../testdata/images/cat.png", 3, 32, 32)
	if err != nil {
		t.Fatal(err)
	}
	for i := range x {
		if x[i] != m[i] {
			t.Fatalf("cat.png differs from test image 0 at %d: %v and %v", i, m[i], x[i])
		}
	}
}

func TestPixelsAreChannelsThenRows(t *testing.T) {
	record := cifarBytes(1)
	copy(record[1:], bytes.Repeat([]byte{255}, 1024))
	record[1+2*1024+33] = 7 // blue, row 1, column 1
	s, err := OpenSplit(Options{Source: "cifar10:" + filepath.Join(writeFiles(t, map[string][]byte{"a.bin": record}), "a.bin")}, "")
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, cifarPixels)
	if _, err := s.Read(0, x); err != nil {
		t.Fatal(err)
	}
	if x[1023] != 255 || x[1024] != 0 || x[2*1024+33] != 7 {
		t.Errorf("got %v, %v, %v; want 255, 0, 7", x[1023], x[1024], x[2*1024+33])
	}
}

func TestSelectorsChooseRecords(t *testing.T) {
	dir := writeFiles(t, map[string][]byte{
		"data_batch_1.bin":    cifarBytes(20),
		"data_batch_2.bin.gz": gzipped(t, cifarBytes(30)),
		"test_batch.bin":      cifarBytes(4),
		"sub/held.bin":        cifarBytes(6),
	})
	tests := []struct {
		name string
		o    Options
		want [3][]int // first and last record and count
	}{
		{"the last tenth is held out", Options{}, [3][]int{{0, 24, 45}, {25, 29, 5}, {0, 3, 4}}},
		{"val of its own", Options{Val: "sub/held.bin"}, [3][]int{{0, 29, 50}, {0, 5, 6}, {0, 3, 4}}},
		{"a range spans files", Options{Train: "data_batch_*.bin*[10:25]", Val: "data_batch_*[25:]"}, [3][]int{{10, 4, 15}, {5, 29, 25}, {0, 3, 4}}},
		{"ranges of one file", Options{Val: "sub/*[:2]", Test: "sub/*[2:6]"}, [3][]int{{0, 29, 50}, {0, 1, 2}, {2, 5, 4}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Source = "cifar10:" + dir
			s, err := Open(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			for i, src := range []Source{s.Train, s.Val, s.Test} {
				alone, err := OpenSplit(tt.o, splitNames[i])
				if err != nil {
					t.Fatal(err)
				}
				for _, src := range []Source{src, alone} {
					v := firsts(t, src)
					if w := tt.want[i]; v[0] != w[0] || v[len(v)-1] != w[1] || len(v) != w[2] {
						t.Errorf("%s is %d records from %d to %d, want %v", splitNames[i], len(v), v[0], v[len(v)-1], w)
					}
				}
			}
		})
	}
}

func TestOneFileIsASplit(t *testing.T) {
	dir := writeFiles(t, map[string][]byte{"valid.bin.gz": gzipped(t, cifarBytes(8))})
	for spec, want := range map[string]int{"valid.bin.gz": 8, "valid.bin.gz[2:5]": 3} {
		s, err := OpenSplit(Options{Source: "cifar10:" + filepath.Join(dir, spec)}, "test")
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() != want || s.Name != "all" {
			t.Errorf("%s has %d records, of %q; want %d, all", spec, s.Len(), s.Name, want)
		}
	}
}

func TestBadCIFARSourcesAreRefused(t *testing.T) {
	bad := cifarBytes(3)
	bad[2*cifarRecord] = 10
	dir := writeFiles(t, map[string][]byte{
		"data_batch_1.bin": cifarBytes(20),
		"test_batch.bin":   cifarBytes(4),
		"copy/a.bin":       cifarBytes(4),
		"copy/a.bin.gz":    gzipped(t, cifarBytes(4)),
		"short.bin":        cifarBytes(2)[:5000],
		"empty.bin":        nil,
		"label.bin":        bad,
		"cut.bin.gz":       gzipped(t, cifarBytes(20))[:60],
	})
	if err := os.Symlink(filepath.Join(dir, "data_batch_1.bin"), filepath.Join(dir, "link.bin")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		o     Options
		words []string
	}{
		{"overlapping ranges", Options{Train: "data_batch_1.bin[0:10]", Val: "data_batch_1.bin[9:20]"}, []string{"train has records 0 to 9", "val has records 9 to 19", "different files"}},
		{"one file in two splits", Options{Val: "test_batch.bin"}, []string{"val has records", "test has records"}},
		{"a link to a training file", Options{Val: "link.bin"}, []string{"link.bin"}},
		{"a file and its gzipped copy", Options{Val: "copy/a.bin", Test: "copy/a.bin.gz"}, []string{"a.bin.gz"}},
		{"a range past the end", Options{Test: "test_batch.bin[2:5]"}, []string{"test_batch.bin", "4 records"}},
		{"no match", Options{Test: "missing*.bin"}, []string{"no file matches missing*.bin", "data.test"}},
		{"a way out of the folder", Options{Test: "../x.bin"}, []string{"leaves the source's folder"}},
		{"cut short", Options{Test: "short.bin"}, []string{"short.bin", "5000 bytes", "3073-byte"}},
		{"empty", Options{Test: "empty.bin"}, []string{"empty.bin", "0 bytes"}},
		{"a label over 9", Options{Test: "label.bin"}, []string{"label.bin", "record 2 at byte 6146", "label 10"}},
		{"a gzip file cut short", Options{Test: "cut.bin.gz"}, []string{"cut.bin.gz", "unexpected EOF"}},
		{"a folder", Options{Test: "copy"}, []string{"copy", "not a file"}},
		{"a size", Options{Size: []int{8, 8}}, []string{"CIFAR-10 files have a size of their own", "remove data.size"}},
		{"a bad size", Options{Size: []int{8}}, []string{"size [8]", "height"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Source = "cifar10:" + dir
			_, err := Open(tt.o)
			wantError(t, err, append(tt.words, "data: open cifar10:"+dir)...)
		})
	}
	for source, words := range map[string][]string{
		"imagenet:x": {`unknown kind "imagenet"`, "cifar10, mnist, folder"},
		"cifar10":    {"KIND:PATH", "cifar10:DIR"},
	} {
		_, err := Open(Options{Source: source})
		wantError(t, err, words...)
	}
	for source, word := range map[string]string{"none": "none: no such file", "short.bin": "short.bin is not a folder"} {
		_, err := Open(Options{Source: "cifar10:" + filepath.Join(dir, source)})
		wantError(t, err, word)
	}
	_, err := OpenSplit(Options{Source: "cifar10:" + filepath.Join(dir, "none.bin")}, "")
	wantError(t, err, "no file matches none.bin", "PATH is a folder")
	_, err = OpenSplit(Options{Source: "cifar10:" + dir}, "dev")
	wantError(t, err, `unknown split "dev"`, "train, val, test")
}

func TestTooFewImagesToHoldOut(t *testing.T) {
	dir := writeFiles(t, map[string][]byte{"data_batch_1.bin": cifarBytes(9), "test_batch.bin": cifarBytes(1)})
	_, err := Open(Options{Source: "cifar10:" + dir})
	wantError(t, err, "the val split is empty", "data.val")
}

func TestClassNames(t *testing.T) {
	files := map[string][]byte{"a.bin": cifarBytes(1), "batches.meta.txt": []byte("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n")}
	dir := writeFiles(t, files)
	s, err := OpenSplit(Options{Source: "cifar10:" + filepath.Join(dir, "a.bin")}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Classes(); strings.Join(got, "") != "abcdefghij" {
		t.Errorf("classes %v", got)
	}
	files["batches.meta.txt"] = []byte("a\nb\n")
	_, err = OpenSplit(Options{Source: "cifar10:" + filepath.Join(writeFiles(t, files), "a.bin")}, "")
	wantError(t, err, "batches.meta.txt", "2 class names, want 10")
}

func TestGzipBombIsRefused(t *testing.T) {
	_, err := decodeCIFAR(bytes.NewReader(gzipped(t, cifarBytes(5))), 4)
	wantError(t, err, "more than 4 records")
}

func FuzzDecodeCIFAR(f *testing.F) {
	f.Add(cifarBytes(1))
	f.Add(gzipped(f, cifarBytes(2)))
	f.Add(cifarBytes(1)[:3072])
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decodeCIFAR(bytes.NewReader(b), 8)
		if err != nil {
			return
		}
		for i := 0; i < len(records); i += cifarRecord {
			if records[i] > 9 {
				t.Fatalf("record %d has label %d", i/cifarRecord, records[i])
			}
		}
	})
}

func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"valid_10000.bin[0:5000]", "data_batch_[12].bin", "*[5:]", "[", "../x", "a[9:1]", "[:]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSelector(text)
		if err == nil && (s.from < 0 || s.from >= s.to || !filepath.IsLocal(s.glob)) {
			t.Errorf("%q gives %+v", text, s)
		}
	})
}

func TestReadingStopsAtTheEndOrTheLimitWhateverTheDiskSays(t *testing.T) {
	const content = "0123456789"
	for _, limit := range []int{1, 9, 10, 11, 4000} {
		for _, onDisk := range []int64{0, 9, 10, 11, 3000, 1 << 62} {
			b, err := readUpTo(iotest.HalfReader(strings.NewReader(content)), limit, onDisk)
			if want := content[:min(limit, len(content))]; err != nil || string(b) != want {
				t.Errorf("limit %d, %d on disk: %q, %v; want %q", limit, onDisk, b, err, want)
			}
		}
	}
	for _, onDisk := range []int64{0, 5, 10, 20} {
		b, err := readUpTo(io.MultiReader(strings.NewReader(content), iotest.ErrReader(io.ErrNoProgress)), 4000, onDisk)
		if err != io.ErrNoProgress || string(b) != content {
			t.Errorf("%d on disk: %q, %v before an error", onDisk, b, err)
		}
	}
}

func TestAFilesBytesAreMadeRoomForOnce(t *testing.T) {
	for name, wanted := range map[string]int{"plain": 5 * cifarRecord, "plain.gz": 0} {
		content := cifarBytes(5)
		if wanted == 0 {
			content = gzipped(t, content)
		}
		f, err := os.Open(filepath.Join(writeFiles(t, map[string][]byte{name: content}), name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, onDisk, err := unzipped(f)
		if err != nil || onDisk != int64(wanted) {
			t.Fatalf("%s: %d bytes on disk, %v; want %d", name, onDisk, err, wanted)
		}
		if b, err := readUpTo(r, 5*cifarRecord+1, onDisk); err != nil || len(b) != 5*cifarRecord || wanted > 0 && cap(b) != wanted {
			t.Errorf("%s: %d bytes in room for %d, %v", name, len(b), cap(b), err)
		}
	}
}
