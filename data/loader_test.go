package data

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
)

// numbers is a source of n images of 1×3×3; pixel j of sample i is 10·i + j + 1.
type numbers int

func (n numbers) Len() int             { return int(n) }
func (n numbers) Shape() (_, _, _ int) { return 1, 3, 3 }
func (n numbers) Classes() []string    { return []string{"even", "odd"} }

func (n numbers) Read(i int, dst []float32) (int, error) {
	if i == 99 {
		return 0, fmt.Errorf("sample %d is damaged", i)
	}
	for j := range dst {
		dst[j] = float32(10*i + j + 1)
	}
	return i % 2, nil
}

func shuffled(n int, seed uint64) *Loader {
	return &Loader{Source: numbers(n), Batch: 4, Seed: seed, Shuffle: true, Augment: Augment{Crop: 1, Flip: true}}
}

func fill(t *testing.T, l *Loader, epoch, step int) Batch {
	t.Helper()
	var b Batch
	if err := l.Fill(&b, epoch, step); err != nil {
		t.Fatal(err)
	}
	b.sample = nil // what the buffer holds is nobody's business
	return b
}

func TestAnyBatchCanBeMadeAgain(t *testing.T) {
	l := shuffled(22, 1)
	var first []Batch
	for epoch := range 2 {
		for step := range l.Steps() {
			first = append(first, fill(t, l, epoch, step))
		}
	}
	var reused Batch
	for i := len(first) - 1; i >= 0; i-- { // backwards, by a new loader, into a used batch
		if err := shuffled(22, 1).Fill(&reused, i/6, i%6); err != nil {
			t.Fatal(err)
		}
		b := reused
		b.sample = nil
		if !reflect.DeepEqual(b, first[i]) {
			t.Errorf("batch %d of epoch %d differs the second time", i%6, i/6)
		}
	}
}

func TestEverySampleOccursOnceAnEpoch(t *testing.T) {
	l := shuffled(22, 1)
	for epoch := range 3 {
		var seen []int
		for step := range l.Steps() {
			b := fill(t, l, epoch, step)
			for n, i := range b.Index {
				if b.Y[n] != int64(i%2) {
					t.Errorf("sample %d has label %d", i, b.Y[n])
				}
			}
			seen = append(seen, b.Index...)
		}
		if slices.IsSorted(seen) {
			t.Errorf("epoch %d is not shuffled", epoch)
		}
		slices.Sort(seen)
		for i, v := range seen {
			if i != v || len(seen) != 22 {
				t.Fatalf("epoch %d visits %v", epoch, seen)
			}
		}
	}
}

func TestSeedAndEpochChangeOrderAndViews(t *testing.T) {
	l := shuffled(64, 1)
	l.Batch = 64
	a, epoch, seed := fill(t, l, 0, 0), fill(t, l, 1, 0), func() Batch { l := shuffled(64, 2); l.Batch = 64; return fill(t, l, 0, 0) }()
	for name, b := range map[string]Batch{"epoch": epoch, "seed": seed} {
		if slices.Equal(a.Index, b.Index) || slices.Equal(a.View, b.View) {
			t.Errorf("another %s gives the same order or the same views", name)
		}
	}
}

// Resumed runs and written results rest on order and views: they must not change with the toolchain.
func TestOrderAndViewsArePinned(t *testing.T) {
	l := shuffled(8, 7)
	b := fill(t, l, 3, 0)
	if want := []int{3, 2, 6, 0}; !slices.Equal(b.Index, want) {
		t.Errorf("order %v, want %v", b.Index, want)
	}
	if want := []uint64{0xffff00000001, 0x1ffff0001, 0x1ffff0000, 0xffff0000}; !slices.Equal(b.View, want) {
		t.Errorf("views %#x, want %#x", b.View, want)
	}
}

