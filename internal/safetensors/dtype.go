package safetensors

import (
	"encoding/binary"
	"io"
	"math"

	"distill/runtime/graph"
)

// dtype is an element type of the format and how it is read into one of ours: exactly one of float and int is set.
type dtype struct {
	name  string
	size  int // bytes
	float func(b []byte) float32
	int   func(b []byte) int64
}

var dtypes = []dtype{
	{name: "F64", size: 8, float: func(b []byte) float32 { return float32(math.Float64frombits(binary.LittleEndian.Uint64(b))) }},
	{name: "F32", size: 4, float: func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }},
	{name: "F16", size: 2, float: func(b []byte) float32 { return halfToFloat(binary.LittleEndian.Uint16(b)) }},
	{name: "BF16", size: 2, float: func(b []byte) float32 { return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16) }},
	{name: "I64", size: 8, int: func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) }},
	{name: "I32", size: 4, int: func(b []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(b))) }},
}

// halfToFloat converts IEEE 754 binary16, exactly.
func halfToFloat(h uint16) float32 {
	exponent, fraction := int(h>>10&0x1f), float64(h&0x3ff)
	var f float64
	switch exponent {
	case 0: // zero and subnormal numbers
		f = math.Ldexp(fraction, -24)
	case 0x1f:
		if f = math.Inf(1); fraction != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+fraction, exponent-25)
	}
	if h>>15 == 1 {
		f = -f
	}
	return float32(f)
}

// read reads the elements; the layout is checked, so that the shape is no larger than what the file holds.
func (in info) read(r io.Reader) (graph.Tensor, error) {
	t := graph.NewTensor(graph.Float32, in.shape...)
	if in.dtype.int != nil {
		t = graph.NewTensor(graph.Int64, in.shape...)
	}
	size := in.dtype.size
	chunk := make([]byte, min(in.end-in.begin, 1<<16))
	for i, n := 0, t.Shape.Size(); i < n; {
		b := chunk[:min(len(chunk), (n-i)*size)]
		if _, err := io.ReadFull(r, b); err != nil {
			return t, err
		}
		for ; len(b) > 0; i, b = i+1, b[size:] {
			if in.dtype.int != nil {
				t.I[i] = in.dtype.int(b)
			} else {
				t.F[i] = in.dtype.float(b)
			}
		}
	}
	return t, nil
}
