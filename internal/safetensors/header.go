package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"distill/internal/hint"
	"distill/runtime/graph"
)

type header struct {
	infos     []info // by place in the file
	meta      map[string]string
	dataStart int64
}

// info is a tensor's entry in the header; begin and end count bytes from the start of the data.
type info struct {
	name       string
	dtype      dtype
	shape      graph.Shape
	begin, end int64
}

// readHeader reads the header and checks it against the file's size before anything is allocated for it.
func readHeader(r io.ReaderAt, size int64) (header, error) {
	if size < prefixSize {
		return header{}, truncated("%d bytes are too few for a safetensors file", size)
	}
	var prefix [prefixSize]byte
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), prefix[:]); err != nil {
		return header{}, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > maxHeader {
		return header{}, hint.Wrap(fmt.Errorf("a header of %d bytes is over the format's limit of %d", n, maxHeader), "is this a safetensors file?")
	}
	if int64(n) > size-prefixSize {
		return header{}, truncated("the header should have %d bytes, the file has %d", n, size)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(r, prefixSize, int64(n)), text); err != nil {
		return header{}, err
	}
	h := header{dataStart: prefixSize + int64(n)}
	if err := h.parse(text); err != nil {
		return header{}, fmt.Errorf("header: %w", err)
	}
	return h, h.checkLayout(size - h.dataStart)
}

func truncated(format string, args ...any) error {
	return hint.Wrap(fmt.Errorf("truncated: "+format, args...), "copy or download the file again")
}

// checkLayout checks that the tensors fill dataSize bytes in order, without gap or overlap, and each its own shape.
func (h *header) checkLayout(dataSize int64) error {
	slices.SortStableFunc(h.infos, func(a, b info) int { return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end)) })
	var at int64
	for _, in := range h.infos {
		want, err := byteSize(in.shape, in.dtype.size)
		switch {
		case err != nil:
			return fmt.Errorf("tensor %q: %w", in.name, err)
		case in.begin != at:
			return fmt.Errorf("tensor %q begins at byte %d of the data, where %d is the end of the one before", in.name, in.begin, at)
		case in.end-in.begin != want:
			return fmt.Errorf("tensor %q has %d bytes, %s%v needs %d", in.name, in.end-in.begin, in.dtype.name, in.shape, want)
		case in.end > dataSize:
			return truncated("tensor %q ends at byte %d of the data, which has %d", in.name, in.end, dataSize)
		}
		at = in.end
	}
	if at != dataSize {
		return fmt.Errorf("%d bytes follow the last tensor", dataSize-at)
	}
	return nil
}

// byteSize is the number of bytes of a shape; an error if a dimension is negative or an int cannot count them.
func byteSize(shape graph.Shape, element int) (int64, error) {
	if slices.Contains(shape, 0) {
		return 0, nil
	}
	n := element
	for _, d := range shape {
		if d < 0 || d > math.MaxInt/n {
			return 0, fmt.Errorf("no array can have shape %v", shape)
		}
		n *= d
	}
	return int64(n), nil
}

// parse reads the JSON token by token: encoding/json alone would let a name occur twice.
func (h *header) parse(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("not UTF-8 text")
	}
	d := &decoder{json.NewDecoder(bytes.NewReader(text))}
	d.UseNumber()
	err := d.object(func(name string) error {
		if name == metaKey {
			h.meta = map[string]string{}
			return d.object(func(key string) (err error) {
				h.meta[key], err = d.text()
				return err
			})
		}
		in, err := d.info(name)
		h.infos = append(h.infos, in)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON object")
	}
	return nil
}

// decoder reads the few JSON shapes a header has, none of which nests deeper than three.
type decoder struct{ *json.Decoder }

// object reads an object, its values by way of value; a key that occurs twice is an error.
func (d *decoder) object(value func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q occurs twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
	}
	return d.delim('}')
}

func (d *decoder) delim(want json.Delim) error {
	t, err := d.token()
	if err == nil && t != want {
		err = fmt.Errorf("expected %v at byte %d, got %v", want, d.InputOffset(), t)
	}
	return err
}

func (d *decoder) token() (json.Token, error) {
	t, err := d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return t, err
}

func (d *decoder) text() (string, error) {
	t, err := d.token()
	if s, ok := t.(string); ok || err != nil {
		return s, err
	}
	return "", fmt.Errorf("expected a string at byte %d, got %v", d.InputOffset(), t)
}

// counts reads a list of at most maxRank integers from 0 to the largest int.
func (d *decoder) counts() ([]int, error) {
	if err := d.delim('['); err != nil {
		return nil, err
	}
	list := []int{}
	for d.More() {
		t, err := d.token()
		if err != nil {
			return nil, err
		}
		number, _ := t.(json.Number)
		n, err := strconv.ParseInt(string(number), 10, strconv.IntSize)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("expected a count at byte %d, got %v", d.InputOffset(), t)
		}
		if list = append(list, int(n)); len(list) > maxRank {
			return nil, fmt.Errorf("more than %d dimensions", maxRank)
		}
	}
	return list, d.delim(']')
}

func (d *decoder) info(name string) (info, error) {
	in := info{name: name}
	missing := map[string]bool{"dtype": true, "shape": true, "data_offsets": true}
	err := d.object(func(key string) (err error) {
		switch key {
		case "dtype":
			in.dtype, err = d.dtype()
		case "shape":
			in.shape, err = d.counts()
		case "data_offsets":
			var offsets []int
			if offsets, err = d.counts(); err == nil && len(offsets) != 2 {
				err = fmt.Errorf("%d numbers, not 2", len(offsets))
			}
			if err == nil {
				in.begin, in.end = int64(offsets[0]), int64(offsets[1])
			}
		default:
			err = errors.New("not a key of a tensor")
		}
		delete(missing, key)
		return err
	})
	for key := range missing {
		if err == nil {
			err = fmt.Errorf("%q is missing", key)
		}
	}
	return in, err
}

func (d *decoder) dtype() (dtype, error) {
	name, err := d.text()
	if err != nil {
		return dtype{}, err
	}
	i := slices.IndexFunc(dtypes, func(t dtype) bool { return t.name == name })
	if i < 0 {
		return dtype{}, fmt.Errorf("elements of type %q are not supported", name)
	}
	return dtypes[i], nil
}
