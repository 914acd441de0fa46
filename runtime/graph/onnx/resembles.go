package onnx

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// formats are the files that get mistaken for ONNX models, by the bytes that open them; the first that fits counts.
var formats = []struct {
	offset int
	magic  string
	what   string
}{
	{0, "PK\x03\x04", "a zip archive, such as a PyTorch checkpoint"},
	{0, "\x80\x02", "a Python pickle, such as an old PyTorch checkpoint"},
	{0, "\x89HDF\r\n\x1a\n", "an HDF5 file, such as a Keras model"},
	{4, "TFL3", "a TensorFlow Lite model"},
	{4, "ORTM", "a model in ONNX Runtime's own format"},
	{8, `{"`, "a safetensors file"},
	{0, "version https://git-lfs", "a Git LFS pointer, not the file that it stands for"},
	{0, "\x89PNG\r\n\x1a\n", "a PNG image"},
	{0, "\xff\xd8\xff", "a JPEG image"},
	{0, "\x1f\x8b", "gzip-compressed data"},
	{0, "\x7fELF", "a program or shared library"},
	{0, "%PDF", "a PDF document"},
}

// resembles says what a file that is no ONNX model looks like; "" where nothing known.
func resembles(b []byte) string {
	if len(b) == 0 {
		return "an empty file"
	}
	for _, f := range formats {
		if len(b) > f.offset && strings.HasPrefix(string(b[f.offset:min(len(b), 64)]), f.magic) {
			return f.what
		}
	}
	if text(b[:min(len(b), 512)]) {
		return "text"
	}
	return ""
}

// text reports whether the bytes are UTF-8 without control characters; the last rune may be cut.
func text(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 && utf8.FullRune(b) || unicode.IsControl(r) && !unicode.IsSpace(r) {
			return false
		}
		b = b[n:]
	}
	return true
}
