package data

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"slices"
	"testing"
)

// picture is an image of one colour, encoded as PNG.
func picture(t testing.TB, w, h int, c color.Color) []byte {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.Set(i%w, i/w, c)
	}
	return encode(t, m)
}

func encode(t testing.TB, m image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// hugePNG is a header that claims w×h pixels, and nothing after it.
func hugePNG(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR")
	b = binary.BigEndian.AppendUint32(b, w)
	b = binary.BigEndian.AppendUint32(b, h)
	b = append(b, 8, 2, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[12:]))
}

func TestReadImage(t *testing.T) {
	// Red, white and blue columns: what is left and right of the centre is cropped.
	flag := image.NewRGBA(image.Rect(0, 0, 6, 2))
	gray := image.NewGray(image.Rect(0, 0, 2, 1))
	gray.Pix = []byte{10, 200}
	for i := range 12 {
		flag.Set(i%6, i/6, []color.Color{color.RGBA{255, 0, 0, 255}, color.White, color.RGBA{0, 0, 255, 255}}[i%6/2])
	}
	tests := []struct {
		name    string
		file    []byte
		c, h, w int
		want    []float32
	}{
		{"channels first", picture(t, 2, 1, color.NRGBA{1, 2, 3, 255}), 3, 1, 2, []float32{1, 1, 2, 2, 3, 3}},
		{"gray is expanded", encode(t, gray), 3, 1, 2, []float32{10, 200, 10, 200, 10, 200}},
		{"colour becomes luma", picture(t, 1, 1, color.NRGBA{255, 0, 0, 255}), 1, 1, 1, []float32{76}}, // 0.299·255
		{"transparency is dropped", picture(t, 1, 1, color.NRGBA{90, 80, 70, 0}), 3, 1, 1, []float32{90, 80, 70}},
		{"cropped about the centre", encode(t, flag), 3, 1, 1, []float32{255, 255, 255}},
		{"scaled up", picture(t, 1, 1, color.NRGBA{9, 8, 7, 255}), 3, 1, 2, []float32{9, 9, 8, 8, 7, 7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(writeFiles(t, map[string][]byte{"a.png": tt.file}), "a.png")
			got, err := ReadImage(path, tt.c, tt.h, tt.w)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestBadImagesAreRefused(t *testing.T) {
	good := picture(t, 4, 4, color.White)
	dir := writeFiles(t, map[string][]byte{
		"text.png": []byte("hello"), "cut.png": good[:len(good)-20], "huge.png": hugePNG(60000, 60000), "good.png": good,
	})
	tests := []struct {
		file  string
		c, h  int
		words []string
	}{
		{"text.png", 3, 4, []string{"unknown format", "PNG or JPEG"}},
		{"cut.png", 3, 4, []string{"unexpected EOF"}},
		{"huge.png", 3, 4, []string{"60000x60000", "64 megapixels"}},
		{"none.png", 3, 4, []string{"no such file"}},
		{"good.png", 4, 4, []string{"1 or 3 channels, not 4"}},
		{"good.png", 3, 0, []string{"size [0 4]"}},
	}
	for _, tt := range tests {
		_, err := ReadImage(filepath.Join(dir, tt.file), tt.c, tt.h, 4)
		wantError(t, err, append(tt.words, tt.file)...)
	}
}

func TestThinImageCostsLittle(t *testing.T) {
	m := image.NewGray(image.Rect(0, 0, 1_000_000, 1))
	got := cover(m, 224, 224)
	if got.Bounds() != image.Rect(0, 0, 224, 224) {
		t.Errorf("bounds %v", got.Bounds())
	}
}

func FuzzDecodeImage(f *testing.F) {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewYCbCr(image.Rect(0, 0, 9, 5), image.YCbCrSubsampleRatio420), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(picture(f, 3, 2, color.NRGBA{1, 2, 3, 4}))
	f.Add(hugePNG(1<<31-1, 1<<31-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Sizes that are allowed but large only slow the search down.
		if c, _, err := image.DecodeConfig(bytes.NewReader(b)); err == nil && c.Width > 1<<20/max(c.Height, 1) && c.Width <= maxPixels/max(c.Height, 1) {
			t.Skip()
		}
		m, err := decodeImage(bytes.NewReader(b))
		if err == nil {
			planes(make([]float32, 3*8*8), cover(m, 8, 8), 3)
		}
	})
}
