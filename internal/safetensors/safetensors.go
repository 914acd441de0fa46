// Package safetensors reads and writes named tensors in the safetensors format (github.com/huggingface/safetensors).
//
//	err := safetensors.Write(w, map[string]graph.Tensor{"fc.weight": weight}, nil)
//	f, err := safetensors.ReadFile("student.safetensors")
package safetensors

import (
	"fmt"
	"io"
	"os"

	"distill/runtime/graph"
)

// A file is the header's length (8 bytes, little-endian), the header in JSON padded with spaces, and the tensors' elements,
// little-endian and row-major, one tensor after another without a gap.
const (
	prefixSize = 8
	maxHeader  = 100_000_000 // the format's own limit
	maxRank    = 32          // ours: a list of ones takes more memory than it takes in the file

	metaKey = "__metadata__"
)

// File is what a safetensors file holds.
type File struct {
	Tensors map[string]graph.Tensor
	Meta    map[string]string // the header's __metadata__; nil if there is none
}

// ReadFile reads a safetensors file. Its errors name the file.
func ReadFile(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("safetensors: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return File{}, fmt.Errorf("safetensors: %w", err)
	}
	if !info.Mode().IsRegular() {
		return File{}, fmt.Errorf("safetensors: read %s: not a regular file", path)
	}
	file, err := read(f, info.Size())
	if err != nil {
		return File{}, fmt.Errorf("safetensors: read %s: %w", path, err)
	}
	return file, nil
}

// Read reads a safetensors file of size bytes. Elements of type F64, F16 and BF16 are converted to float32 (F64 rounded to
// nearest) and I32 to int64; other types are an error. So is everything the format forbids: a header longer than 100 MB or
// than the file, a name that occurs twice, elements that overlap, leave a gap, or do not fill the shape or the file. What it
// allocates is bounded by a small multiple of size.
func Read(r io.ReaderAt, size int64) (File, error) {
	f, err := read(r, size)
	if err != nil {
		return File{}, fmt.Errorf("safetensors: read: %w", err)
	}
	return f, nil
}

func read(r io.ReaderAt, size int64) (File, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return File{}, err
	}
	f := File{Tensors: make(map[string]graph.Tensor, len(h.infos)), Meta: h.meta}
	for _, info := range h.infos {
		section := io.NewSectionReader(r, h.dataStart+info.begin, info.end-info.begin)
		t, err := info.read(section)
		if err != nil {
			return File{}, fmt.Errorf("tensor %q at byte %d: %w", info.name, h.dataStart+info.begin, err)
		}
		f.Tensors[info.name] = t
	}
	return f, nil
}
