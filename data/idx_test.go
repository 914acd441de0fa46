package data

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// idx makes an IDX file of unsigned bytes.
func idx(elements []byte, dims ...uint32) []byte {
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
	}
	return append(b, elements...)
}

// digitImages makes n images of 2×3; the first pixel of each is its number. Their labels are the numbers' last digits.
func digitImages(n int) []byte {
	b := make([]byte, 6*n)
	for i := range n {
		b[6*i] = byte(i)
	}
	return idx(b, uint32(n), 2, 3)
}

func digitLabels(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 10)
	}
	return idx(b, uint32(n))
}

func TestFashionMNISTIsGreyWithItsClasses(t *testing.T) {
	s, err := Open(Options{Source: "mnist:../testdata/fashion-mnist"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 87 || s.Val.Len() != 9 || s.Test.Len() != 32 {
		t.Errorf("splits of %d, %d and %d images", s.Train.Len(), s.Val.Len(), s.Test.Len())
	}
	for _, tt := range []struct {
		source Source
		i      int
		class  string
		at     [2]int  // row and column
		pixel  float32 // there
		sum    float32 // of all pixels
	}{
		{s.Train, 0, "Ankle boot", [2]int{14, 10}, 0, 76247},
		{s.Test, 31, "Bag", [2]int{14, 10}, 8, 38153},
	} {
		if c, h, w := tt.source.Shape(); c != 1 || h != 28 || w != 28 {
			t.Fatalf("images of %d×%d×%d", c, h, w)
		}
		x := make([]float32, 784)
		label, err := tt.source.Read(tt.i, x)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.source.Classes()[label]; got != tt.class {
			t.Errorf("image %d is of class %q, want %q", tt.i, got, tt.class)
		}
		if got := x[tt.at[0]*28+tt.at[1]]; got != tt.pixel {
			t.Errorf("image %d has %v at %v, want %v", tt.i, got, tt.at, tt.pixel)
		}
		var sum float32
		for _, v := range x {
			sum += v
		}
		if sum != tt.sum {
			t.Errorf("the pixels of image %d sum to %v, want %v", tt.i, sum, tt.sum)
		}
	}
}

func TestLabelsAreFoundByTheImagesName(t *testing.T) {
	for _, tt := range []struct{ images, labels string }{
		{"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"},
		{"t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"},
		{"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"},
		{"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"},
		{"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"},
		{"images.idx3", "labels.idx1"},
		{"my-images/digit-images", "my-images/digit-labels"},
	} {
		images, labels := digitImages(4), digitLabels(4)
		if strings.HasSuffix(tt.images, ".gz") {
			images = gzipped(t, images)
		}
		if strings.HasSuffix(tt.labels, ".gz") {
			labels = gzipped(t, labels)
		}
		dir := writeFiles(t, map[string][]byte{tt.images: images, tt.labels: labels})
		s, err := OpenSplit(Options{Source: "mnist:" + filepath.Join(dir, tt.images)}, "")
		if err != nil {
			t.Errorf("%s: %v", tt.images, err)
			continue
		}
		x := make([]float32, 6)
		if label, err := s.Read(3, x); err != nil || label != 3 || x[0] != 3 || s.Name != "all" {
			t.Errorf("%s: image 3 has label %d and pixel %v, in split %s; %v", tt.images, label, x[0], s.Name, err)
		}
	}
}

func TestSplitsOfIDXFiles(t *testing.T) {
	dir := writeFiles(t, map[string][]byte{
		"train-images-idx3-ubyte":     digitImages(50),
		"train-images-idx3-ubyte.gz":  gzipped(t, digitImages(50)), // as downloads leave it
		"train-labels-idx1-ubyte":     digitLabels(50),
		"t10k-images-idx3-ubyte.gz":   gzipped(t, digitImages(8)),
		"t10k-labels-idx1-ubyte.gz":   gzipped(t, digitLabels(8)),
		"extra2k-images-idx3-ubyte":   digitImages(20),
		"extra2k-labels-idx1-ubyte":   digitLabels(20),
		"emnist/a-images-idx3-ubyte":  digitImages(12),
		"emnist/a-labels-idx1-ubyte":  digitLabels(12),
		"emnist/wide-images-idx3":     idx(make([]byte, 8), 1, 2, 4),
		"emnist/wide-labels-idx1":     idx([]byte{0}, 1),
		"emnist/lonely-images-idx3":   digitImages(2),
		"emnist/a-unrelated-file.txt": nil,
	})
	for _, tt := range []struct {
		name string
		o    Options
		want [3][]int // first and last image and count
	}{
		{"the last tenth is held out", Options{}, [3][]int{{0, 44, 45}, {45, 49, 5}, {0, 7, 8}}},
		{"ranges", Options{Train: "train-images*[0:30]", Val: "train-images*[30:]", Test: "t10k*images*[2:4]"}, [3][]int{{0, 29, 30}, {30, 49, 20}, {2, 3, 2}}},
		{"other files", Options{Train: "extra2k-images*", Val: "emnist/a-images*"}, [3][]int{{0, 19, 20}, {0, 11, 12}, {0, 7, 8}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Source = "mnist:" + dir
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
						t.Errorf("%s is %d images from %d to %d, want %v", splitNames[i], len(v), v[0], v[len(v)-1], w)
					}
				}
			}
		})
	}
	for _, tt := range []struct {
		name  string
		o     Options
		words []string
	}{
		{"a file and its gzipped copy in two splits", Options{Val: "train-images-idx3-ubyte.gz"}, []string{"train has records 0 to 49", "different files"}},
		{"images of two sizes", Options{Test: "emnist/wide-images*"}, []string{"wide-images-idx3 are 2x4, those of train-images-idx3-ubyte 2x3", "one size"}},
		{"labels selected", Options{Train: "train*"}, []string{"train-labels-idx1-ubyte: it starts with 00 00 08 01, not with 00 00 08 03", "beside them"}},
		{"no labels", Options{Test: "emnist/lonely*"}, []string{"neither", "lonely-labels-idx1 nor lonely-labels-idx1.gz"}},
		{"a range past the end", Options{Test: "t10k-images*[7:9]"}, []string{"has 8 records"}},
		{"no match", Options{Test: "t2k-images*"}, []string{"no file matches t2k-images*", "data.test"}},
		{"a size", Options{Size: []int{8, 8}}, []string{"a size of their own", "remove data.size"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Source = "mnist:" + dir
			_, err := Open(tt.o)
			wantError(t, err, append(tt.words, "data: open mnist:"+dir)...)
		})
	}
}

