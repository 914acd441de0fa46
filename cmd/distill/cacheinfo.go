package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"distill/runtime"
	"distill/teacher/cache"
)

func newCacheInfo(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "info DIR",
		Short: "Show what a cache holds",
		Long: `Show what a cache holds, of what, and how far it has come. It looks at the names and sizes of the files; verify looks into them.

JSON keys: folder, key (what all follows from), model (the teacher's file), recipe, made, status (records, whole, started,
bytes, busy, complete_views).`,
		Example: "  distill cache info cache",
		Args:    wantArgs(1, 1, "one cache's folder"),
		RunE: func(c *cobra.Command, args []string) error {
			return runCacheInfo(*g, args[0], c.OutOrStdout())
		},
	}
}

// described is what info finds.
type described struct {
	Folder string       `json:"folder"`
	Key    cache.Key    `json:"key"`
	Model  string       `json:"model"`
	Recipe string       `json:"recipe"`
	Made   string       `json:"made"`
	Status cache.Status `json:"status"`
}

func runCacheInfo(g global, folder string, stdout io.Writer) error {
	c, err := cache.Open(folder)
	if err != nil {
		return fmt.Errorf("cache info: %w", err)
	}
	defer c.Close()
	st, err := c.Status()
	if err != nil {
		return fmt.Errorf("cache info: %w", err)
	}
	i := c.Info()
	k := i.Key
	if g.json {
		return writeJSON(stdout, described{folder, k, i.Model, i.Recipe, i.Made, st})
	}
	kept := []string{fmt.Sprintf("%d logits", k.Classes)}
	for _, t := range k.Taps {
		kept = append(kept, fmt.Sprintf("%s %v", t.Name, t.Shape))
	}
	state := fmt.Sprintf("complete: %s records", grouped(int64(st.Records)))
	if !st.Complete() {
		state = fmt.Sprintf("%s of %s records in %d views; %d shards under way", grouped(int64(st.Whole)), grouped(int64(st.Records)), st.Views, st.Started)
	}
	if st.Busy {
		state += "; a process is writing it"
	}
	views := fmt.Sprintf("%d of each, crop %d, flip %s, seed %d", k.Augment.Views, k.Augment.Crop, yesNo(k.Augment.Flip), k.Augment.Seed)
	if k.Augment.Crop == 0 && !k.Augment.Flip {
		views = "the images themselves"
	}
	return writeTable(stdout, [][]string{
		{"cache", folder},
		{"teacher", i.Model},
		{"its SHA-256", k.Teacher},
		{"images", fmt.Sprintf("%s, SHA-256 %.16s…", grouped(int64(k.Samples)), k.Data)},
		{"views", views},
		{"keeps", strings.Join(kept, ", ") + " as " + k.DType},
		{"made by", fmt.Sprintf("ONNX Runtime %s, %s on %s, %d threads, batches of %d, on %s", k.Run.ONNXRuntime, k.Run.Provider, k.Run.Processor, k.Run.Threads, k.Run.Batch, i.Made)},
		{"state", state},
		{"disk", size(st.Bytes)},
	})
}

func newCacheGC(g *global) *cobra.Command {
	dryRun := false
	c := &cobra.Command{
		Use:   "gc [DIR]",
		Short: "Remove caches that are of no use",
		Long: `Remove the caches in DIR, by default those that build put into the user's cache folder, that are of no use: not complete,
damaged in their cache.json, of another version of ONNX Runtime than this one, or of a teacher whose file has changed. One that is
being written is left alone, and so is any file that is not a cache's.

JSON: a list with the keys folder, bytes, useful, reason, removed.`,
		Example: "  distill cache gc --dry-run\n  distill cache gc caches",
		Args:    wantArgs(0, 1, "one folder at most"),
		RunE: func(c *cobra.Command, args []string) error {
			return runCacheGC(*g, args, dryRun, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed, and remove nothing")
	return c
}

// collected is a cache that gc has judged.
type collected struct {
	cache.Entry
	Removed bool `json:"removed"`
}

func runCacheGC(g global, roots []string, dryRun bool, stdout io.Writer) error {
	list, err := collectCaches(g, roots, dryRun)
	if err != nil {
		return fmt.Errorf("cache gc: %w", err)
	}
	if g.json {
		return writeJSON(stdout, list)
	}
	var rows [][]string
	for _, e := range list {
		what := "kept"
		switch {
		case e.Removed:
			what = "removed"
		case !e.Useful:
			what = "of no use"
		}
		rows = append(rows, []string{e.Folder, size(e.Bytes), what, e.Reason})
	}
	return writeTable(stdout, rows)
}

func collectCaches(g global, roots []string, dryRun bool) ([]collected, error) {
	if len(roots) == 0 {
		root, err := cacheRoot()
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
			return []collected{}, nil
		}
		roots = []string{root}
	}
	if err := g.init(); err != nil {
		return nil, err
	}
	entries, err := cache.List(roots[0], runtime.Version())
	if err != nil {
		return nil, err
	}
	list := []collected{}
	for _, e := range entries {
		c := collected{Entry: e}
		if !e.Useful && !dryRun {
			if err := cache.Remove(e.Folder); err != nil {
				return nil, err
			}
			c.Removed = true
		}
		list = append(list, c)
	}
	return list, nil
}