func TestViewsComeAroundAndFollowTheirOwnSeed(t *testing.T) {
	pixels := func(l *Loader, epoch int) map[int][]float32 {
		seen := map[int][]float32{}
		for step := range l.Steps() {
			b := fill(t, l, epoch, step)
			for n, i := range b.Index {
				seen[i] = b.X[9*n:][:9]
			}
		}
		return seen
	}
	with := func(seed uint64, views int, own *uint64) *Loader {
		l := shuffled(22, seed)
		l.Augment.Views, l.Augment.Seed = views, own
		return l
	}
	seed := uint64(1)
	for epoch := range 6 {
		want := pixels(with(1, 0, nil), epoch%3)
		if got := pixels(with(5, 3, &seed), epoch); !reflect.DeepEqual(got, want) {
			t.Errorf("epoch %d of 3 views does not see view %d", epoch, epoch%3)
		}
		a, b := fill(t, with(5, 3, &seed), epoch, 0), fill(t, with(5, 0, nil), epoch, 0)
		if !slices.Equal(a.Index, b.Index) || a.Draw != epoch%3 || b.Draw != epoch {
			t.Errorf("epoch %d: order %v and %v, views %d and %d", epoch, a.Index, b.Index, a.Draw, b.Draw)
		}
	}
	l := with(1, 0, nil)
	l.Augment = Augment{}
	if b := fill(t, l, 4, 0); b.Draw != 0 {
		t.Errorf("without augmentation, epoch 4 sees view %d", b.Draw)
	}
}

func TestAnySamplesMakeABatch(t *testing.T) {
	l := shuffled(22, 1)
	whole := fill(t, l, 2, 1)
	var b Batch
	if err := l.FillSamples(&b, 2, []int{whole.Index[3], whole.Index[0]}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.X, append(slices.Clone(whole.X[27:]), whole.X[:9]...)) || !slices.Equal(b.View, []uint64{whole.View[3], whole.View[0]}) {
		t.Errorf("%+v, want rows 3 and 0 of %+v", b, whole)
	}
}

func TestEqualViewsHaveEqualPixels(t *testing.T) {
	l := shuffled(4, 1)
	type key struct {
		index int
		view  uint64
	}
	seen := map[key][]float32{}
	flips, plain := 0, 0
	for epoch := range 500 {
		b := fill(t, l, epoch, 0)
		for n, i := range b.Index {
			k, x := key{i, b.View[n]}, b.X[9*n:][:9]
			if old, ok := seen[k]; ok && !slices.Equal(old, x) {
				t.Fatalf("view %x of sample %d is %v and %v", k.view, i, old, x)
			}
			seen[k] = x
			flips += int(k.view & 1)
			if k.view == 0 {
				plain++
				want := make([]float32, 9)
				if _, err := l.Source.Read(i, want); err != nil || !slices.Equal(x, want) {
					t.Fatalf("view 0 of sample %d is %v", i, x)
				}
			}
		}
	}
	if len(seen) != 4*9*2 {
		t.Errorf("%d views, want every offset and flip of each sample: 72", len(seen))
	}
	if flips < 900 || flips > 1100 || plain < 70 || plain > 155 {
		t.Errorf("of 2000 views %d are flipped and %d are the image itself", flips, plain)
	}
}

func TestCropAndFlipByHand(t *testing.T) {
	src := []float32{
		1, 2, 3,
		4, 5, 6,
		7, 8, 9,
	}
	tests := []struct {
		v    view
		want []float32
	}{
		{view{}, src},
		{view{flip: true}, []float32{3, 2, 1, 6, 5, 4, 9, 8, 7}},
		{view{dy: -1, dx: -1}, []float32{0, 0, 0, 0, 1, 2, 0, 4, 5}},
		{view{dy: 1, dx: 0}, []float32{4, 5, 6, 7, 8, 9, 0, 0, 0}},
		{view{dy: 0, dx: 1, flip: true}, []float32{0, 3, 2, 0, 6, 5, 0, 9, 8}}, // cropped, then mirrored
		{view{dy: 2, dx: -2}, []float32{0, 0, 7, 0, 0, 0, 0, 0, 0}},
	}
	for _, tt := range tests {
		got := make([]float32, 18) // two channels
		tt.v.apply(got, append(slices.Clone(src), src...), 3, 3)
		if !slices.Equal(got, append(slices.Clone(tt.want), tt.want...)) {
			t.Errorf("%+v gives %v, want %v in both channels", tt.v, got, tt.want)
		}
	}
}