func TestBadIDXFilesAreRefused(t *testing.T) {
	good, labels := digitImages(4), digitLabels(4)
	for _, tt := range []struct {
		name           string
		images, labels []byte
		words          []string
	}{
		{"empty", nil, labels, []string{"ends in the header, after 0 bytes of 16"}},
		{"cut in the header", good[:9], labels, []string{"ends in the header, after 9 bytes of 16"}},
		{"cut in the pixels", good[:30], labels, []string{"ends after 30 bytes of the 40"}},
		{"a gzip file cut short", gzipped(t, good)[:34], labels, []string{"unexpected EOF"}},
		{"a gzip file cut in its header", gzipped(t, good)[:5], labels, []string{"unexpected EOF"}},
		{"more than is claimed", append(slices.Clone(good), 1), labels, []string{"something follows the 40 bytes"}},
		{"gzip of more than is claimed", gzipped(t, append(slices.Clone(good), make([]byte, 1<<20)...)), labels, []string{"something follows the 40 bytes"}},
		{"floats", append([]byte{0, 0, 13, 3}, good[4:]...), labels, []string{"starts with 00 00 0d 03"}},
		{"text", []byte("\nnot an IDX file\n"), labels, []string{"starts with 0a 6e 6f 74"}},
		{"no images", idx(nil, 0, 2, 3), labels, []string{"claims 0 in dimension 0"}},
		{"no rows", idx(nil, 4, 0, 3), labels, []string{"claims 0 in dimension 1"}},
		{"too many images", idx(nil, 4_000_001, 1, 1), labels, []string{"claims 4000001 in dimension 0", "4000000 images"}},
		{"a size that overflows", idx(nil, 1<<16, 1<<31, 1<<31), labels, []string{"claims 2147483648 in dimension 1"}},
		{"a side that is too long", idx(make([]byte, 8193), 1, 1, 8193), idx([]byte{1}, 1), []string{"images of 1x8193", "8192 at most"}},
		{"too few labels", good, digitLabels(3), []string{"a-labels-idx1: 3 labels for 4 images", "one data set"}},
		{"labels cut short", good, labels[:10], []string{"a-labels-idx1: it ends after 10 bytes of the 12"}},
		{"images for labels", good, good, []string{"a-labels-idx1: it starts with 00 00 08 03, not with 00 00 08 01"}},
		{"a label over 9", good, idx([]byte{1, 2, 10, 3}, 4), []string{"label 10 of image 2 is not 0..9", "classes.txt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeFiles(t, map[string][]byte{"a-images-idx3": tt.images, "a-labels-idx1": tt.labels})
			path := filepath.Join(dir, "a-images-idx3")
			_, err := OpenSplit(Options{Source: "mnist:" + path}, "")
			wantError(t, err, append(tt.words, "data: open mnist:"+path, "read "+path)...)
		})
	}
	path := filepath.Join(writeFiles(t, map[string][]byte{"digits.idx3": good}), "digits.idx3")
	_, err := OpenSplit(Options{Source: "mnist:" + path}, "")
	wantError(t, err, `has no "images"`, "train-labels-idx1-ubyte")
}

