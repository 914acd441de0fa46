package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"distill/internal/hint"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func newDoctor(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check that this machine can run distill",
		Long: `Check that this machine can run distill: that ONNX Runtime's shared library is found, loads and computes, and which
execution providers, threads and fast convolutions there are. It fails if something needed is missing; what is absent is
merely slower or less.

JSON keys: ok, library, version, providers (those that work), cpus, threads, block (channels per block of the fast
convolution: 16 with AVX-512, else 8; 0: none), cache, checks (name, status "ok", "absent" or "failed", detail, hint).`,
		Example: "  distill doctor",
		Args:    wantArgs(0, 0, "no arguments"),
		RunE:    func(c *cobra.Command, _ []string) error { return runDoctor(*g, c.OutOrStdout()) },
	}
}

// diagnosis is what doctor finds.
type diagnosis struct {
	OK        bool      `json:"ok"`
	Library   string    `json:"library"` // "" if none is found
	Version   string    `json:"version"` // of the library; "" if it does not load
	Providers []string  `json:"providers"`
	CPUs      int       `json:"cpus"`
	Threads   int       `json:"threads"`
	Block     int       `json:"block"`
	Cache     string    `json:"cache"`
	Checks    []finding `json:"checks"`
}

// finding is the outcome of one check.
type finding struct {
	Name   string `json:"name"`
	Status string `json:"status"` // statusOK, statusAbsent or statusFailed
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

const (
	statusOK     = "ok"
	statusAbsent = "absent" // it is not there, and all works without it
	statusFailed = "failed"
)

// add notes that a check went well, or, with an error, that it came out as otherwise says.
func (d *diagnosis) add(name, detail string, err error, otherwise string) {
	f := finding{Name: name, Status: statusOK, Detail: detail}
	if err != nil {
		f.Status, f.Detail, f.Hint = otherwise, err.Error(), hint.Of(err)
	}
	d.Checks = append(d.Checks, f)
}

func runDoctor(g global, stdout io.Writer) error {
	d := diagnose(g)
	failed := 0
	for _, f := range d.Checks {
		if f.Status == statusFailed {
			failed++
		}
	}
	d.OK = failed == 0
	write := writeDiagnosis
	if g.json {
		write = func(w io.Writer, d diagnosis) error { return writeJSON(w, d) }
	}
	if err := write(stdout, d); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("doctor: %d of %d checks failed", failed, len(d.Checks))
	}
	return nil
}

func diagnose(g global) diagnosis {
	d := diagnosis{Providers: []string{}, CPUs: runtime.CPUs(), Threads: g.budget()}
	d.add("threads", fmt.Sprintf("%d, on %d CPUs", d.Threads, d.CPUs), nil, statusFailed)

	var err error
	d.Cache, err = cacheFolder()
	d.add("cache folder", d.Cache, err, statusAbsent)

	d.Library, err = runtime.Find(g.library)
	d.add("library", d.Library, err, statusFailed)
	if err != nil {
		return d
	}
	err = runtime.Init(d.Library)
	d.Version = runtime.Version()
	d.add("load", "ONNX Runtime "+d.Version, err, statusFailed)
	if err != nil {
		return d
	}
	for _, name := range runtime.Providers() {
		otherwise := statusAbsent
		if name == (runtime.Provider{}).String() {
			otherwise = statusFailed
		}
		err := hush(func() error { return tryProvider(runtime.Provider{Name: name}) })
		if err == nil {
			d.Providers = append(d.Providers, name)
		}
		d.add("provider "+name, "computes", err, otherwise)
	}
	target, err := runtime.Probe(runtime.Options{Threads: d.Threads})
	d.Block = target.Block
	if err == nil && d.Block == 0 {
		d.add("fast convolution", "", errors.New("this library has none for this processor: training is slower"), statusAbsent)
	} else {
		d.add("fast convolution", fmt.Sprintf("blocks of %d channels", d.Block), err, statusFailed)
	}
	return d
}

// tryProvider runs a small sum on a provider. It is an error if another one did it.
func tryProvider(provider runtime.Provider) error {
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		x := g.Input("x", graph.Float32, 4)
		g.Output("y", op.Add(x, x))
	})
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "distill-doctor")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	opts := runtime.Options{Threads: 1, Provider: provider, Profile: filepath.Join(folder, "profile")}
	step, err := runtime.Compile(p, &graph.Store{}, runtime.ONNXRuntime, opts, &graph.Target{})
	if err != nil {
		return err
	}
	out, err := step.Run(map[string]graph.Tensor{"x": graph.Floats([]float32{1, 2, 3, 4}, 4)})
	if err = errors.Join(err, step.Close()); err != nil {
		return err
	}
	place, err := runtime.ReadPlacement(opts.Profile, opts.Provider)
	if err != nil {
		return err
	}
	if place.On == 0 {
		return errors.New("starts, but leaves a sum to another provider")
	}
	if got, want := out["y"].F, []float32{2, 4, 6, 8}; !slices.Equal(got, want) {
		return fmt.Errorf("computes wrongly: 2·[1 2 3 4] came out as %v", got)
	}
	return nil
}

// hush does work while the process's standard error leads nowhere: drivers of graphics cards print there what comes back as
// an error, too.
func hush(work func() error) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return work()
	}
	defer null.Close()
	const stderr = 2
	saved, err := unix.FcntlInt(stderr, unix.F_DUPFD_CLOEXEC, stderr+1)
	if err != nil {
		return work()
	}
	defer unix.Close(saved)
	if err := unix.Dup3(int(null.Fd()), stderr, 0); err != nil {
		return work()
	}
	defer unix.Dup3(saved, stderr, 0)
	return work()
}

// cacheFolder returns the folder that set-up fetches to. It is an error if nothing could be written there.
func cacheFolder() (string, error) {
	folder, err := runtime.CacheFolder()
	if err == nil {
		err = writable(folder)
	}
	return folder, hint.Wrap(err, "set %s to a folder that can be written", runtime.CacheEnv)
}

// writable reports why a folder, which need not exist yet, could not be made and written to. It leaves no trace.
func writable(folder string) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	existing := folder
	info, err := os.Stat(existing)
	for ; errors.Is(err, fs.ErrNotExist) && existing != filepath.Dir(existing); info, err = os.Stat(existing) {
		existing = filepath.Dir(existing)
	}
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", existing)
	}
	if err := unix.Access(existing, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s cannot be written: %w", existing, err)
	}
	return nil
}

func writeDiagnosis(w io.Writer, d diagnosis) error {
	var rows [][]string
	for _, f := range d.Checks {
		detail := f.Detail
		if f.Hint != "" {
			detail += "\nhint: " + f.Hint
		}
		name, status := f.Name, f.Status
		for line := range strings.SplitSeq(detail, "\n") {
			rows = append(rows, []string{name, status, line})
			name, status = "", ""
		}
	}
	return writeTable(w, rows)
}
