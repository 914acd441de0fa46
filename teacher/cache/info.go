package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"distill/internal/hint"
)

// Names of files in a cache's folder, besides shards.
const (
	infoName = "cache.json"
	lockName = "lock"
)

// Info is what cache.json says.
type Info struct {
	Format int    `json:"format"` // of the folder
	Key    Key    `json:"key"`
	Model  string `json:"model"`  // the teacher's file, as an absolute path
	Recipe string `json:"recipe"` // that it was made from, resolved
	Made   string `json:"made"`   // day
	Sum    string `json:"sum"`    // SHA-256 of the rest
}

// sum is what Sum should be.
func (i Info) sum() string {
	i.Sum = ""
	sum := sha256.Sum256([]byte(text(i)))
	return hex.EncodeToString(sum[:])
}

// maxInfo bounds the bytes of a cache.json.
const maxInfo = 4 << 20

// ReadInfo reads a folder's cache.json and checks it.
func ReadInfo(folder string) (Info, error) {
	path := filepath.Join(folder, infoName)
	info, err := readInfo(path)
	if err == nil {
		return info, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, hint.Wrap(fmt.Errorf("cache: %s is no cache: it has no %s", folder, infoName), "make one with `distill cache build`, or set teacher.cache.write=true")
	}
	return Info{}, hint.Wrap(fmt.Errorf("cache: read %s: %w", path, err), "put the file back from a copy, or remove the folder and build the cache anew")
}

// Exists reports whether a folder has a cache.json.
func Exists(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, infoName))
	return err == nil
}

func readInfo(path string) (info Info, err error) {
	f, err := os.Open(path)
	if err != nil {
		return info, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInfo+1))
	if err != nil {
		return info, err
	}
	if len(b) > maxInfo {
		return info, fmt.Errorf("it has more than %d bytes", maxInfo)
	}
	return parseInfo(b)
}

func parseInfo(b []byte) (info Info, err error) {
	if err := json.Unmarshal(b, &info); err != nil {
		return Info{}, err
	}
	if info.Format != version {
		return Info{}, fmt.Errorf("its format is %d, this distill reads %d", info.Format, version)
	}
	if info.Sum != info.sum() {
		return Info{}, errors.New("it is damaged or was edited: its checksum differs")
	}
	_, err = info.Key.layout()
	return info, err
}

// indented is the text of a cache.json.
func indented(info Info) string {
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil { // as in text
		return text(info)
	}
	return string(b) + "\n"
}
