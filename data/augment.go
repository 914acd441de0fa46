package data

import (
	"fmt"
	"math"
	"math/rand/v2"

	"distill/internal/hint"
)

// Augment is how training images are varied. The zero value leaves them as they are.
type Augment struct {
	Crop int  `yaml:"crop"` // pad each side with this many black pixels, then crop the image's size at random; 0: no crop
	Flip bool `yaml:"flip"` // mirror every second image, at random, left to right

	// Views is how many views of each sample there are: epoch e sees view e mod Views, so that epochs no more than Views are as
	// with 0. 0: another one in each epoch.
	Views int     `yaml:"views"`
	Seed  *uint64 `yaml:"seed"` // that the views follow from; nil: the seed of the Loader
}

// Varies reports whether a sample has more than one view.
func (a Augment) Varies() bool { return a.Crop != 0 || a.Flip }

// View is the number of the view that each sample has in an epoch, from 0.
func (a Augment) View(epoch int) int {
	switch {
	case !a.Varies():
		return 0
	case a.Views > 0:
		return epoch % a.Views
	}
	return epoch
}

// Validate checks what does not depend on the images.
func (a Augment) Validate() error {
	if a.Crop < 0 {
		return fmt.Errorf("crop must be 0 or more, not %d", a.Crop)
	}
	if a.Views < 0 {
		return fmt.Errorf("views must be 0 or more, not %d", a.Views)
	}
	return nil
}

// Check refuses a crop that could leave nothing of an image of h×w.
func (a Augment) Check(h, w int) error {
	if most := min(h, w, math.MaxInt16) - 1; a.Crop < 0 || a.Crop > most {
		err := fmt.Errorf("data: augment: crop %d does not fit images of %dx%d", a.Crop, h, w)
		return hint.Wrap(err, "set data.augment.crop to %d or less; 0 is no crop", max(most, 0))
	}
	return nil
}

// view is one way to look at an image: what was drawn for it.
type view struct {
	dy, dx int // the crop's offset from the image's own corner, each within ±Crop
	flip   bool
}

// draw draws a view from rng. The crop is drawn first, as torchvision's usual pair of transforms does.
func (a Augment) draw(rng *rand.Rand) view {
	var v view
	if a.Crop > 0 {
		v.dy = rng.IntN(2*a.Crop+1) - a.Crop
		v.dx = rng.IntN(2*a.Crop+1) - a.Crop
	}
	if a.Flip {
		v.flip = rng.IntN(2) == 1
	}
	return v
}

// id names the view, the same one in every epoch and under every Augment; 0 is the image itself.
func (v view) id() uint64 {
	id := uint64(uint16(v.dy))<<32 | uint64(uint16(v.dx))<<16
	if v.flip {
		id |= 1
	}
	return id
}

// apply writes the view of src, [C,H,W], to dst; what lies outside src is 0.
func (v view) apply(dst, src []float32, h, w int) {
	clear(dst)
	for row := range len(dst) / w { // rows of all channels
		y := row%h + v.dy
		if y < 0 || y >= h {
			continue
		}
		from := src[(row+v.dy)*w:][:w]
		to := dst[row*w:][:w]
		for x := max(0, -v.dx); x < min(w, w-v.dx); x++ {
			if v.flip {
				to[w-1-x] = from[x+v.dx]
			} else {
				to[x] = from[x+v.dx]
			}
		}
	}
}
