package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"distill/internal/hint"
)

// Entry is a cache in a folder of caches.
type Entry struct {
	Folder string `json:"folder"`
	Bytes  int64  `json:"bytes"`
	Useful bool   `json:"useful"` // or being written: not to be removed
	Reason string `json:"reason"` // for that
}

// List judges the caches that lie in a root's folders, and the root itself if it is one. Useless are those that cannot be read,
// are not complete, or of which the ONNX Runtime is another version than given or the teacher's file has changed; a file that
// is gone may come back.
func List(root, onnxruntime string) ([]Entry, error) {
	folders := []string{root}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	for _, e := range entries {
		folders = append(folders, filepath.Join(root, e.Name()))
	}
	var list []Entry
	sums := map[string]string{}
	for _, folder := range folders {
		if !Exists(folder) {
			continue
		}
		e := Entry{Folder: folder}
		if e.Useful, e.Reason, err = judge(&e, onnxruntime, sums); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// judge says whether a cache is of use, and why; sums are those of models by path, as far as they are known.
func judge(e *Entry, onnxruntime string, sums map[string]string) (useful bool, reason string, err error) {
	c, err := Open(e.Folder)
	if err != nil {
		return false, err.Error(), nil
	}
	defer c.Close()
	st, err := c.Status()
	if err != nil {
		return false, "", err
	}
	e.Bytes = st.Bytes
	k := c.Info().Key
	switch {
	case st.Busy:
		return true, "a process is writing it", nil
	case !st.Complete():
		return false, fmt.Sprintf("it is not complete: it has %d records of %d", st.Whole, st.Records), nil
	case k.Run.ONNXRuntime != onnxruntime:
		return false, fmt.Sprintf("it was made with ONNX Runtime %s, this is %s", k.Run.ONNXRuntime, onnxruntime), nil
	}
	path := c.Info().Model
	sum, known := sums[path]
	if !known {
		if sum, err = digest(path); errors.Is(err, os.ErrNotExist) {
			return true, fmt.Sprintf("complete; its teacher %s is gone", path), nil
		}
		if err != nil {
			return false, "", fmt.Errorf("cache: read the teacher of %s: %w", e.Folder, err)
		}
		sums[path] = sum
	}
	if sum != k.Teacher {
		return false, fmt.Sprintf("its teacher %s has changed", path), nil
	}
	return true, "complete", nil
}

// digest is the SHA-256 of a file.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Remove deletes a cache that no process is writing, and its folder if nothing else is in it.
func Remove(folder string) error {
	if !Exists(folder) {
		_, err := ReadInfo(folder)
		return err
	}
	held, err := lock(folder)
	if err != nil {
		return err
	}
	defer held.Close()
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("cache: remove: %w", err)
	}
	// cache.json goes last but for the lock: what is left of a removal that fails is still a cache, to be removed again.
	names := []string{infoName, lockName}
	for _, e := range entries {
		if isShard(e.Name()) || isTemporary(e.Name()) {
			names = append([]string{e.Name()}, names...)
		}
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return hint.Wrap(fmt.Errorf("cache: remove: %w", err), "make the folder one that can be written to")
		}
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cache: remove: %w", err)
	}
	return nil
}
