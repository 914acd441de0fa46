package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"distill/data"
	"distill/internal/hint"
	"distill/teacher/cache"
)

// taught is a run of 3 steps an epoch under ResNet-56; 16 of the 160 images do not fill a batch.
func taught(t *testing.T, overrides ...string) *Recipe {
	t.Helper()
	return recipe(t, append([]string{"teacher.model=" + resnet, "batch=48"}, overrides...)...)
}

// keep has the recipe's teacher outputs kept in a folder, or read from it.
func keep(folder string, write bool) []string {
	if write {
		return []string{"teacher.cache.folder=" + folder, "teacher.cache.write=true"}
	}
	return []string{"teacher.cache.folder=" + folder}
}

// silent trains a run to its end without its teacher, which could answer nothing.
func silent(t *testing.T, r *Recipe) *Run {
	t.Helper()
	run := open(t, r, Options{})
	if err := run.Teacher.Close(); err != nil {
		t.Fatal(err)
	}
	if err := run.Train(context.Background()); err != nil {
		t.Fatalf("%v\n%s", err, hint.Of(err))
	}
	return run
}

func TestLiveColdAndWarmRunsEndInTheSameBits(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  []string
	}{
		{"logits", nil},
		{"a pooled tap", []string{"losses=[{loss: ce}, {loss: kd}, {loss: rkd}]", "epochs=1"}},
		{"maps", []string{"losses=[{loss: ce}, {loss: fitnets}]", "teacher.cache.maps=true", "epochs=1"}},
		{"no augmentation", []string{"data.augment.crop=0", "data.augment.flip=false", "epochs=2"}},
		{"a teacher that takes few at a time", []string{"teacher.batch=7", "epochs=1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && tt.name != "logits" {
				t.Skip("takes seconds of a teacher")
			}
			set := func(more ...string) *Recipe { return taught(t, slices.Concat(tt.set, more)...) }
			folder := filepath.Join(t.TempDir(), "cache")
			live := trained(t, set())
			cold := trained(t, set(keep(folder, true)...))
			warm := silent(t, set(keep(folder, false)...))
			for _, run := range []*Run{cold, warm} {
				same(t, run.Store, live.Store)
				if a, b := timeless(run.State.History), timeless(live.State.History); !reflect.DeepEqual(a, b) {
					t.Errorf("metrics %+v, want %+v", a, b)
				}
				if a, b := run.State.Recipe, live.State.Recipe; tt.name != "maps" && a != b {
					t.Errorf("a checkpoint is bound to\n%s\nand a live one to\n%s", a, b)
				}
			}
			// What the epochs left out is there, too.
			c, err := cache.Open(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if st, err := c.Status(); err != nil || !st.Complete() {
				t.Errorf("%+v, %v", st, err)
			}
			if c.Info().Key.Run.Specialized != live.Teacher.Specialized() {
				t.Error("the cache does not say how the teacher ran")
			}
		})
	}
}

