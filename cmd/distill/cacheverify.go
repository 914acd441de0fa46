package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/hint"
	"distill/teacher/cache"
	"distill/train"
)

type cacheVerifyOptions struct {
	global
	folder    string
	overrides []string
	samples   int
	seed      uint64
}

func newCacheVerify(g *global) *cobra.Command {
	var o cacheVerifyOptions
	c := &cobra.Command{
		Use:   "verify DIR [KEY=VALUE...]",
		Short: "Check a cache, byte for byte and against its teacher",
		Long: `Check the checksum of every record of a cache and, with --samples, compute random views again with the live teacher, in
batches of random images: computed in the same way they must agree bit for bit, with another batch, number of threads,
provider, processor or version of ONNX Runtime to 1e-5. Teacher and data are those of the recipe that the cache was made
from, which KEY=VALUE changes where they have moved (teacher.model=, data.source=).

The exit status is 1 where something is wrong. JSON keys: folder, records, damaged (a list of what is wrong), rechecked (null, or
images, differ, max_diff, exact).`,
		Example: "  distill cache verify cache\n  distill cache verify cache --samples 1000 --json",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || strings.Contains(args[0], "=") {
				return fmt.Errorf("verify needs a cache's folder: %s", c.UseLine())
			}
			return nil
		},
		PreRunE: func(*cobra.Command, []string) error {
			if o.samples < 0 {
				return fmt.Errorf("--samples is %d, want 0 or more", o.samples)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.folder, o.overrides = *g, args[0], args[1:]
			return runCacheVerify(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.IntVar(&o.samples, "samples", 0, "compute `N` random views again")
	f.Uint64Var(&o.seed, "seed", 1, "`SEED` that chooses them")
	return c
}

// verified is what verify finds.
type verified struct {
	Folder    string           `json:"folder"`
	Records   int              `json:"records"` // that were read
	Damaged   []string         `json:"damaged"`
	Rechecked *train.Rechecked `json:"rechecked"`
}

func runCacheVerify(ctx context.Context, o cacheVerifyOptions, stdout, stderr io.Writer) error {
	v, err := verifyCache(ctx, o, stderr)
	if err != nil {
		return fmt.Errorf("cache verify: %w", cmp.Or(interrupted(ctx), err))
	}
	write := func() error {
		rows := [][]string{{"cache", v.Folder}, {"records", grouped(int64(v.Records)) + " read"}}
		for _, d := range v.Damaged {
			rows = append(rows, []string{"damaged", d})
		}
		if r := v.Rechecked; r != nil {
			rows = append(rows, []string{"against the teacher", fmt.Sprintf("%s views computed again, %d differ, by %.2g at most", grouped(int64(r.Images)), r.Differ, r.MaxDiff)})
		}
		return writeTable(stdout, rows)
	}
	if o.json {
		write = func() error { return writeJSON(stdout, v) }
	}
	if err := write(); err != nil {
		return err
	}
	if n := len(v.Damaged); n > 0 {
		return hint.Wrap(fmt.Errorf("cache verify: %d shards of %s are damaged", n, o.folder), "remove those files and let `distill cache build` make them again")
	}
	if v.Rechecked != nil {
		return v.Rechecked.Err()
	}
	return nil
}

func verifyCache(ctx context.Context, o cacheVerifyOptions, stderr io.Writer) (v verified, err error) {
	v = verified{Folder: o.folder, Damaged: []string{}}
	c, err := cache.Open(o.folder)
	if err != nil {
		return v, err
	}
	defer c.Close()
	st, err := c.Status()
	if err != nil {
		return v, err
	}
	bar := newProgress(stderr, 1, "verify")
	defer bar.Exit()
	damaged, err := c.Verify(ctx, func(done, total int) {
		bar.ChangeMax(total)
		bar.Set(done)
	})
	if err != nil {
		return v, err
	}
	v.Records = st.Whole
	for _, d := range damaged {
		v.Damaged = append(v.Damaged, d.Error())
	}
	if o.samples == 0 || len(damaged) > 0 {
		return v, nil
	}
	folder, err := yamlText(o.folder)
	if err != nil {
		return v, err
	}
	r, err := train.ParseRecipe([]byte(c.Info().Recipe), filepath.Join(o.folder, "cache.json"), append([]string{"teacher.cache.folder=" + folder}, o.overrides...))
	if err != nil {
		return v, err
	}
	if err := o.init(); err != nil {
		return v, err
	}
	live, err := train.OpenCaching(r)
	if err != nil {
		return v, err
	}
	defer live.Close()
	rechecked, err := live.Recheck(ctx, c, o.samples, o.seed, func(done, total int) {
		bar.ChangeMax(total)
		bar.Set(done)
	})
	v.Rechecked = &rechecked
	return v, err
}
