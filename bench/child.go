package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"distill/internal/hint"
)

//go:embed pytorch.py
var pytorch string

// python is Debian's, whose PyTorch the install script brings; another one on the PATH would not have it.
const python = "/usr/bin/python3"

// child is one side of the comparison in a process of its own: peak memory is then that of one network.
type child struct {
	name    string
	layout  string // of the peer's tensors; of an epoch of ours the way
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

// side starts a child of one side.
type side func(ctx context.Context) (*child, error)

// The peer's layouts of images in memory: the one it has without being asked, and the one to ask it for.
const (
	contiguous   = "contiguous"
	channelsLast = "channels_last"
)

func ours(ctx context.Context) (*child, error) { return startSelf(ctx, "distill", contiguous) }

// ourWay is our side of an epoch.
func ourWay(w way) side {
	return func(ctx context.Context) (*child, error) { return startSelf(ctx, string(w), string(w)) }
}

func startSelf(ctx context.Context, name, layout string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startChild(name, layout, exec.CommandContext(ctx, self, "serve"))
}

// keeping has glibc keep the memory that a step frees. By itself it gives it back to the kernel and faults it in again in the
// next step, unless something happens to lie above it, which costs the peer up to a third of its time and is not what is to be
// compared.
const keeping = "MALLOC_TOP_PAD_=1073741824"

// setup is a way to have the peer.
type setup struct {
	name   string // "" for what stands first
	layout string
	env    []string
}

// setups are timed beside one another, and beside us.
var setups = []setup{{"", contiguous, []string{keeping}}, {channelsLast, channelsLast, []string{keeping}}, {"as it comes", contiguous, nil}}

// side names the peer's side.
func (s setup) side() string { return s.of("PyTorch") }

// of names what is timed in this setup, or against it.
func (s setup) of(what string) string {
	if s.name == "" {
		return what
	}
	return fmt.Sprintf("%s (%s)", what, s.name)
}

func (s setup) start(ctx context.Context) (*child, error) { return s.peer(s.env...)(ctx) }

// peer is the setup with these variables instead of its own: memory is measured without any.
func (s setup) peer(env ...string) side {
	return func(ctx context.Context) (*child, error) {
		c := exec.CommandContext(ctx, python, "-c", pytorch)
		// Settings of another machine's BLAS or OpenMP, which would slow the peer.
		c.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
			return strings.HasPrefix(kv, "OPENBLAS_") || strings.HasPrefix(kv, "OMP_") || strings.HasPrefix(kv, "GOMP_") || strings.HasPrefix(kv, "MALLOC_")
		})
		c.Env = append(c.Env, env...)
		return startChild(s.side(), s.layout, c)
	}
}

// sides are what is timed by turns: ours, and the peer in each setup.
func sides() []side {
	list := []side{ours}
	for _, s := range setups {
		list = append(list, s.start)
	}
	return list
}

func startChild(name, layout string, c *exec.Cmd) (*child, error) {
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("bench: start %s: %w", name, err)
	}
	return &child{name, layout, c, in, bufio.NewScanner(out)}, nil
}

// ask sends a command and returns what it came to.
func (c *child) ask(words ...string) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("bench: %s: %s: %w", c.name, strings.Join(words, " "), err)
	}
	if _, err := fmt.Fprintln(c.in, strings.Join(words, " ")); err != nil {
		return fail(err)
	}
	if !c.out.Scan() {
		return fail(hint.Wrap(errors.Join(errors.New("the process ended"), c.out.Err()), "what it wrote above says why"))
	}
	kind, result, _ := strings.Cut(c.out.Text(), " ")
	if kind != "ok" {
		return fail(errors.New(result))
	}
	return result, nil
}

// numbers is ask for a result of numbers.
func (c *child) numbers(words ...string) ([]float64, error) {
	result, err := c.ask(words...)
	if err != nil {
		return nil, err
	}
	var list []float64
	for _, word := range strings.Fields(result) {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %s: %w", c.name, strings.Join(words, " "), err)
		}
		list = append(list, v)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("bench: %s: %s: no number came back", c.name, strings.Join(words, " "))
	}
	return list, nil
}

// load makes the child's network ready.
func (c *child) load(n network, batch, seed int, o options) error {
	_, err := c.ask("load", n.name, strconv.Itoa(batch), strconv.Itoa(seed), strconv.Itoa(o.threads), o.folder, c.layout)
	return err
}

// steps times n steps, in milliseconds.
func (c *child) steps(n int) ([]float64, error) { return c.numbers("step", strconv.Itoa(n)) }

// stop ends the child, which ends where its input does.
func (c *child) stop() error {
	c.in.Close()
	return c.command.Wait()
}
