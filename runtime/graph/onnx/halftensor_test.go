package onnx

import "testing"

func TestFloat16BitsAreTheNearest(t *testing.T) {
	for _, c := range []struct {
		v    float32
		bits uint16
	}{
		{0, 0}, {1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {65519.996, 0x7bff}, {65520, 0x7c00}, {-1e9, 0xfc00},
		{1 + 0x1p-11, 0x3c00}, {1 + 0x3p-11, 0x3c02}, {1 + 0x1.01p-11, 0x3c01}, {2 - 0x1p-12, 0x4000},
		{0x1p-14, 0x0400}, {0x1p-24, 1}, {0x1p-25, 0}, {0x3p-25, 2}, {-0x1.8p-25, 0x8001}, {0x1p-14 - 0x1p-26, 0x0400},
	} {
		if got := float16Bits(c.v); got != c.bits {
			t.Errorf("%v is %#04x, want %#04x", c.v, got, c.bits)
		}
	}
}

func TestEveryFloat16StaysItself(t *testing.T) {
	for bits := range 1 << 16 {
		v := float16(uint16(bits))
		if got := float16Bits(v); got != uint16(bits) && v == v {
			t.Fatalf("%#04x is %v and becomes %#04x", bits, v, got)
		}
	}
}
