package atomicfile_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"distill/internal/atomicfile"
	"distill/internal/disktest"
	"distill/internal/hint"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// names lists the folder, temporary files included.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteReplacesTheWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.txt")
	for _, want := range []string{"a long first content", "short", ""} {
		if err := atomicfile.Write(path, text(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("file holds %q, want %q", got, want)
		}
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("folder holds %v, want the file alone", got)
	}
}

func TestWriteTakesABareName(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := atomicfile.Write("a.txt", text("x")); err != nil {
		t.Fatal(err)
	}
}

func TestModeIsLeftToTheUmask(t *testing.T) {
	dir := t.TempDir()
	plain, err := os.Create(filepath.Join(dir, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	plain.Close()
	if err := atomicfile.Write(filepath.Join(dir, "atomic"), text("x")); err != nil {
		t.Fatal(err)
	}
	want, _ := os.Stat(filepath.Join(dir, "plain"))
	got, _ := os.Stat(filepath.Join(dir, "atomic"))
	if got.Mode() != want.Mode() {
		t.Errorf("mode %v, want %v as os.Create gives", got.Mode(), want.Mode())
	}
}

func TestFailedWriteLeavesTheOldFileAndNothingElse(t *testing.T) {
	errFull := errors.New("no space left on device")
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	if err := atomicfile.Write(path, text("old")); err != nil {
		t.Fatal(err)
	}
	err := atomicfile.Write(path, func(w io.Writer) error {
		w.Write(make([]byte, 1<<20)) // past the buffer, so that bytes are on disk
		return errFull
	})
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names %s and wraps %v", err, path, errFull)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("file holds %d bytes, want the old content", len(got))
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %v, want the old file alone", got)
	}
}

func TestErrorsNameThePathAndTheWayOut(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		fill func(io.Writer) error
		want string // the cause
		hint string
	}{
		{filepath.Join(missing, "a.txt"), text("x"), "no such file or directory", "make the folder " + missing + " first, or choose another"},
		{filepath.Join(dir, "taken"), text("x"), "file exists", ""},
		{filepath.Join(dir, "a.txt"), func(io.Writer) error { return syscall.ENOSPC }, "no space left on device", "free some space, or choose a folder on another disk"},
		{filepath.Join(dir, "a.txt"), func(io.Writer) error { return fs.ErrNotExist }, "file does not exist", ""}, // of a file that fill reads
	} {
		err := atomicfile.Write(c.path, c.fill)
		if want := "atomicfile: write " + c.path + ": " + c.want; err == nil || err.Error() != want || hint.Of(err) != c.hint {
			t.Errorf("error %v, hint %q; want %s, %q", err, hint.Of(err), want, c.hint)
		}
	}
}

func TestErrorsOfWritesDoNotNameTheTemporaryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.txt")
	disktest.Limit(t, 1<<17)
	err := atomicfile.Write(path, text(strings.Repeat("x", 1<<20)))
	if want := "atomicfile: write " + path + ": file too large"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestPanickingFillLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	func() {
		defer func() { recover() }()
		atomicfile.Write(filepath.Join(dir, "a.txt"), func(io.Writer) error { panic("fill") })
	}()
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("folder holds %v, want nothing", got)
	}
}

func TestUnwritablePlacesAreErrors(t *testing.T) {
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no folder":         filepath.Join(dir, "missing", "a.txt"),
		"a folder":          locked,
		"folder read-only":  filepath.Join(locked, "a.txt"),
		"file where folder": filepath.Join(os.Args[0], "a.txt"),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "folder read-only" && os.Geteuid() == 0 {
				t.Skip("root may write everywhere")
			}
			if err := atomicfile.Write(path, text("x")); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one that names %s", err, path)
			}
		})
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %v, want locked alone", got)
	}
}

func TestPatternFindsOnlyThisFilesTemporaries(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run[1]")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "last*")
	var during []string
	err := atomicfile.Write(path, func(io.Writer) error {
		return atomicfile.Write(filepath.Join(dir, "lastly"), func(io.Writer) (err error) {
			during, err = filepath.Glob(atomicfile.Pattern(path))
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(during) != 1 {
		t.Errorf("found %v during the write, want the one temporary file of %s", during, path)
	}
	if after, _ := filepath.Glob(atomicfile.Pattern(path)); len(after) != 0 {
		t.Errorf("found %v after the write, want nothing", after)
	}
}
