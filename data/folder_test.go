package data

import (
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes images of 4x4 pixels, n of each class, whose red is their number.
func tree(t *testing.T, files map[string][]byte, prefix string, n int, classes ...string) {
	for _, class := range classes {
		for i := range n {
			files[fmt.Sprintf("%s%s/%02d.png", prefix, class, i)] = picture(t, 4, 4, color.NRGBA{byte(i), 0, 0, 255})
		}
	}
}

func TestFolderPerClass(t *testing.T) {
	files := map[string][]byte{"train/dog/notes.txt": []byte("no image"), "train/.cache/x.png": nil}
	tree(t, files, "train/", 20, "dog", "cat")
	tree(t, files, "test/", 2, "dog")
	dir := writeFiles(t, files)
	s, err := Open(Options{Source: "folder:" + dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Test.Classes(); !slices.Equal(got, []string{"cat", "dog"}) {
		t.Errorf("classes %v", got)
	}
	if c, h, w := s.Train.Shape(); c != 3 || h != 4 || w != 4 {
		t.Errorf("shape %d,%d,%d", c, h, w)
	}
	if got := firsts(t, s.Val); !slices.Equal(got, []int{9, 19, 9, 19}) { // every tenth of each class
		t.Errorf("val holds %v", got)
	}
	if s.Train.Len() != 36 || slices.Contains(firsts(t, s.Train), 9) {
		t.Errorf("train holds %v", firsts(t, s.Train))
	}
	label, err := s.Test.Read(1, make([]float32, 48))
	if err != nil || label != 1 {
		t.Errorf("label %d, %v; want dog's", label, err)
	}
	alone, err := OpenSplit(Options{Source: "folder:" + dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	if alone.Len() != 2 || alone.Name != "test" {
		t.Errorf("test alone: %d images, %q", alone.Len(), alone.Name)
	}
}

func TestNamedFolders(t *testing.T) {
	files := map[string][]byte{}
	tree(t, files, "2012/", 3, "a")
	tree(t, files, "dev/", 2, "a")
	tree(t, files, "eval/", 1, "a")
	dir := writeFiles(t, files)
	s, err := Open(Options{Source: "folder:" + dir, Train: "2012", Val: "dev", Test: "eval"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 3 || s.Val.Len() != 2 || s.Test.Len() != 1 {
		t.Errorf("splits of %d, %d, %d", s.Train.Len(), s.Val.Len(), s.Test.Len())
	}
}

func TestFlatFolderIsSplitByHash(t *testing.T) {
	files := map[string][]byte{}
	tree(t, files, "", 100, "a", "b")
	o := Options{Source: "folder:" + writeFiles(t, files)}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for i, src := range []Source{s.Train, s.Val, s.Test} {
		for _, f := range src.(*folder).files {
			paths[f.path] = true
		}
		if n := src.Len(); n < []int{140, 10, 10}[i] || n > []int{180, 35, 35}[i] {
			t.Errorf("%s has %d of 200 images", splitNames[i], n)
		}
	}
	if len(paths) != 200 {
		t.Errorf("the splits hold %d different images, want 200", len(paths))
	}
	all, err := OpenSplit(o, "")
	if err != nil {
		t.Fatal(err)
	}
	if all.Len() != 200 || all.Name != "all" {
		t.Errorf("without a name: %d images, %q; want all 200", all.Len(), all.Name)
	}
	test, err := OpenSplit(o, "test")
	if err != nil || test.Len() != s.Test.Len() {
		t.Errorf("test alone: %v, %v", test, err)
	}

	// More images move none.
	tree(t, files, "", 120, "a", "b")
	o.Source = "folder:" + writeFiles(t, files)
	more, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	names := func(s Source) (names []string) {
		for _, f := range s.(*folder).files {
			names = append(names, fmt.Sprint(f.label, filepath.Base(f.path)))
		}
		return names
	}
	for _, name := range names(s.Test) {
		if !slices.Contains(names(more.Test), name) {
			t.Errorf("image %s left the test split", name)
		}
	}
}

func TestSizesThatDiffer(t *testing.T) {
	files := map[string][]byte{"test/a/00.png": picture(t, 6, 3, color.White)}
	tree(t, files, "train/", 10, "a")
	dir := writeFiles(t, files)
	_, err := Open(Options{Source: "folder:" + dir})
	wantError(t, err, filepath.Join("test", "a", "00.png"), "3x6", "4x4", "set data.size")

	s, err := Open(Options{Source: "folder:" + dir, Size: []int{2, 5}})
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 3*2*5)
	if _, err := s.Test.Read(0, x); err != nil || slices.Min(x) != 255 {
		t.Errorf("resized to %v, %v; want all white", x, err)
	}
}

func TestImageThatChangesSizeIsNamed(t *testing.T) {
	files := map[string][]byte{}
	tree(t, files, "", 1, "a")
	dir := writeFiles(t, files)
	s, err := OpenSplit(Options{Source: "folder:" + dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "00.png"), picture(t, 6, 3, color.White), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = s.Read(0, make([]float32, 48))
	wantError(t, err, "data: read "+dir, "3x6", "4x4", "set data.size")
}

func TestStretchedImagesAreThoseOfPreprocess(t *testing.T) {
	gradient := image.NewNRGBA(image.Rect(0, 0, 7, 5))
	for i := range gradient.Pix {
		gradient.Pix[i] = byte(37*i + i/4) // some of it transparent
	}
	dir := writeFiles(t, map[string][]byte{"a/1.png": encode(t, gradient)})
	own, err := OpenSplit(Options{Source: "folder:" + dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	pixels := make([]float32, 3*5*7)
	if _, err := own.Read(0, pixels); err != nil {
		t.Fatal(err)
	}
	want := make([]float32, 3*4*4)
	Preprocess{Scale: 1, Size: []int{4, 4}}.Apply(want, pixels, [4]int{1, 3, 5, 7})

	s, err := OpenSplit(Options{Source: "folder:" + dir, Size: []int{4, 4}, Stretch: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, len(want))
	if _, err := s.Read(0, got); err != nil || !slices.Equal(got, want) {
		t.Errorf("a folder gives %v, %v; want %v", got, err, want)
	}
	got, err = ReadStretched(filepath.Join(dir, "a", "1.png"), 3, 4, 4)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the file alone gives %v, %v; want %v", got, err, want)
	}
}

func TestBadFoldersAreRefused(t *testing.T) {
	tests := []struct {
		name  string
		o     Options
		files []string // prefix/class
		link  [2]string
		words []string
	}{
		{name: "no class folders", words: []string{"no class folders", "one folder per class"}},
		{name: "no test", files: []string{"train/a"}, words: []string{"no folder", "test", "80/10/10"}},
		{name: "a class that training lacks", files: []string{"train/a", "test/a", "test/b"}, words: []string{filepath.Join("test", "b"), "1 classes"}},
		{name: "val is train", o: Options{Val: "train"}, files: []string{"train/a", "test/a"}, words: []string{"train and val", "different folders"}},
		{name: "test links to train", files: []string{"train/a"}, link: [2]string{"train", "test"}, words: []string{"train and test"}},
		{name: "a named folder is missing", o: Options{Val: "dev"}, files: []string{"train/a", "test/a"}, words: []string{"dev", "data.val"}},
		{name: "a way out of the folder", o: Options{Val: "../x"}, files: []string{"train/a", "test/a"}, words: []string{"leaves the source's folder"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string][]byte{}
			for _, f := range tt.files {
				tree(t, files, "", 10, f)
			}
			dir := writeFiles(t, files)
			if tt.link[0] != "" {
				if err := os.Symlink(filepath.Join(dir, tt.link[0]), filepath.Join(dir, tt.link[1])); err != nil {
					t.Fatal(err)
				}
			}
			tt.o.Source = "folder:" + dir
			_, err := Open(tt.o)
			wantError(t, err, append(tt.words, "data: open folder:")...)
		})
	}
	_, err := Open(Options{Source: "folder:" + filepath.Join(t.TempDir(), "none")})
	wantError(t, err, "no such file")
}

func TestDamagedImageIsNamed(t *testing.T) {
	header := hugePNG(4, 4) // and no pixels
	for _, tt := range []struct {
		name string
		size []int
		file []byte
		word string
		late bool // it is found when it is read, not when it is opened
	}{
		{"no picture", nil, []byte("not a picture"), "unknown format", false},
		{"no picture, in a given size", []int{4, 4}, []byte("not a picture"), "unknown format", false},
		{"a picture of too many pixels", []int{4, 4}, hugePNG(60000, 60000), "64 megapixels", false},
		{"a header alone", nil, header, "unexpected EOF", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string][]byte{}
			tree(t, files, "", 20, "a")
			files["a/05.jpeg"], files["a/15.png"] = tt.file, tt.file
			s, err := OpenSplit(Options{Source: "folder:" + writeFiles(t, files), Size: tt.size}, "")
			if tt.late && err == nil {
				_, err = s.Read(5, make([]float32, 48))
			} else if tt.late {
				t.Fatal(err)
			}
			wantError(t, err, "05.jpeg", tt.word)
			if strings.Count(err.Error(), "05.jpeg") != 1 {
				t.Errorf("%q names the file more than once", err)
			}
		})
	}
}
