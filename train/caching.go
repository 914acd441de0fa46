package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"distill/data"
	"distill/internal/hint"
	"distill/teacher/cache"
)

// Caching is a recipe's teacher before the images that it is to be kept for: what fills and checks a cache.
type Caching struct {
	Key  cache.Key
	Left []cache.Tap // inner tensors that the losses compare and the cache does not keep

	run    *Run
	loader *data.Loader // of the training images in their own order
}

// OpenCaching opens the data and the teacher of a recipe, which is one of [Recipe.Singly] where there are several.
func OpenCaching(r *Recipe) (_ *Caching, err error) {
	if len(r.Teachers) > 0 {
		return nil, hint.Wrap(errors.New("train: the recipe has several teachers, and a cache is of one"),
			"name one of them as the only teacher")
	}
	if !r.Taught() {
		return nil, errNoTeacher()
	}
	resolved := *r
	resolved.Losses = slices.Clone(r.Losses)
	for i, t := range r.Losses {
		resolved.Losses[i].Taps = slices.Clone(t.Taps)
	}
	c := &Caching{run: &Run{Recipe: &resolved}}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := c.run.prepare(); err != nil {
		return nil, err
	}
	if a := &resolved.Data.Augment; a.Varies() { // without a folder nothing has settled them
		if a.Views == 0 {
			a.Views = r.Epochs
		}
		if a.Seed == nil {
			a.Seed = &resolved.Seed
		}
	}
	if n := c.run.Splits.Train.Len(); n < r.Batch {
		return nil, hint.Wrap(fmt.Errorf("train: %d training images do not fill a batch of %d", n, r.Batch), "make batch smaller")
	}
	c.loader = &data.Loader{Source: c.run.Splits.Train, Batch: r.Batch, Seed: r.Seed, Augment: resolved.Data.Augment, DropLast: true}
	c.Key, c.Left, err = c.run.cacheKey(0)
	return c, err
}

// Close frees the teacher.
func (c *Caching) Close() error { return c.run.Close() }

// Forecast is what building a cache will take.
type Forecast struct {
	Images    int     `json:"images"` // views of samples
	Bytes     int64   `json:"bytes"`
	MapBytes  int64   `json:"map_bytes"` // more, were the maps kept that the losses compare
	Rate      float64 `json:"img_per_s"` // of the teacher
	Seconds   float64 `json:"seconds"`
	FreeBytes int64   `json:"free_bytes"` // on the folder's disk
}

// Forecast measures the teacher on some batches, for a second or two.
func (c *Caching) Forecast(ctx context.Context, folder string) (f Forecast, err error) {
	if f.Bytes, err = c.Key.Bytes(); err != nil {
		return f, fmt.Errorf("train: cache: %w", err)
	}
	f.MapBytes = mapBytes(c.Key, c.Left)
	f.Images = c.Key.Samples * c.Key.Augment.Views
	if f.FreeBytes, err = cache.Free(folder); err != nil {
		return f, err
	}
	var b data.Batch
	var began time.Time
	n := 0
	for step := 0; step == 0 || time.Since(began) < 1500*time.Millisecond && step < 50; step++ {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		if err := c.loader.Fill(&b, 0, step%c.loader.Steps()); err != nil {
			return f, err
		}
		if _, err := c.run.Teacher.Forward(&b); err != nil {
			return f, err
		}
		if step == 0 { // the first run warms up
			began = time.Now()
			continue
		}
		n += len(b.Index)
	}
	f.Rate = float64(n) / time.Since(began).Seconds()
	f.Seconds = float64(f.Images) / f.Rate
	return f, nil
}

