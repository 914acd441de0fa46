package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/train"
)

type compareOptions struct {
	global
	suite     string
	overrides []string // of all rows
}

func newCompare(g *global) *cobra.Command {
	var o compareOptions
	c := &cobra.Command{
		Use:   "compare SUITE.yaml [KEY=VALUE...]",
		Short: "Train variations of a recipe from several seeds, and compare them",
		Long: `Train variations of a recipe from several seeds, and compare them. The suite is a YAML file:

  output: runs/losses       # a folder for each row, with one for each seed
  recipe: recipe.yaml       # what all rows start from
  set: [epochs=5]           # of all rows, as distill train takes KEY=VALUE
  seeds: [1, 2, 3]
  rows:
    - {name: labels alone, set: ["losses=[{loss: ce}]"]}
    - {name: kd, set: ["losses.1.temperature=2"]}     # compared with the first row, or with those of "against"

KEY=VALUE on the command line goes before what the suite says. Results are the test accuracy of the last weights, beside
it that of the weights best on val, means over the seeds; and what a row gains over the one it is compared with, with two
95 % intervals. That over images is for other test images than these, from the differences image by image; that over
seeds is for other seeds, from the differences seed by seed, by Student's t: it is wide, for seeds are few.

Seed 1 of all rows is trained before seed 2 of any, and OUTPUT/table.md is written anew after each run. What is finished is
not trained again, and what Ctrl-C stopped goes on: give the same command.

JSON keys: images (to train, val and test), rows (name, runs, top1, best_top1, null where there are no figures; gains, a list with
over, the row it is over, mean, images and seeds, the two intervals). Of a run: recipe_sha256, seed, images, top1, best_top1,
seconds, correct (a digit an image), diverged (why there are no figures). Shares are 0..1.`,
		Example: "  distill compare suite.yaml",
		Args:    wantArgs(1, math.MaxInt, "a suite"),
		RunE: func(c *cobra.Command, args []string) error {
			flags, err := recipeFlags(c)
			if err != nil {
				return err
			}
			o.global, o.suite, o.overrides = *g, args[0], append(flags, args[1:]...)
			return runCompare(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().String("data", "", "images and labels of all rows, `KIND:PATH` (data.source)")
	return c
}

func runCompare(ctx context.Context, o compareOptions, stdout, stderr io.Writer) error {
	s, err := train.LoadSuite(o.suite, o.overrides)
	if err != nil {
		return err
	}
	if err := o.init(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Output, 0o777); err != nil {
		return fmt.Errorf("compare: output folder: %w", err)
	}
	watch := newWatch(stderr)
	defer watch.close()
	opts := train.Options{Observe: watch.observe, Opened: func(run *train.Run) error {
		watch.close()
		fmt.Fprintf(stderr, "%s: %s\n", run.Folder, lossText(run.Recipe.Losses))
		warn(stderr, run)
		return nil
	}}
	var last *train.Comparison
	err = train.Compare(ctx, s, opts, func(c *train.Comparison) error {
		last = c
		return atomicfile.Write(filepath.Join(s.Output, "table.md"), func(w io.Writer) error { return writeComparison(w, s, c) })
	})
	watch.close()
	if err != nil {
		if errors.Is(err, train.ErrInterrupted) || errors.Is(err, context.Canceled) {
			err = hint.Wrap(interruption{err}, "go on by the same command")
		}
		return err
	}
	if o.json {
		return writeJSON(stdout, last)
	}
	return writeComparison(stdout, s, last)
}

// writeComparison writes a comparison as Markdown: the budget, the table, and what each row is.
func writeComparison(w io.Writer, s *train.Suite, c *train.Comparison) error {
	var b strings.Builder
	r, err := s.RecipeOf(s.Rows[0], s.Seeds[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "%d epochs of %s images in batches of %d, learning rate %s; means over seeds %s; %s test images. Accuracy is\n",
		r.Epochs, grouped(int64(c.Images[0])), r.Batch, r.Schedule.Name, list(s.Seeds), grouped(int64(c.Images[2])))
	fmt.Fprint(&b, "that of the last weights; a gain is in points, paired image by image, with its 95 % intervals.\n\n")
	fmt.Fprint(&b, "| | accuracy | best on val | gain | over | 95 %, test images | 95 %, seeds | time a run |\n|---|---|---|---|---|---|---|---|\n")
	for _, row := range c.Rows {
		for _, cells := range comparedCells(row) {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	fmt.Fprintln(&b)
	for _, row := range s.Rows {
		r, err := s.RecipeOf(row, s.Seeds[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "- %s: %s%s, %s %g, %s", row.Name, r.Student.Name, settings(r.Student.Arch), r.Optimizer.Name, r.Optimizer.LR, lossText(r.Losses))
		if len(r.Teachers) > 0 {
			how, by := teaching(r)
			fmt.Fprintf(&b, ", teachers %s by %s", how, by)
		}
		fmt.Fprintln(&b)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// list writes numbers as 1, 2, 3.
func list(seeds []uint64) string {
	parts := make([]string, len(seeds))
	for i, s := range seeds {
		parts[i] = fmt.Sprint(s)
	}
	return strings.Join(parts, ", ")
}

// comparedCells are a row of the table, and one more for each gain after the first.
func comparedCells(row train.Compared) [][]string {
	cells := []string{row.Name, "", "", "", "", "", "", ""}
	seconds := 0.0
	for _, o := range row.Runs {
		if o.Diverged != "" {
			cells[1] = fmt.Sprintf("seed %d: %s", o.Seed, strings.TrimPrefix(o.Diverged, "train: "))
			return [][]string{cells}
		}
		seconds += o.Seconds / float64(len(row.Runs))
	}
	if row.Top1 == nil {
		return [][]string{cells}
	}
	cells[1], cells[2], cells[7] = percent(*row.Top1), percent(*row.BestTop1), fmt.Sprintf("%.0f s", seconds)
	list := [][]string{cells}
	for i, g := range row.Gains {
		if i > 0 {
			list = append(list, make([]string, len(cells)))
		}
		copy(list[i][3:], []string{fmt.Sprintf("%+.1f", 100*g.Mean), g.Over, bounds(g.Images), bounds(g.Seeds)})
	}
	return list
}

// bounds writes an interval in points, as +0.3 to +1.2.
func bounds(interval *[2]float64) string {
	if interval == nil {
		return ""
	}
	return fmt.Sprintf("%+.1f to %+.1f", 100*interval[0], 100*interval[1])
}
