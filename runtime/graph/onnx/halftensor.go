package onnx

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
)

// float16Bits is the half-precision number nearest to v (IEEE 754, ties to even): infinite from 65520 on, 0 up to 2⁻²⁵.
func float16Bits(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, size := uint16(bits>>16)&0x8000, bits&^(1<<31)
	switch {
	case size > 0xff<<23: // NaN
		return sign | 0x7e00
	case size >= 0x477ff000: // 65520
		return sign | 0x7c00
	case size < 0x38800000: // below 2⁻¹⁴ numbers are multiples of 2⁻²⁴
		return sign | uint16(math.RoundToEven(math.Abs(float64(v))*0x1p24))
	}
	size += 0xfff + size>>13&1
	return sign | uint16((size-(127-15)<<23)>>13)
}

// encodeHalf is a constant of floats as float16.
func encodeHalf(name string, t *pb.TensorProto) *pb.TensorProto {
	v, err := decode(t)
	if err != nil {
		panic(err) // it was encoded here
	}
	raw := make([]byte, 0, 2*len(v.F))
	for _, x := range v.F {
		raw = binary.LittleEndian.AppendUint16(raw, float16Bits(x))
	}
	return &pb.TensorProto{Name: proto.String(name), Dims: t.Dims, DataType: proto.Int32(int32(pb.TensorProto_FLOAT16)), RawData: raw}
}
