package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	goruntime "runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/hint"
	"distill/internal/nearest"
	"distill/runtime"
)

// global are the flags that every verb has.
type global struct {
	library string // path of ONNX Runtime's shared library; "": wherever runtime.Find finds it
	threads int    // 0: one for each CPU
	json    bool
}

// init loads ONNX Runtime.
func (g *global) init() error { return runtime.Init(g.library) }

// budget is the number of threads to share out, at least 1.
func (g *global) budget() int { return cmp.Or(g.threads, runtime.CPUs()) }

// verbs make the commands of the program. A new one is a file and a row.
var verbs = []func(*global) *cobra.Command{
	newDoctor,
	newInit,
	newInspect,
	newStudents,
	newProbe,
	newTrain,
	newCompare,
	newEval,
	newPredict,
	newExport,
	newCache,
	newVerify,
	newTeacher,
}

func newRoot() *cobra.Command {
	var g global
	root := &cobra.Command{
		Use:   "distill",
		Short: "Distil a frozen ONNX teacher into a small ONNX student",
		Long: `Distil a frozen ONNX teacher into a small trained ONNX student, and examine both.

Results go to standard output, everything else to standard error. The exit status is 1 after an error, 2 after a
mistake in the command line, 3 where an exported student does not agree with the trained one, and 130 after Ctrl-C.`,
		Version:           version(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return g.check() },
	}
	root.SetVersionTemplate("distill {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.StringVar(&g.library, "onnxruntime", "", "`PATH` of ONNX Runtime's shared library; default: $"+runtime.LibraryEnv+", the cache folder, the system's folders")
	flags.IntVar(&g.threads, "threads", 0, "use `N` threads; 0: one for each CPU")
	flags.BoolVar(&g.json, "json", false, "write results as JSON")
	for _, verb := range verbs {
		root.AddCommand(verb(&g))
	}
	return root
}

func (g *global) check() error {
	if g.threads < 0 {
		return fmt.Errorf("--threads is %d, want 0 or more", g.threads)
	}
	return nil
}

// execute runs a command line. What goes wrong before the verb begins is a usageError.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	begun := false
	for _, verb := range root.Commands() {
		for _, c := range append(verb.Commands(), verb) {
			work := c.RunE
			c.RunE = func(c *cobra.Command, args []string) error {
				begun = true
				return work(c, args)
			}
		}
	}
	c, err := root.ExecuteContextC(ctx)
	if err == nil || begun {
		return err
	}
	// Cobra puts its suggestions into the text.
	text, meant, found := strings.Cut(err.Error(), "\n\nDid you mean this?\n\t")
	switch {
	case found:
		err = hint.Wrap(errors.New(text), "did you mean %s?", strings.ReplaceAll(strings.TrimSpace(meant), "\n\t", ", "))
	case hint.Of(err) == "":
		err = hint.Wrap(err, `run "%s --help"`, c.CommandPath())
	}
	return usageError{err}
}

// wantArgs refuses fewer or more arguments, flags apart, than a verb takes; what says what they are.
func wantArgs(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if n := len(args); n < least || n > most {
			return fmt.Errorf("%s needs %s: %s", c.Name(), what, c.UseLine())
		}
		return nil
	}
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
func (e usageError) ExitCode() int { return exitUsage }

// A flag, as usage texts show it.
var flagPattern = regexp.MustCompile(`--[a-z][a-z-]+`)

// flagError suggests the flag that was meant.
func flagError(c *cobra.Command, err error) error {
	unknown, ok := errors.AsType[interface {
		error
		GetSpecifiedName() string
	}](err)
	if !ok || !strings.HasPrefix(err.Error(), "unknown flag") {
		return err
	}
	known := flagPattern.FindAllString(c.LocalFlags().FlagUsages()+c.InheritedFlags().FlagUsages(), -1)
	if near := nearest.Word("--"+unknown.GetSpecifiedName(), known); near != "" {
		return hint.Wrap(err, "did you mean %s?", near)
	}
	return err
}

// version is the module's version, or the commit it was built from, with the toolchain and platform.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := strings.Trim(info.Main.Version, "()") // (devel)
	return fmt.Sprintf("%s %s %s/%s", cmp.Or(v, "devel"), info.GoVersion, goruntime.GOOS, goruntime.GOARCH)
}
