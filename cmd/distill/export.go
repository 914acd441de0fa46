package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/hint"
	"distill/runtime"
	"distill/train"
)

type exportOptions struct {
	global
	run        string   // folder
	checkpoint string   // last or best
	output     string   // "": student.onnx in the folder
	weights    string   // safetensors file to write, too; "": none
	overrides  []string // of the run's recipe, as key.path=value
}

func newExport(g *global) *cobra.Command {
	var o exportOptions
	var provider string
	c := &cobra.Command{
		Use:   "export RUN [KEY=VALUE...]",
		Short: "Export the student of a run",
		Long: `Export the student of a run, its last weights or those that were best on val, as an ONNX file: for inference, batch norm
folded, opset 17, any batch size. The file is written only if ONNX Runtime computes from it what the trainer computes, on
up to 512 images of val; if not, the exit status is 3. With --provider, the trainer's network runs there, and the file on the CPU
and there: all must agree to within that provider's threshold. KEY=VALUE changes the run's recipe, for data that moved:
data.source=cifar10:DIR.

JSON keys: file, checkpoint, weights (absent without --weights), parity (images, max_diff, limit, flipped).`,
		Example: `  distill export run --checkpoint best --output best.onnx
  distill export run --weights student.safetensors --json`,
		Args: wantArgs(1, math.MaxInt, "the folder of a run"),
		PreRunE: func(*cobra.Command, []string) error {
			if o.checkpoint != "last" && o.checkpoint != "best" {
				return fmt.Errorf("--checkpoint is %q, want last or best", o.checkpoint)
			}
			return runtime.Provider{Name: provider}.Validate()
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.run, o.overrides = *g, args[0], args[1:]
			if c.Flags().Changed("threads") {
				o.overrides = append([]string{fmt.Sprintf("threads=%d", g.threads)}, o.overrides...)
			}
			if provider != "" {
				o.overrides = append([]string{"provider=" + provider}, o.overrides...)
			}
			return runExport(c.Context(), o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.checkpoint, "checkpoint", "last", "export the weights of `NAME`: last or best")
	f.StringVar(&o.output, "output", "", "write the model to `FILE`; default: student.onnx in RUN")
	f.StringVar(&provider, "provider", "", "also check it on `NAME`: "+strings.Join(runtime.Providers(), ", ")+"; default: the run's")
	f.StringVar(&o.weights, "weights", "", "also write the weights, under PyTorch's names, to `FILE.safetensors`")
	return c
}

// exported is what export did.
type exported struct {
	File       string       `json:"file"`
	Checkpoint string       `json:"checkpoint"`
	Weights    string       `json:"weights,omitempty"`
	Parity     train.Parity `json:"parity"`
}

func runExport(ctx context.Context, o exportOptions, stdout io.Writer) error {
	if err := o.init(); err != nil {
		return err
	}
	run, err := train.Reopen(o.run, o.checkpoint, o.overrides)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.Wrap(err, "RUN is the output folder of a distill train that got as far as a checkpoint")
	}
	if err != nil {
		return err
	}
	defer run.Close()
	if err := interrupted(ctx); err != nil {
		return fmt.Errorf("export %s: %w", o.run, err)
	}
	e := exported{File: cmp.Or(o.output, run.Folder.Student()), Checkpoint: o.checkpoint, Weights: o.weights}
	if e.Parity, err = run.Export(e.File); err != nil {
		return err
	}
	if o.weights != "" {
		if err := run.SaveWeights(o.weights); err != nil {
			return err
		}
	}
	if o.json {
		return writeJSON(stdout, e)
	}
	rows := [][]string{{"exported and checked", fmt.Sprintf("%s (%s)", e.File, parityText(e.Parity))}}
	if o.weights != "" {
		rows = append(rows, []string{"weights", o.weights})
	}
	return writeTable(stdout, rows)
}