func TestLastBatch(t *testing.T) {
	l := &Loader{Source: numbers(10), Batch: 4}
	if l.Steps() != 3 || fill(t, l, 0, 2).Shape != [4]int{2, 1, 3, 3} {
		t.Errorf("%d steps, the last of shape %v", l.Steps(), fill(t, l, 0, 2).Shape)
	}
	if got := fill(t, l, 5, 2).Index; !slices.Equal(got, []int{8, 9}) {
		t.Errorf("without Shuffle the last batch is %v", got)
	}
	l = &Loader{Source: numbers(10), Batch: 4, DropLast: true}
	if l.Steps() != 2 {
		t.Errorf("%d steps with DropLast, want 2", l.Steps())
	}
	wantError(t, l.Fill(&Batch{}, 0, 2), "batch 2 of epoch 0", "has 2")
}

func TestFillPassesErrorsOn(t *testing.T) {
	wantError(t, (&Loader{Source: numbers(100), Batch: 100}).Fill(&Batch{}, 0, 0), "sample 99 is damaged")
	wantError(t, (&Loader{Source: numbers(4), Batch: 4, Augment: Augment{Crop: 3}}).Fill(&Batch{}, 0, 0), "crop 3", "3x3")
}

func TestFillIsSafeForConcurrentUse(t *testing.T) {
	l := shuffled(22, 1)
	var wg sync.WaitGroup
	got := make([]Batch, 18)
	for i := range got {
		wg.Go(func() {
			if err := l.Fill(&got[i], i/6, i%6); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, b := range got {
		b.sample = nil
		if !reflect.DeepEqual(b, fill(t, l, i/6, i%6)) {
			t.Errorf("batch %d differs when made beside others", i)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	s, err := Open(Options{Source: "cifar10:../testdata/cifar10"})
	if err != nil {
		b.Fatal(err)
	}
	l := &Loader{Source: s.Train, Batch: 64, Shuffle: true, Augment: Augment{Crop: 4, Flip: true}}
	var batch Batch
	for i := 0; b.Loop(); i++ {
		if err := l.Fill(&batch, 0, i%l.Steps()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestFirstIsTheBeginning(t *testing.T) {
	for n, want := range map[int]int{0: 0, 3: 3, 5: 5, 9: 5} {
		s := First(numbers(5), n)
		if s.Len() != want {
			t.Errorf("the first %d of 5 are %d, want %d", n, s.Len(), want)
		}
		if c, h, w := s.Shape(); c*h*w != 9 {
			t.Errorf("the first %d have the shape %d,%d,%d", n, c, h, w)
		}
	}
}

func TestNegativeAugmentationsAreRefused(t *testing.T) {
	for _, a := range []Augment{{Crop: -1}, {Views: -1}} {
		if a.Validate() == nil {
			t.Errorf("%+v is valid", a)
		}
	}
}

func TestCropsThatDoNotFitAreRefused(t *testing.T) {
	for _, tt := range []struct {
		crop, h, w int
		words      []string // of the error; none: it fits
	}{
		{0, 1, 1, nil},
		{31, 32, 40, nil},
		{32, 32, 40, []string{"data: augment: crop 32", "32x40", "data.augment.crop to 31 or less"}},
		{40, 64, 32, []string{"crop 40", "64x32", "31 or less"}},
		{1 << 15, 1 << 16, 1 << 16, []string{"crop 32768", "32766 or less"}},
		{-1, 32, 32, []string{"crop -1"}},
	} {
		err := Augment{Crop: tt.crop}.Check(tt.h, tt.w)
		if tt.words != nil {
			wantError(t, err, tt.words...)
		} else if err != nil {
			t.Error(err)
		}
	}
	wantError(t, Augment{Crop: -1}.Validate(), "crop must be 0 or more, not -1")
}
