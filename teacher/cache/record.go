package cache

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"distill/internal/hint"
)

// Data types of what is kept.
const (
	dtype32 = "float32"
	dtype16 = "float16"
)

// A record is its place in the shard, counted from 1, the values, and a CRC-32C of both: little-endian, four bytes for each
// but a value of float16, whose number is made even by a zero. Bytes that were never written are no record, for their place
// is 0.
func recordSize(values int, half bool) int {
	if half {
		return 8 + (values+1)/2*4
	}
	return 8 + 4*values
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode fills a record. A value that float16 cannot hold, 65,520 or more, is an error.
func encode(record []byte, place int, values []float32, half bool) error {
	le := binary.LittleEndian
	end := len(record) - 4
	le.PutUint32(record, uint32(place+1))
	body := record[4:end]
	if half {
		clear(body)
		for i, v := range values {
			h := toHalf(v)
			if h&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
				return hint.Wrap(fmt.Errorf("%v does not fit into float16", v), "keep float32: teacher.cache.dtype=float32")
			}
			le.PutUint16(body[2*i:], h)
		}
	} else {
		for i, v := range values {
			le.PutUint32(body[4*i:], math.Float32bits(v))
		}
	}
	le.PutUint32(record[end:], crc32.Checksum(record[:end], castagnoli))
	return nil
}

// intact reports whether the bytes are the record of a place.
func intact(record []byte, place int) bool {
	le, end := binary.LittleEndian, len(record)-4
	return le.Uint32(record) == uint32(place+1) && le.Uint32(record[end:]) == crc32.Checksum(record[:end], castagnoli)
}

// decode reads the values of a record that is intact.
func decode(values []float32, record []byte, half bool) {
	le, body := binary.LittleEndian, record[4:]
	for i := range values {
		if half {
			values[i] = fromHalf(le.Uint16(body[2*i:]))
		} else {
			values[i] = math.Float32frombits(le.Uint32(body[4*i:]))
		}
	}
}

// Round makes of values, in place, what a cache of a data type gives back of them.
func Round(values []float32, dtype string) {
	if dtype != dtype16 {
		return
	}
	for i, v := range values {
		values[i] = fromHalf(toHalf(v))
	}
}

// toHalf rounds to the nearest IEEE 754 half-precision number, ties to even.
func toHalf(v float32) uint16 {
	b := math.Float32bits(v)
	sign, b := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00
	case b >= 0x477ff000: // 65520 and up round to infinity
		return sign | 0x7c00
	case b < 0x38800000: // below 2⁻¹⁴: a multiple of 2⁻²⁴, which this sum rounds to
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-math.Float32bits(0.5))
	}
	return sign | uint16((b-0x38000000+0xfff+b>>13&1)>>13)
}

// fromHalf widens a half-precision number; exact.
func fromHalf(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exp {
	case 0: // zero and subnormal
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	case 0x1f: // infinity and NaN
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp-15+127)<<23 | frac<<13)
}
