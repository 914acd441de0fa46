// Command distill turns a frozen ONNX teacher into a small trained ONNX student.
//
//	distill eval models/cifar10_resnet56.onnx --data cifar10:testdata/cifar10 --preset imagenet
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"distill/internal/hint"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns the process's exit status: 0, exitFailed, exitUsage, exitInterrupted, or
// the one that the error asks for through a method ExitCode. The first Ctrl-C or SIGTERM cancels the context that a
// verb runs under, so that it can leave things in order; the second one ends the process.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	err := execute(ctx, args, stdout, stderr)
	if err != nil {
		report(stderr, err)
	}
	return exitCode(err)
}

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell reports a process that Ctrl-C ended
)

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if coded, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		return coded.ExitCode()
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	return exitFailed
}

// interruption is work that stopped because it was told to.
type interruption struct{ error }

func (i interruption) Unwrap() error { return i.error }
func (interruption) ExitCode() int   { return exitInterrupted }

// interrupted is an error if work is to stop.
func interrupted(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return interruption{errors.New("interrupted")}
}

// report prints an error, and the way out on a line of its own.
func report(w io.Writer, err error) {
	fmt.Fprintf(w, "distill: error: %v\n", err)
	if way := hint.Of(err); way != "" {
		fmt.Fprintf(w, "distill: hint: %s\n", way)
	}
}