func TestAHeaderAloneAllocatesLittle(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := decodeIDX(bytes.NewReader(idx(nil, 1<<20, 1<<5, 1<<5)), 3, idxLimit)
	runtime.ReadMemStats(&after)
	wantError(t, err, "ends after 16 bytes")
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("a file of 16 bytes that claims 1 GiB made %d bytes be allocated", n)
	}
}

func TestClassNamesOfIDXFiles(t *testing.T) {
	letters := strings.Split("abcdefghijklmnopqrstuvwxyz", "")
	files := map[string][]byte{"a-images-idx3": digitImages(1), "a-labels-idx1": idx([]byte{25}, 1)}
	for _, tt := range []struct {
		names string
		want  []string
		words []string // of the error
	}{
		{strings.Join(letters, "\r\n"), letters, nil},
		{"a\nb\n", nil, []string{"label 25 of image 0 is not 0..1"}},
		{"a\n", nil, []string{"classes.txt: 1 class names, want 2 to 256"}},
		{strings.Repeat("a\n", 257), nil, []string{"257 class names"}},
	} {
		files["classes.txt"] = []byte(tt.names)
		s, err := OpenSplit(Options{Source: "mnist:" + filepath.Join(writeFiles(t, files), "a-images-idx3")}, "")
		if tt.words != nil {
			wantError(t, err, tt.words...)
		} else if err != nil || !slices.Equal(s.Classes(), tt.want) {
			t.Errorf("%v: classes %v", err, s.Source)
		}
	}
}

func FuzzDecodeIDX(f *testing.F) {
	f.Add(digitImages(2))
	f.Add(digitLabels(2))
	f.Add(gzipped(f, digitImages(2)))
	f.Add(idx(nil, 1<<31, 1<<31, 1<<31))
	f.Add(digitImages(2)[:20])
	f.Fuzz(func(t *testing.T, file []byte) {
		const limit = 1 << 12
		for _, dims := range []int{1, 3} {
			b, shape, err := decodeIDX(bytes.NewReader(file), dims, limit)
			if err != nil {
				continue
			}
			size := 1
			for _, d := range shape {
				size *= d
			}
			if len(shape) != dims || size < 1 || size > limit || len(b) != size {
				t.Fatalf("%d bytes of shape %v", len(b), shape)
			}
		}
	})
}
