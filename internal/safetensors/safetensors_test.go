package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/runtime/graph"
)

// file puts a file together by hand; data is hexadecimal.
func file(header, data string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(data, " ", ""))
	if err != nil {
		panic(err)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), raw...)
}

func parse(b []byte) (File, error) { return Read(bytes.NewReader(b), int64(len(b))) }

func written(t *testing.T, tensors map[string]graph.Tensor, meta map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tensors, meta); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var sample = map[string]graph.Tensor{
	"w":     graph.Floats([]float32{1, -2, 0.5, 3, 0, 1e-38}, 2, 3),
	"a<b>é": graph.Scalar(7),
	"step":  graph.Ints([]int64{math.MinInt64, 5}, 2),
	"empty": graph.NewTensor(graph.Float32, 4, 0),
}

func TestWrittenBytesAreTheFormats(t *testing.T) {
	got := written(t, map[string]graph.Tensor{
		"b": graph.Floats([]float32{1, -2}, 2),
		"a": graph.Scalar(0.5),
		"n": graph.Ints([]int64{-1}, 1, 1),
	}, map[string]string{"format": "pt"})
	want := file(`{"__metadata__":{"format":"pt"},"n":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},`+
		`"a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}     `,
		"ffffffffffffffff 0000003f 0000803f 000000c0")
	if !bytes.Equal(got, want) {
		t.Errorf("wrote\n%q, want\n%q", got, want)
	}
	if n := binary.LittleEndian.Uint64(got); n%8 != 0 {
		t.Errorf("header of %d bytes leaves the data unaligned", n)
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for _, meta := range []map[string]string{nil, {"k": "v\"\n", "": "<&>"}} {
		first := written(t, sample, meta)
		got, err := parse(first)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, File{sample, meta}) {
			t.Errorf("read %v, want %v", got, File{sample, meta})
		}
		if again := written(t, maps.Clone(sample), maps.Clone(meta)); !bytes.Equal(first, again) {
			t.Error("two writes of the same tensors differ")
		}
	}
	if got, err := parse(written(t, nil, nil)); err != nil || len(got.Tensors) != 0 {
		t.Errorf("an empty file is read as %v, %v", got, err)
	}
}

func TestLargeTensorIsReadBackBitForBit(t *testing.T) {
	want := graph.NewTensor(graph.Float32, 3, 7001)
	for i := range want.F {
		want.F[i] = math.Float32frombits(uint32(i) * 2654435761) // NaN and subnormal numbers too
	}
	got, err := parse(written(t, map[string]graph.Tensor{"x": want}, nil))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got.Tensors["x"].F {
		if math.Float32bits(v) != math.Float32bits(want.F[i]) {
			t.Fatalf("element %d is %x, want %x", i, math.Float32bits(v), math.Float32bits(want.F[i]))
		}
	}
}

func TestOtherElementTypesAreConverted(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		dtype, data string
		want        graph.Tensor
	}{
		{"F64", "000000000000f83f 000000000000f0ff", graph.Floats([]float32{1.5, -inf}, 2)},
		{"F16", "003c 00c0 0100 ff7b 007c 0080", graph.Floats([]float32{1, -2, 1. / (1 << 24), 65504, inf, float32(math.Copysign(0, -1))}, 6)},
		{"F16", "ff03 0004", graph.Floats([]float32{1023. / (1 << 24), 1. / (1 << 14)}, 2)},
		{"BF16", "803f 00c0 80ff", graph.Floats([]float32{1, -2, -inf}, 3)},
		{"I32", "ffffffff 00000080", graph.Ints([]int64{-1, math.MinInt32}, 2)},
	} {
		n := len(c.want.F) + len(c.want.I)
		size := len(strings.ReplaceAll(c.data, " ", "")) / 2
		got, err := parse(file(fmt.Sprintf(`{"x":{"dtype":%q,"shape":[%d],"data_offsets":[0,%d]}}`, c.dtype, n, size), c.data))
		if err != nil || !reflect.DeepEqual(got.Tensors["x"], c.want) {
			t.Errorf("%s %s: got %v, %v, want %v", c.dtype, c.data, got.Tensors["x"], err, c.want)
		}
	}
	if got := halfToFloat(0x7e00); got == got {
		t.Errorf("a half-precision NaN became %v", got)
	}
}

