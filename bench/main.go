// Command bench measures training: side by side with PyTorch's, by operator, and as it grows.
//
//	go run ./bench compare               steps of all networks, and writes bench/results/pytorch.json
//	go run ./bench compare resnet-20     of one of them
//	go run ./bench profile -nodes wide   where the time of our step goes, node by node
//	go run ./bench epoch FOLDER          an epoch of CIFAR-10 with a teacher, live and cached, and writes bench/results/epoch.json
//	go run ./bench sweep                 our step by batch, depth and threads, and writes bench/results/sweep.md and sweep.svg
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
	images  int    // of an epoch
	nodes   bool   // profile each node
	results string // folder of the results
	folder  string // for what the two sides exchange; removed at the end
}

// resultsFolder is where a measurement is kept, but for a comparison of some networks only.
const resultsFolder = "bench/results"

const verbs = "bench compare, bench profile, bench epoch, or bench sweep"

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return hint.Wrap(errors.New("bench: nothing to do"), "%s; -h lists the options", verbs)
	}
	var o options
	f := flag.NewFlagSet("bench "+args[0], flag.ExitOnError)
	f.IntVar(&o.threads, "threads", 2, "threads of each side")
	f.IntVar(&o.steps, "steps", 6, "timed steps of a round, of a profile, or of a point of the sweep")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of a comparison, or of an epoch")
	f.IntVar(&o.images, "images", 30000, "images of an epoch")
	f.BoolVar(&o.nodes, "nodes", false, "profile each node, not each operator")
	f.StringVar(&o.results, "results", "", "folder for the results; default "+resultsFolder+", or none if some networks are compared")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if o.threads < 1 || o.steps < 1 || o.rounds < 1 || o.images < 1 {
		return errors.New("bench: -threads, -steps, -rounds and -images must be 1 or more")
	}
	if o.results == "" && (args[0] != "compare" || f.NArg() == 0) {
		o.results = resultsFolder
	}
	if err := runtime.Init(""); err != nil {
		return err
	}
	var err error
	if o.folder, err = os.MkdirTemp("", "distill-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.folder)
	switch args[0] {
	case "serve":
		return serve(os.Stdin, out)
	case "compare":
		list, err := chosen(f.Args())
		if err != nil {
			return err
		}
		rows, err := compare(ctx, o, list, out)
		if err != nil || o.results == "" {
			return err
		}
		return writeJSON(filepath.Join(o.results, "pytorch.json"), rows)
	case "profile":
		list, err := chosen(f.Args())
		if err != nil {
			return err
		}
		if f.NArg() == 0 {
			list = students(list) // for which no peer is needed
		}
		return profile(ctx, o, list, out)
	case "epoch":
		if f.NArg() != 1 {
			return needsCIFAR()
		}
		results, err := epoch(ctx, o, f.Arg(0), out)
		if err != nil {
			return err
		}
		return writeJSON(filepath.Join(o.results, "epoch.json"), results)
	case "sweep":
		return sweep(ctx, o, out)
	}
	return hint.Wrap(fmt.Errorf("bench: there is no %q", args[0]), "%s", verbs)
}

// writeJSON writes results as JSON.
func writeJSON(path string, results any) error {
	return writeFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(results)
	})
}

// writeFile makes the folder if it is missing.
func writeFile(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return atomicfile.Write(path, write)
}