func TestAnotherRunUsesTheViewsOfTheCache(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cache")
	trained(t, taught(t, keep(folder, true)...)) // 2 views, from seed 1
	other := taught(t, append(keep(folder, false), "seed=5", "epochs=4", "student.width=2", "optimizer.lr=0.01")...)
	run := silent(t, other)
	if a := run.Recipe.Data.Augment; a.Views != 2 || a.Seed == nil || *a.Seed != 1 {
		t.Errorf("the run's recipe has the augmentation %+v", a)
	}
	if other.Data.Augment.Views != 0 {
		t.Error("the caller's recipe was changed")
	}
	// Live, with these views said, it is the same run.
	live := trained(t, taught(t, "seed=5", "epochs=4", "student.width=2", "optimizer.lr=0.01", "data.augment.views=2", "data.augment.seed=1"))
	same(t, run.Store, live.Store)
	if run.State.Recipe != live.State.Recipe {
		t.Errorf("a checkpoint is bound to\n%s\nand a live one to\n%s", run.State.Recipe, live.State.Recipe)
	}
	// Labels alone, of a report, see them, too.
	settled, err := other.settled()
	if err != nil {
		t.Fatal(err)
	}
	if a := settled.LabelsOnly("labels"); a.Data.Augment.Views != 2 || *a.Data.Augment.Seed != 1 || a.Teacher.Cache.Folder != "" {
		t.Errorf("labels alone: %+v, %+v", a.Data.Augment, a.Teacher)
	}
	// Order follows the run's own seed.
	var a, b data.Batch
	mine := trained(t, taught(t, append(keep(folder, false), "epochs=1")...))
	if err := errors.Join(run.phase.Loader.Fill(&a, 0, 0), mine.phase.Loader.Fill(&b, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(a.Index, b.Index) {
		t.Error("seeds 1 and 5 have one order")
	}
}

func TestARunThatWasStoppedGoesOnWithItsCache(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cache")
	live := trained(t, taught(t))
	r := taught(t, keep(folder, true)...)
	interrupted(t, r, Options{}, 4) // inside the second epoch
	run := open(t, r, Options{Resume: true})
	if err := run.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	same(t, run.Store, live.Store)
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, silent(t, taught(t, keep(folder, false)...)).Store, live.Store)
}

func TestCachesThatDoNotFitAreRefused(t *testing.T) {
	dir := t.TempDir()
	whole, part := filepath.Join(dir, "whole"), filepath.Join(dir, "part")
	trained(t, taught(t, append(keep(whole, true), "epochs=1")...))
	interrupted(t, taught(t, keep(part, true)...), Options{}, 2)
	b, err := os.ReadFile(resnet)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(dir, "changed.onnx") // by a field that no reader knows
	if err := os.WriteFile(changed, append(b, 0xfa, 0x01, 0x00), 0o666); err != nil {
		t.Fatal(err)
	}
	flipped := filepath.Join(dir, "flipped")
	if err := trained(t, taught(t, append(keep(flipped, true), "epochs=1")...)).Close(); err != nil {
		t.Fatal(err)
	}
	shard := filepath.Join(flipped, "000000.shard")
	if b, err = os.ReadFile(shard); err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(shard, b, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		set  []string
		want []string
	}{
		{"no folder", keep(filepath.Join(dir, "none"), false), []string{"none is no cache", "teacher.cache.write=true"}},
		{"an incomplete one", keep(part, false), []string{part, "records are missing", "distill cache build"}},
		{"another teacher", append(keep(whole, true), "teacher.model="+changed), []string{whole, "its teacher (SHA-256) is"}},
		{"other views", append(keep(whole, true), "data.augment.views=2"), []string{"its augmentation is", "leave data.augment.views and seed out"}},
		{"another seed of the views", append(keep(whole, true), "data.augment.seed=2"), []string{"its augmentation is"}},
		{"other images", append(keep(whole, true), "data.train=data_batch_1.bin[0:159]"), []string{"its training images"}},
		{"another preprocessing", append(keep(whole, true), "teacher.mean=[0, 0, 0]"), []string{"its preprocessing"}},
		{"another batch", append(keep(whole, true), "batch=16"), []string{"last bits", "teacher.cache.rounding=true"}},
		{"a tap that it lacks", append(keep(whole, true), "losses=[{loss: ce}, {loss: rkd}]"), []string{"does not hold the teacher's tensor"}},
		{"a map", append(keep(filepath.Join(dir, "maps"), true), "losses=[{loss: ce}, {loss: fitnets}]"), []string{"a map", "MB a view", "teacher.cache.maps=true"}},
		{"more than the disk holds", append(keep(filepath.Join(dir, "large"), true), "losses=[{loss: ce}, {loss: fitnets}]", "teacher.cache.maps=true", "epochs=1000000"),
			[]string{"large", "TB are needed", "are free", "teacher.cache.dtype=float16"}},
		{"float16", append(keep(whole, true), "teacher.cache.dtype=float16"), []string{"its dtype is", "teacher.cache.dtype=float32"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run, err := Open(taught(t, tt.set...), Options{})
			if err == nil {
				run.Close()
			}
			wants(t, err, tt.want...)
		})
	}
	t.Run("a flipped bit", func(t *testing.T) {
		run := open(t, taught(t, append(keep(flipped, true), "epochs=1")...), Options{})
		wants(t, run.Train(context.Background()), shard, "is damaged", "remove that file")
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(shard); err != nil {
			t.Fatal(err)
		}
		trained(t, taught(t, append(keep(flipped, true), "epochs=1")...)) // which makes it again
		c, err := cache.Open(flipped)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if damaged, err := c.Verify(t.Context(), func(int, int) {}); len(damaged) > 0 || err != nil {
			t.Error(damaged, err)
		}
	})
	t.Run("two writers", func(t *testing.T) {
		set := keep(filepath.Join(dir, "busy"), true)
		open(t, taught(t, set...), Options{})
		_, err := Open(taught(t, set...), Options{})
		wants(t, err, "busy", "another process is writing", "wait for it to end")
	})
	t.Run("another batch, where rounding may differ", func(t *testing.T) {
		silent(t, taught(t, append(keep(whole, false), "batch=16", "epochs=1", "teacher.cache.rounding=true")...))
	})
}

func TestACheckpointIsBoundToWhatItsCacheChanges(t *testing.T) {
	identity := func(overrides ...string) string {
		text, _, err := taught(t, overrides...).Identity()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	plain := identity()
	for _, tt := range []struct {
		set  []string
		same bool
	}{
		{[]string{"teacher.cache.folder=a", "teacher.cache.write=true", "teacher.cache.dtype=float32", "data.augment.views=2", "data.augment.seed=1"}, true},
		{[]string{"data.augment.views=7"}, true},
		{[]string{"data.augment.views=1"}, false},
		{[]string{"data.augment.seed=2"}, false},
		{[]string{"teacher.cache.folder=a", "teacher.cache.dtype=float16"}, false},
		{[]string{"teacher.cache.folder=a", "teacher.cache.rounding=true"}, false},
	} {
		if got := identity(tt.set...) == plain; got != tt.same {
			t.Errorf("%q leave the identity as it is: %v, want %v", tt.set, got, tt.same)
		}
	}
}

// The outputs of a batch hang on no other image in it, nor on its place: what is kept from one order serves any.
func TestKeptOutputsAreThoseOfALiveTeacher(t *testing.T) {
	for _, tt := range []struct {
		name  string
		set   []string // of the build
		check []string // of the live teacher
		exact bool
	}{
		{"the same key", nil, nil, true},
		{"another batch and number of threads", nil, []string{"batch=13", "threads=1"}, false},
		{"float16", []string{"teacher.cache.dtype=float16"}, []string{"teacher.cache.dtype=float16"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "cache")
			set := []string{"epochs=3", "losses=[{loss: ce}, {loss: kd}, {loss: rkd}]"}
			build := caching(t, taught(t, append(set, tt.set...)...))
			if len(build.Key.Taps) != 1 || build.Key.Augment.Views != 3 {
				t.Errorf("the key is %+v", build.Key)
			}
			f, err := build.Forecast(t.Context(), folder)
			if err != nil {
				t.Fatal(err)
			}
			if f.Images != 3*trainImages || !(f.Rate > 0) || f.FreeBytes <= 0 {
				t.Errorf("the forecast is %+v", f)
			}
			last := 0
			if err := build.Build(t.Context(), folder, func(done, total int) {
				if done < last || total != 3*trainImages {
					t.Errorf("%d of %d done after %d", done, total, last)
				}
				last = done
			}); err != nil {
				t.Fatal(err)
			}
			if last != 3*trainImages {
				t.Errorf("%d are done in the end", last)
			}
			c, err := cache.Open(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if st, err := c.Status(); err != nil || !st.Complete() || st.Bytes < f.Bytes || st.Bytes > f.Bytes+3<<16 {
				t.Errorf("%+v, %v; forecast %d bytes", st, err, f.Bytes)
			}
			got, err := caching(t, taught(t, append(set, tt.check...)...)).Recheck(t.Context(), c, 500, 1, func(int, int) {})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", got)
			if got.Images < 500 || got.Exact != tt.exact || got.Err() != nil {
				t.Errorf("%+v: %v", got, got.Err())
			}
		})
	}
}

func caching(t *testing.T, r *Recipe) *Caching {
	t.Helper()
	c, err := OpenCaching(r)
	if err != nil {
		t.Fatalf("%v\n%s", err, hint.Of(err))
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestABuildThatWasStoppedGoesOn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cache")
	build := caching(t, taught(t))
	ctx, stop := context.WithCancel(t.Context())
	err := build.Build(ctx, folder, func(done, _ int) {
		if done > trainImages {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	first := 0
	if err := build.Build(t.Context(), folder, func(done, _ int) {
		if first == 0 {
			first = done
		}
	}); err != nil {
		t.Fatal(err)
	}
	if first <= trainImages {
		t.Errorf("the second build began before %d", first)
	}
	same(t, silent(t, taught(t, keep(folder, false)...)).Store, trained(t, taught(t)).Store)
}
