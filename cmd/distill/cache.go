package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"distill/internal/hint"
	"distill/internal/nearest"
	"distill/runtime"
	"distill/teacher/cache"
	"distill/train"
)

func newCache(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "cache build|info|verify|gc",
		Short: "Keep a teacher's outputs on disk",
		Long: `Keep on disk what a teacher says of the training images, so that every run after the first is as fast as one without a
teacher. A cache holds logits, and the inner tensors of one vector an image that the recipe's losses compare, of a number of
views (crop and flip) of each image. With as many views as epochs, a run that reads them ends in the very weights of one that
asks the teacher. A run uses a cache that its recipe names:

  teacher: {model: TEACHER.onnx, cache: {folder: DIR}}

and with write: true it makes the cache on its way. A cache of another teacher, other images or other views is refused.`,
		Example: "  distill cache build --recipe recipe.yaml --output cache\n  distill cache info cache",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			var known []string
			for _, sub := range c.Commands() {
				known = append(known, sub.Name())
			}
			return hint.Wrap(fmt.Errorf("cache cannot %q", args[0]), "it can %s", strings.Join(nearest.Names(args[0], known, len(known)), ", "))
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCacheBuild(g), newCacheInfo(g), newCacheVerify(g), newCacheGC(g))
	return c
}

type cacheBuildOptions struct {
	global
	recipe    string
	overrides []string
	dtype     string // "": the recipe's
	output    string // "": the recipe's, or one in the cache folder
	dryRun    bool
}

