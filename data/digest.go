package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

// Digest is the SHA-256, as 64 hexadecimal digits, of all that a source holds: the shape of its images, the names of its
// classes, and every sample and its class in their order, wherever they lie. Of image files it is the bytes that count, which
// are read once, several files at a time; none but the first is decoded, so that another decoder shows.
func Digest(s Source) (string, error) {
	h := sha256.New()
	c, height, width := s.Shape()
	fmt.Fprintf(h, "%d %d %d %d %q\n", s.Len(), c, height, width, s.Classes()) // a hash takes everything
	pixels := make([]float32, c*height*width)
	encoded := make([]byte, 0, 4*len(pixels)+8)
	read := func(i int) error {
		label, err := s.Read(i, pixels)
		if err != nil {
			return err
		}
		encoded = binary.LittleEndian.AppendUint64(encoded[:0], uint64(label))
		for _, v := range pixels {
			encoded = binary.LittleEndian.AppendUint32(encoded, math.Float32bits(v))
		}
		h.Write(encoded)
		return nil
	}
	switch s := s.(type) {
	case *records:
		for _, r := range s.list {
			h.Write([]byte{r.label})
			h.Write(r.pixels)
		}
	case *folder:
		if s.Len() > 0 {
			if err := read(0); err != nil {
				return "", err
			}
		}
		if err := s.digest(h); err != nil {
			return "", err
		}
	default:
		for i := range s.Len() {
			if err := read(i); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digest writes the class and the SHA-256 of each file.
func (f *folder) digest(w io.Writer) error {
	sums := make([][sha256.Size]byte, len(f.files))
	errs := make([]error, len(f.files))
	var next atomic.Int64
	var failed atomic.Bool
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(f.files) && !failed.Load(); i = int(next.Add(1)) - 1 {
				if sums[i], errs[i] = digestFile(f.files[i].path); errs[i] != nil {
					failed.Store(true)
				}
			}
		})
	}
	workers.Wait()
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	for i, file := range f.files {
		fmt.Fprintf(w, "%d %x\n", file.label, sums[i])
	}
	return nil
}

func digestFile(path string) (sum [sha256.Size]byte, err error) {
	in, err := os.Open(path)
	if err == nil {
		defer in.Close()
		h := sha256.New()
		_, err = io.Copy(h, in)
		h.Sum(sum[:0])
	}
	if err != nil {
		return sum, fmt.Errorf("data: read %s: %w", path, err)
	}
	return sum, nil
}
