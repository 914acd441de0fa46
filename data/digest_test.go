package data

import (
	"image/color"
	"os"
	"path/filepath"
	"testing"
)

func digestOf(t *testing.T, s Source) string {
	t.Helper()
	d, err := Digest(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(d) != 64 {
		t.Errorf("digest %q", d)
	}
	return d
}

func TestDigestIsThatOfTheSamplesWhereverTheyLie(t *testing.T) {
	splits := func(files map[string][]byte) Source {
		s, err := OpenSplit(Options{Source: "cifar10:" + writeFiles(t, files), Val: "other.bin"}, "train") // nothing is held out
		if err != nil {
			t.Fatal(err)
		}
		return s.Source
	}
	b := cifarBytes(20)
	one := digestOf(t, splits(map[string][]byte{"data_batch_1.bin": b}))
	if two := digestOf(t, splits(map[string][]byte{"data_batch_1.bin": b[:5*cifarRecord], "data_batch_2.bin.gz": gzipped(t, b[5*cifarRecord:])})); two != one {
		t.Error("two files of the same records have another digest")
	}
	for name, change := range map[string]func(b []byte) []byte{
		"a pixel":  func(b []byte) []byte { b[7*cifarRecord+9] ^= 1; return b },
		"a label":  func(b []byte) []byte { b[0] = (b[0] + 1) % 10; return b },
		"fewer":    func(b []byte) []byte { return b[:19*cifarRecord] },
		"in order": func(b []byte) []byte { return append(b[cifarRecord:], b[:cifarRecord]...) },
	} {
		other := change(append([]byte(nil), b...))
		if digestOf(t, splits(map[string][]byte{"data_batch_1.bin": other})) == one {
			t.Errorf("samples that differ in %s have the same digest", name)
		}
	}
}

func TestDigestOfAFolderIsThatOfItsFiles(t *testing.T) {
	files := map[string][]byte{}
	tree(t, files, "test/", 3, "a", "b")
	open := func(dir string, o Options) Source {
		o.Source = "folder:" + dir
		s, err := OpenSplit(o, "test")
		if err != nil {
			t.Fatal(err)
		}
		return s.Source
	}
	one, dir := open(writeFiles(t, files), Options{}), writeFiles(t, files)
	if digestOf(t, one) != digestOf(t, open(dir, Options{})) {
		t.Error("a copy has another digest")
	}
	if digestOf(t, one) == digestOf(t, open(dir, Options{Size: []int{2, 2}})) {
		t.Error("another size has the same digest")
	}
	entries, err := filepath.Glob(filepath.Join(dir, "test", "b", "*"))
	if err != nil || len(entries) != 3 {
		t.Fatal(entries, err)
	}
	if err := os.WriteFile(entries[2], picture(t, 4, 4, color.RGBA{1, 2, 3, 255}), 0o666); err != nil {
		t.Fatal(err)
	}
	changed := open(dir, Options{})
	if digestOf(t, one) == digestOf(t, changed) {
		t.Error("another image has the same digest")
	}
	if err := os.Remove(entries[2]); err != nil {
		t.Fatal(err)
	}
	_, err = Digest(changed)
	wantError(t, err, entries[2])
}

func TestDigestReadsAnySource(t *testing.T) {
	if digestOf(t, numbers(4)) == digestOf(t, numbers(5)) {
		t.Error("4 and 5 samples have the same digest")
	}
	if _, err := Digest(numbers(100)); err == nil {
		t.Error("a sample that cannot be read is no error")
	}
}