// Build makes the cache in a folder, or goes on with one that is not complete. Observe is told how many images are done. When
// the context ends, what is done is kept.
func (c *Caching) Build(ctx context.Context, folder string, observe func(done, total int)) (err error) {
	info, err := c.run.cacheInfo(0, c.Key)
	if err != nil {
		return err
	}
	kc, err := cache.Create(folder, info)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kc.Close()) }()
	steps, views := c.loader.Steps(), c.Key.Augment.Views
	first, done := -1, 0
	for view := range views {
		missing, err := kc.Missing(view)
		if err != nil {
			return err
		}
		if len(missing) > 0 && first < 0 {
			first = view*steps + min(missing[0]/c.loader.Batch, steps-1)
			done = view*c.Key.Samples + missing[0]
		}
	}
	if first < 0 {
		observe(c.Key.Samples*views, c.Key.Samples*views)
		return nil
	}
	k := kept{kc, c.loader, c.Key.Samples % c.loader.Batch, c.run.Teacher.Forward}
	f := newFeed(c.loader, c.run.Recipe.Preprocess, k.answer, 1, stretch{steps, first, views * steps}, c.run.Threads.Data)
	defer f.close()
	for step := first; ; step++ {
		it, ok := f.next()
		if !ok {
			break
		}
		if it.err != nil {
			return it.err
		}
		done += len(it.batch.Index)
		if (step+1)%steps == 0 {
			done = (step + 1) / steps * c.Key.Samples
		}
		observe(min(done, c.Key.Samples*views), c.Key.Samples*views)
		f.giveBack(it)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	f.close()
	for view := range views { // where a process was killed between a batch and the rest of its epoch
		if err := k.complete(view); err != nil {
			return err
		}
	}
	return nil
}

// Rechecked is how kept outputs stand to those of a live teacher.
type Rechecked struct {
	Images  int     `json:"images"`   // views that were computed again
	Differ  int     `json:"differ"`   // of which a value has other bits
	MaxDiff float64 `json:"max_diff"` // largest difference of a value, relative where that is above 1
	Exact   bool    `json:"exact"`    // they were computed in the same way: nothing may differ
}

// Err is an error where they differ by more than rounding can explain.
func (r Rechecked) Err() error {
	const rounding = 1e-5
	if r.Exact && r.Differ > 0 || !(r.MaxDiff <= rounding) {
		return hint.Wrap(fmt.Errorf("train: the cache does not hold what the teacher says: %d views of %d differ, by %.2g at most", r.Differ, r.Images, r.MaxDiff),
			"remove the cache and build it anew")
	}
	return nil
}

// Recheck computes n random views of an open cache again, in batches of random samples. The cache must serve the recipe's key,
// but for Run; views that it lacks are not looked at.
func (c *Caching) Recheck(ctx context.Context, kc *cache.Cache, n int, seed uint64, observe func(done, total int)) (r Rechecked, err error) {
	k := kc.Info().Key
	if err := k.Serves(c.Key, true); err != nil {
		return r, fmt.Errorf("train: cache %s: %w", kc.Folder(), err)
	}
	r.Exact = k.Serves(c.Key, false) == nil
	rng := rand.New(rand.NewPCG(seed, 0))
	var b data.Batch
	for r.Images < n {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		view := rng.IntN(k.Augment.Views)
		samples := make([]int, min(k.Samples, c.loader.Batch))
		for i := range samples {
			samples[i] = rng.IntN(k.Samples)
		}
		had, ok, err := kc.Fetch(view, samples)
		if err != nil {
			return r, err
		}
		if !ok {
			return r, hint.Wrap(fmt.Errorf("train: cache %s is not complete: records of view %d are missing", kc.Folder(), view), "let `distill cache build` go on with it")
		}
		if err := c.loader.FillSamples(&b, view, samples); err != nil {
			return r, err
		}
		got, err := c.run.Teacher.Forward(&b)
		if err != nil {
			return r, err
		}
		differs := make([]bool, len(samples))
		compare := func(had, got []float32) {
			cache.Round(got, k.DType)
			for i := range had {
				if math.Float32bits(had[i]) != math.Float32bits(got[i]) {
					differs[i*len(samples)/len(had)] = true
					d := math.Abs(float64(had[i])-float64(got[i])) / max(1, math.Abs(float64(got[i])))
					r.MaxDiff = max(r.MaxDiff, d)
				}
			}
		}
		compare(had.Logits, got.Logits)
		for _, t := range c.Key.Taps {
			compare(had.Taps[t.Name].F, got.Taps[t.Name].F)
		}
		for _, d := range differs {
			if d {
				r.Differ++
			}
		}
		r.Images += len(samples)
		observe(min(r.Images, n), n)
	}
	return r, nil
}
