package main

import (
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"distill/internal/atomicfile"
	"distill/internal/hint"
)

// starter is a recipe that names every key, with its default, and says what it is for.
//
//go:embed recipes/starter.yaml
var starter string

type initOptions struct {
	global
	file  string
	force bool // overwrite the file
}

func newInit(g *global) *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a recipe to start from",
		Long: `Write a recipe to start from, in FILE or recipe.yaml: every key with its default, and what it is for.

JSON keys: file.`,
		Example: "  distill init recipe.yaml",
		Args:    wantArgs(0, 1, "one file at most"),
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.file = *g, "recipe.yaml"
			if len(args) > 0 {
				o.file = args[0]
			}
			return runInit(o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.force, "force", false, "overwrite FILE")
	return c
}

func runInit(o initOptions, stdout io.Writer) error {
	if _, err := os.Lstat(o.file); err == nil && !o.force {
		return hint.Wrap(fmt.Errorf("init: write %s: %w", o.file, fs.ErrExist), "overwrite it with --force, or name another file")
	}
	err := atomicfile.Write(o.file, func(w io.Writer) error {
		_, err := io.WriteString(w, starter)
		return err
	})
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if o.json {
		return writeJSON(stdout, struct {
			File string `json:"file"`
		}{o.file})
	}
	_, err = fmt.Fprintf(stdout, "Wrote %s. Edit it, then run: distill train --recipe %s\n", printable(o.file), shellWord(o.file))
	return err
}