func newCacheBuild(g *global) *cobra.Command {
	var o cacheBuildOptions
	c := &cobra.Command{
		Use:   "build --recipe FILE [KEY=VALUE...]",
		Short: "Make a recipe's cache, or go on with one",
		Long: `Make the cache of a recipe's teacher, or go on with one that is not complete: what a killed process has written counts. The
teacher runs on a few batches first: what will be needed, of disk and time, is printed before anything is written, and a disk
with too little room is refused.

The views follow from the recipe's seed, or data.augment.seed. Maps, such as fitnets compares, are not kept unless
teacher.cache.maps=true is given: what they would take is printed.

A recipe with several teachers has a cache for each, in its teachers.0.cache.folder and so on, or in the numbered folders 0, 1, … of
--output. All forecasts are made before the first cache.

JSON is an object, for several teachers a list of such. Keys: folder, views, dtype, taps (name, shape; kept beside the logits),
images (views of samples), bytes, map_bytes (what the maps that are not kept would take), free_bytes, img_per_s and seconds (of
the forecast), done (false after --dry-run) and took (seconds).`,
		Example: `  distill cache build --recipe recipe.yaml --output cache
  distill cache build --recipe recipe.yaml --views 10 --dtype float16 --dry-run`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			flags, err := recipeFlags(c)
			if err != nil {
				return err
			}
			if f := c.Flags().Lookup("views"); f.Changed {
				flags = append(flags, "data.augment.views="+f.Value.String())
			}
			o.global, o.overrides = *g, append(flags, args...)
			return runCacheBuild(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.recipe, "recipe", "", "take teacher, data and augmentation from the recipe in `FILE`")
	f.Int("views", 0, "keep `N` views of each image; default: as many as the recipe has epochs, or 1 without augmentation")
	f.StringVar(&o.dtype, "dtype", "", "keep numbers as `TYPE`: float32, or float16, which is half the size and rounds to 11 bits")
	f.StringVar(&o.output, "output", "", "the cache's folder, `DIR`; default: the recipe's teacher.cache.folder, or one in the user's cache folder")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what is needed, and write nothing")
	return c
}

// built is what build has done.
type built struct {
	Folder string      `json:"folder"`
	Views  int         `json:"views"`
	DType  string      `json:"dtype"`
	Taps   []cache.Tap `json:"taps"`
	train.Forecast
	Done bool    `json:"done"`
	Took float64 `json:"took"`
}

func runCacheBuild(ctx context.Context, o cacheBuildOptions, stdout, stderr io.Writer) error {
	list, several, err := buildCaches(ctx, o, stderr)
	if err != nil {
		return fmt.Errorf("cache build: %w", cmp.Or(interrupted(ctx), err))
	}
	if o.json && several {
		return writeJSON(stdout, list)
	}
	if o.json {
		return writeJSON(stdout, list[0])
	}
	for i, b := range list {
		if !b.Done {
			continue
		}
		if _, err := fmt.Fprintf(stdout, "%s holds %s views of images; a run uses it by %s=%s\n",
			b.Folder, grouped(int64(b.Images)), cacheKey(several, i, "folder"), shellWord(b.Folder)); err != nil {
			return err
		}
	}
	return nil
}

// cacheKey is a recipe's key for the cache of its teacher, or of one of several.
func cacheKey(several bool, i int, name string) string {
	if several {
		return fmt.Sprintf("teachers.%d.cache.%s", i, name)
	}
	return "teacher.cache." + name
}

// load reads the recipe with what the flags say of its caches. Several reports whether it lists its teachers.
func (o cacheBuildOptions) load() (r *train.Recipe, several bool, err error) {
	if r, err = train.LoadRecipe(o.recipe, o.overrides); err != nil {
		return nil, false, err
	}
	several = len(r.Teachers) > 0
	overrides := slices.Clone(o.overrides)
	for i := range max(1, len(r.Teachers)) {
		folder := o.output
		if several && folder != "" {
			folder = filepath.Join(folder, fmt.Sprint(i))
		}
		for _, k := range []struct{ flag, name, value string }{{"dtype", "dtype", o.dtype}, {"output", "folder", folder}} {
			if k.value == "" {
				continue
			}
			text, err := yamlText(k.value)
			if err != nil {
				return nil, false, fmt.Errorf("--%s: %w", k.flag, err)
			}
			overrides = append(overrides, cacheKey(several, i, k.name)+"="+text)
		}
	}
	r, err = train.LoadRecipe(o.recipe, overrides)
	return r, several, err
}

// buildCaches makes the cache of each teacher, once all of them are known to find room.
func buildCaches(ctx context.Context, o cacheBuildOptions, stderr io.Writer) (list []built, several bool, err error) {
	r, several, err := o.load()
	if err != nil {
		return nil, false, err
	}
	if err := o.init(); err != nil {
		return nil, false, err
	}
	recipes, err := r.Singly()
	if err != nil {
		return nil, false, err
	}
	var all []*train.Caching
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	needed := make([]int64, len(recipes)) // bytes more than are there
	for i, r := range recipes {
		c, err := train.OpenCaching(r)
		if err != nil {
			return nil, false, err
		}
		all = append(all, c)
		b, there, err := plan(ctx, c, r.Teacher.Cache.Folder)
		if err != nil {
			return nil, false, err
		}
		list, needed[i] = append(list, b), b.Bytes-there
		rows := b.rows()
		if several {
			rows = slices.Insert(rows, 0, []string{"teacher", r.Teacher.Model})
		}
		if err := writeTable(stderr, rows); err != nil {
			return nil, false, err
		}
		if err := train.Room(b.Folder, needed[i]); err != nil {
			return nil, false, err
		}
	}
	if o.dryRun {
		return list, several, nil
	}
	for i, c := range all {
		b := &list[i]
		if err := train.Room(b.Folder, needed[i]); err != nil { // what was made before may have taken it
			return nil, false, err
		}
		began := time.Now()
		bar := newProgress(stderr, b.Images, "cache")
		err := c.Build(ctx, b.Folder, func(done, _ int) { bar.Set(done) }) // an error would be the terminal's
		bar.Exit()
		if err != nil {
			return nil, false, err
		}
		b.Done, b.Took = true, time.Since(began).Seconds()
	}
	return list, several, nil
}

// plan is what making a cache will take, and how many bytes of it are there.
func plan(ctx context.Context, c *train.Caching, folder string) (b built, there int64, err error) {
	b = built{Folder: folder, Views: c.Key.Augment.Views, DType: c.Key.DType, Taps: slices.Concat([]cache.Tap{}, c.Key.Taps)}
	if b.Folder == "" {
		root, err := cacheRoot()
		if err != nil {
			return b, 0, err
		}
		sum := c.Key.Sum()
		b.Folder = filepath.Join(root, hex.EncodeToString(sum[:8]))
	}
	if cache.Exists(b.Folder) {
		if there, err = fits(b.Folder, c.Key); err != nil {
			return b, 0, err
		}
	}
	b.Forecast, err = c.Forecast(ctx, b.Folder)
	return b, there, err
}

// fits checks that a cache that is there is of the key, and returns what it takes on disk.
func fits(folder string, k cache.Key) (int64, error) {
	c, err := cache.Open(folder)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Info().Key.Serves(k, false); err != nil {
		return 0, fmt.Errorf("%s: %w", folder, err)
	}
	st, err := c.Status()
	return st.Bytes, err
}

// rows say what is needed.
func (b built) rows() [][]string {
	kept := []string{"logits"}
	for _, t := range b.Taps {
		kept = append(kept, fmt.Sprintf("%s %v", t.Name, t.Shape))
	}
	rows := [][]string{
		{"cache", b.Folder},
		{"keeps", strings.Join(kept, ", ") + " as " + b.DType},
		{"images", fmt.Sprintf("%s, %d views of each", grouped(int64(b.Images/b.Views)), b.Views)},
		{"disk", fmt.Sprintf("%s of %s free", size(b.Bytes), size(b.FreeBytes))},
		{"time", fmt.Sprintf("%s at %.0f img/s, if none is there yet", time.Duration(b.Seconds*float64(time.Second)).Round(time.Second), b.Rate)},
	}
	if b.MapBytes > 0 {
		rows = append(rows, []string{"not kept", fmt.Sprintf("maps, which would take %s more (teacher.cache.maps=true)", size(b.MapBytes))})
	}
	return rows
}

// size writes a number of bytes in units of 1,000.
func size(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if float64(n) >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// cacheRoot is where caches lie that no recipe or flag gives a place.
func cacheRoot() (string, error) {
	folder, err := runtime.CacheFolder()
	return filepath.Join(folder, "teachers"), err
}
