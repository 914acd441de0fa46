package safetensors

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"unicode/utf8"

	"distill/runtime/graph"
)

// Write writes the tensors, as F32 or I64, and meta unless it is empty. The same arguments give the same bytes: int64 tensors
// come before float32 ones, as in the format's reference implementation, and else by name. It refuses the name __metadata__,
// names and meta that are not UTF-8, a header over 100 MB, and a tensor whose elements do not fill its shape; errors of w come
// back wrapped.
func Write(w io.Writer, tensors map[string]graph.Tensor, meta map[string]string) error {
	names := slices.SortedFunc(maps.Keys(tensors), func(a, b string) int {
		return cmp.Or(cmp.Compare(tensors[b].DType(), tensors[a].DType()), cmp.Compare(a, b))
	})
	head, err := appendHeader(nil, names, tensors, meta)
	if err != nil {
		return fmt.Errorf("safetensors: write: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<16)
	var prefix [prefixSize]byte
	binary.LittleEndian.PutUint64(prefix[:], uint64(len(head)))
	out.Write(prefix[:]) // a bufio.Writer keeps the first error for Flush
	out.Write(head)
	var b [8]byte
	for _, name := range names {
		for _, v := range tensors[name].F {
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
			out.Write(b[:4])
		}
		for _, v := range tensors[name].I {
			binary.LittleEndian.PutUint64(b[:], uint64(v))
			out.Write(b[:])
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("safetensors: write: %w", err)
	}
	return nil
}

// appendHeader writes the JSON header for tensors in the order of names, padded so that the data is aligned to 8 bytes.
func appendHeader(b []byte, names []string, tensors map[string]graph.Tensor, meta map[string]string) ([]byte, error) {
	b = append(b, '{')
	if len(meta) > 0 {
		b = append(b, `"`+metaKey+`":{`...)
		for i, key := range slices.Sorted(maps.Keys(meta)) {
			if !utf8.ValidString(key) || !utf8.ValidString(meta[key]) {
				return nil, fmt.Errorf("metadata %q is not UTF-8 text", key)
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, key), ':')
			b = appendString(b, meta[key])
		}
		b = append(b, '}')
	}
	var at int64
	for i, name := range names {
		t := tensors[name]
		dtype, element := "F32", 4
		if t.DType() == graph.Int64 {
			dtype, element = "I64", 8
		}
		size, err := byteSize(t.Shape, element)
		switch {
		case name == metaKey || !utf8.ValidString(name):
			return nil, fmt.Errorf("a tensor cannot be named %q", name)
		case err != nil:
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		case size != int64(4*len(t.F)+8*len(t.I)):
			return nil, fmt.Errorf("tensor %q: %d elements do not fill shape %v", name, len(t.F)+len(t.I), t.Shape)
		}
		if i > 0 || len(meta) > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(appendString(b, name), `:{"dtype":%q,"shape":%v,"data_offsets":[%d,%d]}`, dtype, t.Shape, at, at+size)
		at += size
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	if len(b) > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes is over the format's limit of %d", len(b), maxHeader)
	}
	return b, nil
}

// appendString writes a JSON string, without the escapes that only HTML needs.
func appendString(b []byte, s string) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.Encode(s) // a string cannot fail
	return append(b, bytes.TrimSpace(buf.Bytes())...)
}
