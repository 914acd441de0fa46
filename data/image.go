package data

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // formats that image.Decode reads
	_ "image/png"
	"io"
	"os"

	"golang.org/x/image/draw"

	"distill/internal/hint"
)

// maxPixels bounds an image's area, so that a few bytes of header cannot claim all memory: 64 megapixels.
const maxPixels = 64_000_000

// ReadImage reads a PNG or JPEG file as [C,H,W] with values 0..255: RGB for c = 3, luma for c = 1. Transparency is
// dropped, as torchvision's loader does. An image of another size is scaled so that it covers h×w, with antialiased
// bilinear filtering, and cropped about its centre.
func ReadImage(path string, c, h, w int) ([]float32, error) { return readImage(path, c, h, w, covered) }

// ReadStretched is ReadImage for a Preprocess with the Size h×w: an image of another size is stretched as Preprocess.Apply
// would, which then has only to normalise it.
func ReadStretched(path string, c, h, w int) ([]float32, error) {
	return readImage(path, c, h, w, stretched)
}

func readImage(path string, c, h, w int, bring fit) ([]float32, error) {
	if c != 1 && c != 3 {
		err := fmt.Errorf("data: read %s: an image has 1 or 3 channels, not %d", path, c)
		return nil, hint.Wrap(err, "the model's input is not an image")
	}
	if err := checkSize([]int{h, w}); err != nil {
		return nil, fmt.Errorf("data: read %s: %w", path, err)
	}
	m, err := openImage(path)
	if err != nil {
		return nil, fmt.Errorf("data: read %s: %w", path, err)
	}
	dst := make([]float32, c*h*w)
	bring(dst, m, c, h, w)
	return dst, nil
}

// fit writes m to dst as c planes of h×w.
type fit func(dst []float32, m image.Image, c, h, w int)

// covered scales m to cover h×w and crops it.
func covered(dst []float32, m image.Image, c, h, w int) { planes(dst, cover(m, h, w), c) }

// stretched stretches m to h×w as Preprocess does.
func stretched(dst []float32, m image.Image, c, h, w int) {
	oh, ow := m.Bounds().Dy(), m.Bounds().Dx()
	own := make([]float32, c*oh*ow)
	covered(own, m, c, oh, ow)
	interpolate(dst, own, c, oh, ow, h, w)
}

// openImage decodes the file at path.
func openImage(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return decodeImage(f)
}

// decodeImage decodes an image whose header claims a size within bounds.
func decodeImage(r io.ReadSeeker) (image.Image, error) {
	if _, err := imageSize(r); err != nil {
		return nil, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	m, _, err := image.Decode(bufio.NewReader(r))
	return m, err
}

// readSize reads the size from the header of the file at path and checks it.
func readSize(path string) (image.Point, error) {
	f, err := os.Open(path)
	if err != nil {
		return image.Point{}, err
	}
	defer f.Close()
	return imageSize(f)
}

// imageSize reads the size from an image's header and checks it.
func imageSize(r io.Reader) (image.Point, error) {
	c, _, err := image.DecodeConfig(bufio.NewReader(r))
	if err != nil {
		return image.Point{}, hint.Wrap(err, "images are PNG or JPEG files")
	}
	if c.Width < 1 || c.Height < 1 || c.Width > maxPixels/c.Height {
		return image.Point{}, fmt.Errorf("an image of %dx%d pixels is over the limit of %d megapixels", c.Width, c.Height, maxPixels/1_000_000)
	}
	return image.Pt(c.Width, c.Height), nil
}

// cover returns m opaque, scaled to cover h×w and cropped about its centre.
func cover(m image.Image, h, w int) *image.RGBA {
	m = opaque(m)
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	r := m.Bounds()
	if r.Dx() == w && r.Dy() == h {
		draw.Copy(out, image.Point{}, m, r, draw.Src, nil)
		return out
	}
	// Cropping before scaling keeps the work small, however long and thin the image.
	crop := image.Pt(r.Dx(), r.Dy())
	if r.Dx()*h > r.Dy()*w {
		crop.X = max(1, (r.Dy()*w+h/2)/h)
	} else {
		crop.Y = max(1, (r.Dx()*h+w/2)/w)
	}
	r.Min = r.Min.Add(image.Pt((r.Dx()-crop.X)/2, (r.Dy()-crop.Y)/2))
	r.Max = r.Min.Add(crop)
	draw.BiLinear.Scale(out, out.Bounds(), m, r, draw.Src, nil)
	return out
}

// opaque returns m without transparency, with the colours that transparent pixels have underneath.
func opaque(m image.Image) image.Image {
	if o, ok := m.(interface{ Opaque() bool }); !ok || o.Opaque() {
		return m
	}
	r := m.Bounds()
	out := image.NewRGBA(r)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
			out.SetRGBA(x, y, color.RGBA{c.R, c.G, c.B, 255})
		}
	}
	return out
}

// planes writes m as c planes of rows into dst: R, G and B, or luma.
func planes(dst []float32, m *image.RGBA, c int) {
	n := len(m.Pix) / 4
	for i := range n {
		p := m.Pix[4*i : 4*i+4]
		if c == 1 {
			dst[i] = float32(color.GrayModel.Convert(color.RGBA{p[0], p[1], p[2], 255}).(color.Gray).Y)
			continue
		}
		dst[i], dst[n+i], dst[2*n+i] = float32(p[0]), float32(p[1]), float32(p[2])
	}
}
