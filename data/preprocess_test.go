package data

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"testing"
)

func TestPreprocessNormalisesEachChannel(t *testing.T) {
	p := Preprocess{Mean: []float64{0.5, 0.25}, Std: []float64{0.25, 0.5}, Scale: 1.0 / 256}
	if err := p.Validate(2); err != nil {
		t.Fatal(err)
	}
	x := []float32{0, 128, 64, 192, 128, 0, 64, 192} // [2,2,1,2]
	p.Apply(x, x, [4]int{2, 2, 1, 2})
	if want := []float32{-2, 0, 0, 1, 0, -2, 0, 1}; !slices.Equal(x, want) {
		t.Errorf("got %v, want %v", x, want)
	}
	x = []float32{255, 51}
	DefaultPreprocess().Apply(x, x, [4]int{1, 2, 1, 1})
	if math.Abs(float64(x[0])-1) > 1e-7 || math.Abs(float64(x[1])-0.2) > 1e-7 {
		t.Errorf("by default 255 and 51 become %v", x)
	}
}

// The values are torch.nn.functional.interpolate's, worked out by hand.
func TestPreprocessStretchesBetweenPixelCentres(t *testing.T) {
	tests := []struct {
		name  string
		src   []float32
		shape [4]int
		size  []int
		want  []float32
	}{
		{"up", []float32{0, 4}, [4]int{1, 1, 1, 2}, []int{1, 4}, []float32{0, 1, 3, 4}},
		{"up in both", []float32{0, 4, 8, 12}, [4]int{1, 1, 2, 2}, []int{4, 2}, []float32{0, 4, 2, 6, 6, 10, 8, 12}},
		{"down", []float32{0, 2, 4, 6}, [4]int{1, 1, 1, 4}, []int{1, 2}, []float32{1, 5}},
		{"each channel of its own", []float32{0, 4, 1, 5}, [4]int{1, 2, 1, 2}, []int{1, 1}, []float32{2, 3}},
	}
	for _, tt := range tests {
		p := Preprocess{Scale: 1, Size: tt.size}
		got := make([]float32, len(tt.want))
		if out := p.OutShape(tt.shape); out[0]*out[1]*out[2]*out[3] != len(got) {
			t.Errorf("%s: shape %v", tt.name, out)
			continue
		}
		p.Apply(got, tt.src, tt.shape)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestBadPreprocessIsRefused(t *testing.T) {
	for name, p := range map[string]Preprocess{
		"2 values for 3-channel images": {Mean: []float64{1, 2}, Scale: 1},
		"0 is out of range":             {Std: []float64{1, 0, 1}, Scale: 1},
		"NaN is out of range":           {Mean: []float64{1, math.NaN(), 1}, Scale: 1},
		"scale 0":                       {},
		"size [0 1]":                    {Scale: 1, Size: []int{0, 1}},
	} {
		wantError(t, p.Validate(3), name, "data: preprocess: ")
	}
}

func TestPresets(t *testing.T) {
	for _, s := range presets {
		p, err := Preset(s.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(len(s.mean)); err != nil {
			t.Error(err)
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back Preprocess
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("%s comes back from JSON as %+v, %v", text, back, err)
		}
	}
	_, err := Preset("svhn")
	wantError(t, err, `"svhn"`, "cifar10, imagenet, mnist")
}
