// Package atomicfile writes a file whole or not at all.
//
//	err := atomicfile.Write("student.onnx", func(w io.Writer) error {
//		_, err := w.Write(model)
//		return err
//	})
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"distill/internal/hint"
)

// Write puts what fill writes under path, replacing any file there. Whoever opens path, after a crash too, finds the old
// content or the new, never a part: the bytes go, buffered, to a temporary file in the same folder, which is synced,
// renamed to path, and made durable by syncing the folder. When anything fails, fill included, the temporary file is
// removed and path is as it was. The errors of fill come back wrapped; none names the temporary file.
//
// Only a killed process leaves its temporary file behind; Pattern finds it. The file's mode is 0666 less the umask.
func Write(path string, fill func(io.Writer) error) error {
	if err := write(path, fill); err != nil {
		return fmt.Errorf("atomicfile: write %s: %w", path, err)
	}
	return nil
}

// Pattern is the filepath.Glob pattern of the temporary files that Write makes for path. It matches the file of a Write
// now under way as well, so remove what it finds only where nobody else writes path. Special characters in the name of
// path are escaped, those in its folder are too.
func Pattern(path string) string {
	dir, base := filepath.Split(path)
	return escape(dir) + "." + escape(base) + ".*.tmp"
}

func write(path string, fill func(io.Writer) error) (err error) {
	dir, base := filepath.Split(path)
	// os.CreateTemp would give mode 0600, which a rename keeps; the umask should decide.
	temp := filepath.Join(dir, fmt.Sprintf(".%s.%016x.tmp", base, rand.Uint64()))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		err = bare(err)
		if errors.Is(err, fs.ErrNotExist) {
			err = hint.Wrap(err, "make the folder %s first, or choose another", filepath.Clean(dir))
		}
		return err
	}
	done := false
	defer func() {
		if !done { // an error, or a panic of fill
			f.Close()
			os.Remove(temp)
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = hint.Wrap(err, "free some space, or choose a folder on another disk")
		}
	}()
	w := bufio.NewWriterSize(nameless{f}, 1<<16)
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return bare(err)
	}
	if err := f.Close(); err != nil {
		return bare(err)
	}
	if err := os.Rename(temp, path); err != nil {
		return bare(err)
	}
	done = true
	return syncDir(dir)
}

// nameless is a file whose errors do not name it.
type nameless struct{ file io.Writer }

func (n nameless) Write(b []byte) (int, error) {
	k, err := n.file.Write(b)
	return k, bare(err)
}

// bare strips an error of the names that the system call had.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// syncDir makes a rename in the folder survive a power cut.
func syncDir(dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems cannot sync a folder
		return err
	}
	return nil
}

func escape(s string) string {
	var out []rune
	for _, r := range s {
		switch r {
		case '*', '?', '[', '\\':
			out = append(out, '\\')
		}
		out = append(out, r)
	}
	return string(out)
}