func TestDamagedFileIsRefused(t *testing.T) {
	entry := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`"x":{"dtype":%q,"shape":%s,"data_offsets":%s}`, dtype, shape, offsets)
	}
	good := entry("F32", "[2]", "[0,8]")
	const data = "0000803f 0000803f"
	huge := binary.LittleEndian.AppendUint64(nil, math.MaxUint64)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":             {nil, "truncated: 0 bytes"},
		"header cut":        {file("{"+good+"}", "")[:30], "truncated: the header should have 54 bytes, the file has 30"},
		"data cut":          {file("{"+good+"}", data[:8]), `truncated: tensor "x" ends at byte 8 of the data, which has 4`},
		"not a header":      {append([]byte("\x89PNG\r\n\x1a\n"), data...), "over the format's limit of 100000000"},
		"length overflows":  {huge, "over the format's limit"},
		"not JSON":          {file("x", ""), "invalid character 'x'"},
		"not UTF-8":         {file("{\"\xff\":1}", ""), "not UTF-8"},
		"an array":          {file("[1]", ""), "expected {"},
		"open":              {file("{"+good, data), "unexpected EOF"},
		"two objects":       {file("{}{}", ""), "more than one JSON object"},
		"name twice":        {file("{"+good+","+good+"}", data), `"x" occurs twice`},
		"key twice":         {file(`{"x":{"dtype":"F32","dtype":"F32"}}`, ""), `"x": "dtype" occurs twice`},
		"metadata twice":    {file(`{"__metadata__":{"a":"","a":""}}`, ""), `"a" occurs twice`},
		"metadata a number": {file(`{"__metadata__":{"a":1}}`, ""), "expected a string"},
		"unknown key":       {file(`{"x":{"stride":[1]}}`, ""), `"stride": not a key of a tensor`},
		"no shape":          {file(`{"x":{"dtype":"F32","data_offsets":[0,0]}}`, ""), `"shape" is missing`},
		"unknown type":      {file("{"+entry("F8_E4M3", "[0]", "[0,0]")+"}", ""), `elements of type "F8_E4M3" are not supported`},
		"negative size":     {file("{"+entry("F32", "[-1]", "[0,8]")+"}", data), "expected a count"},
		"fractional size":   {file("{"+entry("F32", "[1.5]", "[0,8]")+"}", data), "expected a count"},
		"text as size":      {file("{"+entry("F32", `["2"]`, "[0,8]")+"}", data), "expected a count"},
		"nested":            {file("{"+entry("F32", strings.Repeat("[", 5000), "[0,8]")+"}", data), "expected a count"},
		"shape overflows":   {file("{"+entry("F32", "[4611686018427387904,4]", "[0,8]")+"}", data), "no array can have shape"},
		"too many sizes":    {file("{"+entry("F32", "["+strings.Repeat("1,", 40)+"1]", "[0,4]")+"}", data), "more than 32 dimensions"},
		"shape too large":   {file("{"+entry("F32", "[2000000000]", "[0,8]")+"}", data), `tensor "x" has 8 bytes, F32[2000000000] needs 8000000000`},
		"one offset":        {file("{"+entry("F32", "[2]", "[8]")+"}", data), "1 numbers, not 2"},
		"offsets reversed":  {file("{"+entry("F32", "[2]", "[8,0]")+"}", data), `begins at byte 8`},
		"gap":               {file("{"+entry("F32", "[1]", "[4,8]")+"}", data), `tensor "x" begins at byte 4 of the data, where 0 is the end`},
		"overlap":           {file("{"+good+`,"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, data), `tensor "y" begins at byte 4`},
		"bytes left":        {file("{"+entry("F32", "[1]", "[0,4]")+"}", data), "4 bytes follow the last tensor"},
	} {
		if _, err := parse(c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.safetensors")
	if err := os.WriteFile(path, written(t, sample, nil)[:100], 0o666); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, dir, filepath.Join(dir, "none")} {
		if _, err := ReadFile(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: error %v", p, err)
		}
	}
	if _, err := ReadFile(path); hint.Of(err) == "" {
		t.Errorf("no hint with %v", err)
	}
}

func TestUnwritableTensorsAreRefused(t *testing.T) {
	for name, tensors := range map[string]map[string]graph.Tensor{
		"reserved name": {"__metadata__": graph.Scalar(1)},
		"not UTF-8":     {"\xff": graph.Scalar(1)},
		"too few":       {"x": {Shape: graph.Shape{2}, F: []float32{1}}},
		"negative":      {"x": {Shape: graph.Shape{-1, -1}, F: []float32{1}}},
		"both":          {"x": {Shape: graph.Shape{1}, F: []float32{1}, I: []int64{1}}},
	} {
		var b bytes.Buffer
		if err := Write(&b, tensors, nil); err == nil || b.Len() > 0 {
			t.Errorf("%s: error %v, %d bytes written", name, err, b.Len())
		}
	}
	if err := Write(&bytes.Buffer{}, nil, map[string]string{"a": "\xff"}); err == nil {
		t.Error("metadata that is not UTF-8 was written")
	}
}

type fullDisk struct{ left int }

var errFull = errors.New("no space left on device")

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(d.left, len(b))
	if d.left -= n; n < len(b) {
		return n, errFull
	}
	return n, nil
}

func TestWriterErrorsComeBack(t *testing.T) {
	whole := len(written(t, sample, nil))
	for _, left := range []int{0, 4, 100, whole - 1} {
		if err := Write(&fullDisk{left}, sample, nil); !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: error %v", left, err)
		}
	}
	if err := Write(&fullDisk{whole}, sample, nil); err != nil {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, sample, map[string]string{"k": "v"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(file(`{"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"y":{"dtype":"I32","shape":[],"data_offsets":[2,6]}}`, "003c 01000000"))
	f.Add(file(`{"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, ""))
	f.Add(file("{} ", ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parse(b)
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := Write(&first, got.Tensors, got.Meta); err != nil {
			t.Fatal(err)
		}
		again, err := parse(first.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(&second, again.Tensors, again.Meta); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("written twice, the file differs (%v)", err)
		}
	})
}
