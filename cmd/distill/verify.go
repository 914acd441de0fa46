package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/hint"
	"distill/internal/nearest"
	"distill/losses"
	"distill/losses/verify"
)

type verifyOptions struct {
	global
	losses []string // names; none: all
}

func newVerify(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "verify losses [LOSS...] | verify provider NAME [KEY=VALUE...] [CASE...]",
		Short: "Compare the losses with PyTorch's values, or a provider with the CPU",
		Long: `verify losses: compare losses, all or those named, with what PyTorch computed of the same formulas in float64: values and gradients by both
engines on this machine, the tape machine in float64 and ONNX Runtime in float32. A line is a loss with the settings of a
variant on given inputs. It fails where an engine is off by more than 1e-9 or 5e-6, relative to the larger of 1 and PyTorch's
number, and the exit status is 1 then.

JSON: a list with the keys loss, variant, golden (PyTorch's value), tape, onnxruntime, difference (ONNX Runtime's largest of
value and gradients, relative), pass, case (the inputs) and, where it does not pass, reason.

` + verifyProviderHelp,
		Example: `  distill verify losses
  distill verify losses --json dkd nkd
  distill verify provider cpu Conv resnet`,
		Args: verifyArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "provider" {
				return runVerifyProvider(c.Context(), newProviderOptions(*g, args[1:]), c.OutOrStdout())
			}
			return runVerify(c.Context(), verifyOptions{*g, args[1:]}, c.OutOrStdout())
		},
	}
}

// verifyArgs wants the word losses and names of losses, or the word provider and what newProviderOptions takes.
func verifyArgs(c *cobra.Command, args []string) error {
	switch {
	case len(args) > 1 && args[0] == "provider":
		return newProviderOptions(global{}, args[1:]).validate()
	case len(args) == 0 || args[0] != "losses":
		return fmt.Errorf("verify needs what to verify: %s", c.UseLine())
	}
	for _, name := range args[1:] {
		if _, ok := losses.Lookup(name); ok {
			continue
		}
		var known []string
		for _, row := range losses.Table {
			known = append(known, row.Name)
		}
		return hint.Wrap(fmt.Errorf("there is no loss %q", name), "the nearest are %s", strings.Join(nearest.Names(name, known, 3), ", "))
	}
	return nil
}

func runVerify(ctx context.Context, o verifyOptions, stdout io.Writer) error {
	if err := o.init(); err != nil {
		return err
	}
	cases, err := verify.Goldens()
	if err != nil {
		return err
	}
	var results []verify.Result
	for _, c := range cases {
		if len(o.losses) > 0 && !slices.Contains(o.losses, c.Loss) {
			continue
		}
		if err := interrupted(ctx); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		r, err := verify.Run(c)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	return writeVerified(stdout, results, o.json)
}

// writeVerified writes results; it is an error if there are none, or if one does not pass.
func writeVerified(w io.Writer, results []verify.Result, json bool) error {
	failed := 0
	rows := [][]string{{"loss", "variant", "inputs", "golden", "tape", "onnxruntime", "difference", "pass"}}
	for _, r := range results {
		pass := yesNo(r.Pass)
		if !r.Pass {
			failed++
			pass += ": " + r.Reason
		}
		number := func(v float64) string { return fmt.Sprintf("%.8g", v) }
		rows = append(rows, []string{r.Loss, r.Variant, r.Case, number(r.Golden), number(r.Tape), number(r.ONNXRuntime),
			fmt.Sprintf("%.1e", r.Difference), pass})
	}
	var err error
	if json {
		err = writeJSON(w, results)
	} else {
		err = writeTable(w, rows)
	}
	switch {
	case err != nil:
		return err
	case len(results) == 0:
		return errors.New("verify: there is nothing to compare these losses with")
	case failed > 0:
		return fmt.Errorf("verify: %d of %d comparisons failed", failed, len(results))
	}
	return nil
}
