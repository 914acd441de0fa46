// Command bench measures training steps: side by side with PyTorch's, and by operator.
//
//	go run ./bench compare               all networks, and writes bench/results/pytorch.json
//	go run ./bench compare resnet-20     one of them
//	go run ./bench profile -nodes wide   where the time of our step goes, node by node
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/runtime"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bench: error:", err)
	if way := hint.Of(err); way != "" {
		fmt.Fprintln(os.Stderr, "bench: hint:", way)
	}
	os.Exit(1)
}

// options are the command line's.
type options struct {
	threads int
	rounds  int
	steps   int    // of a round, or of a profile
	nodes   bool   // profile each node
	json    string // file of the results
	folder  string // for what the two sides exchange; removed at the end
}

// resultsFile is where a comparison of all networks is kept.
const resultsFile = "bench/results/pytorch.json"

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return hint.Wrap(errors.New("bench: nothing to do"), "bench compare, or bench profile; -h lists the options")
	}
	var o options
	f := flag.NewFlagSet("bench "+args[0], flag.ExitOnError)
	f.IntVar(&o.threads, "threads", 2, "threads of each side")
	f.IntVar(&o.steps, "steps", 6, "timed steps of a round, or of a profile")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of a comparison")
	f.BoolVar(&o.nodes, "nodes", false, "profile each node, not each operator")
	f.StringVar(&o.json, "json", "", "file for the results of a comparison; default "+resultsFile+" if all networks are compared")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if o.threads < 1 || o.steps < 1 || o.rounds < 1 {
		return errors.New("bench: -threads, -steps and -rounds must be 1 or more")
	}
	if err := runtime.Init(""); err != nil {
		return err
	}
	list, err := chosen(f.Args())
	if err != nil {
		return err
	}
	if o.folder, err = os.MkdirTemp("", "distill-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.folder)
	switch args[0] {
	case "serve":
		return serve(os.Stdin, out)
	case "compare":
		if o.json == "" && f.NArg() == 0 {
			o.json = resultsFile
		}
		rows, err := compare(ctx, o, list, out)
		if err != nil || o.json == "" {
			return err
		}
		return writeRows(o.json, rows)
	case "profile":
		if f.NArg() == 0 {
			list = students(list) // for which no peer is needed
		}
		return profile(ctx, o, list, out)
	}
	return hint.Wrap(fmt.Errorf("bench: there is no %q", args[0]), "bench compare, or bench profile")
}

// writeRows writes results as a JSON list, in a folder that is made if it is missing.
func writeRows(path string, rows []row) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	})
}
