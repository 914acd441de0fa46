package runtime

import (
	"errors"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"

	ort "github.com/yalue/onnxruntime_go"

	"distill/internal/hint"
	"distill/runtime/graph"
)

// Options say how a [Session] runs. The zero Options run on the CPU, on all of its threads, with all optimizations.
type Options struct {
	Threads             int      // within one operator; 0 means CPUs()
	Beside              int      // within one operator in Step.RunBeside, for the CPU; 0: as many as in Run
	Provider            Provider // zero: the CPU
	Spin                bool     // idle threads spin instead of sleeping: faster alone, slower beside another session
	DisableOptimization bool     // run the graph as it is written
	Profile             string   // if set, Close writes a JSON profile to a file whose path starts so
}

// IO is an input or an output of a model.
type IO struct {
	Name  string
	DType string      // as ONNX names it, "float32"; the kind of value where it is not a tensor, "sequence"
	Shape graph.Shape // -1 where a size is free; empty for a scalar, and where not even the rank is known
}

// String writes the type and shape as float32[?,3,32,32].
func (io IO) String() string {
	return io.DType + strings.ReplaceAll(io.Shape.String(), "-1", "?")
}

// fits reports whether a tensor of the shape can be fed to io.
func (io IO) fits(shape graph.Shape) bool {
	if len(io.Shape) == 0 {
		return true
	}
	return slices.EqualFunc(io.Shape, shape, func(want, d int) bool { return want < 0 || want == d })
}

// Session is an ONNX model made ready to run. It is safe for concurrent use, except for Close.
type Session struct {
	session         *ort.DynamicAdvancedSession
	inputs, outputs []IO
	fetched         []IO        // the outputs that a graph.Tensor can carry: what a run computes
	bound           []ort.Value // inputs that are the same for every run, after the others
	allocate        atomic.Bool // a run has shown that an output without dimensions is not a scalar
}

// NewSession prepares the model, a whole ONNX file without external data. [Init] comes first; Close must come last, and since
// ONNX Runtime gives back little memory then, sessions are for keeping.
func NewSession(model []byte, opts Options) (*Session, error) {
	if LibraryPath() == "" {
		return nil, errors.New("runtime: make session: ONNX Runtime is not loaded, Init comes first")
	}
	in, out, err := ort.GetInputOutputInfoWithONNXData(model)
	if err != nil {
		return nil, fmt.Errorf("runtime: make session: %w", explain(tidy(err), model))
	}
	return openSession(model, describe(in), describe(out), nil, opts)
}

func describe(infos []ort.InputOutputInfo) []IO {
	ios := make([]IO, len(infos))
	for i, info := range infos {
		ios[i] = IO{Name: info.Name, DType: dtypeName(info.DataType), Shape: fromDims(info.Dimensions)}
		if info.OrtValueType != ort.ONNXTypeTensor {
			ios[i].DType = strings.ToLower(strings.TrimPrefix(info.OrtValueType.String(), "ONNX_TYPE_"))
		}
	}
	return ios
}

// openSession is NewSession for a model whose inputs and outputs are known, which halves the time it takes. Inputs that are bound come
// after the others, by name, and are the same for every run.
func openSession(model []byte, inputs, outputs []IO, bound map[string]graph.Tensor, opts Options) (*Session, error) {
	s := &Session{inputs: inputs, outputs: outputs}
	for _, out := range outputs {
		if _, ok := dtypes[out.DType]; ok {
			s.fetched = append(s.fetched, out)
		}
	}
	if len(inputs) == 0 || len(s.fetched) == 0 {
		return nil, fmt.Errorf("runtime: make session: the model has %d inputs and %d numeric outputs, it needs one of each", len(inputs), len(s.fetched))
	}
	o, err := opts.build()
	if err != nil {
		return nil, fmt.Errorf("runtime: make session: %w", err)
	}
	defer o.Destroy()
	fed := names(inputs)
	for _, name := range slices.Sorted(maps.Keys(bound)) {
		v, err := wrap(bound[name])
		if err != nil {
			destroy(s.bound)
			return nil, fmt.Errorf("runtime: make session: input %q: %w", name, err)
		}
		fed, s.bound = append(fed, name), append(s.bound, v)
	}
	s.session, err = ort.NewDynamicAdvancedSessionWithONNXData(model, fed, names(s.fetched), o)
	if err != nil {
		destroy(s.bound)
		return nil, fmt.Errorf("runtime: make session on provider %s: %w", opts.Provider, explain(tidy(err), model))
	}
	return s, nil
}

// threads is how many they ask for.
func (opts Options) threads() int {
	if opts.Threads < 1 {
		return CPUs()
	}
	return opts.Threads
}

// build makes ONNX Runtime's options; the caller destroys them.
func (opts Options) build() (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	level, spin := ort.GraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll), "0"
	if opts.DisableOptimization {
		level = ort.GraphOptimizationLevelDisableAll
	}
	if opts.Spin {
		spin = "1"
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(opts.threads()),
		o.SetInterOpNumThreads(1),
		o.SetExecutionMode(ort.ExecutionModeSequential),
		// A memory pattern holds every buffer of a run at once: up to twice the memory, for no time.
		o.SetMemPattern(false),
		o.SetGraphOptimizationLevel(level),
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", spin),
		o.AddSessionConfigEntry("session.force_spinning_stop", "1"), // when a run ends, for whatever runs next
		o.AddSessionConfigEntry("session.use_deterministic_compute", "1"),
		o.AddSessionConfigEntry("session.use_env_allocators", "1"), // of shareMemory
		opts.Provider.attach(o),
	)
	if err == nil && opts.Profile != "" {
		err = o.EnableProfiling(opts.Profile)
	}
	if err != nil {
		o.Destroy()
		return nil, err
	}
	return o, nil
}

// Inputs lists what the model must be fed, in its order.
func (s *Session) Inputs() []IO { return slices.Clone(s.inputs) }

// Outputs lists what the model computes, in its order.
func (s *Session) Outputs() []IO { return slices.Clone(s.outputs) }

// Run feeds the inputs, all of them by name, and returns the named outputs; with no names, all that a tensor can carry.
// What it returns is the caller's. Float64 comes back as float32; bool and whole numbers as int64.
func (s *Session) Run(in map[string]graph.Tensor, outputs ...string) (map[string]graph.Tensor, error) {
	if len(outputs) == 0 {
		outputs = names(s.fetched)
	}
	if err := s.checkOutputs(outputs); err != nil {
		return nil, fmt.Errorf("runtime: run: %w", err)
	}
	feed, err := s.feed(in)
	defer destroy(feed)
	if err != nil {
		return nil, fmt.Errorf("runtime: run: %w", err)
	}
	fetch, err := s.fetch(feed)
	if err != nil {
		return nil, fmt.Errorf("runtime: run: %w", err)
	}
	defer destroy(fetch)
	result := make(map[string]graph.Tensor, len(outputs))
	for i, out := range s.fetched {
		if !slices.Contains(outputs, out.Name) {
			continue
		}
		if result[out.Name], err = unwrap(fetch[i]); err != nil {
			return nil, fmt.Errorf("runtime: run: output %q: %w", out.Name, err)
		}
	}
	return result, nil
}

func (s *Session) checkOutputs(outputs []string) error {
	for _, name := range outputs {
		if slices.ContainsFunc(s.fetched, func(o IO) bool { return o.Name == name }) {
			continue
		}
		if i := slices.IndexFunc(s.outputs, func(o IO) bool { return o.Name == name }); i >= 0 {
			return fmt.Errorf("output %q is %v, which cannot be read", name, s.outputs[i])
		}
		return hint.Wrap(fmt.Errorf("the model has no output %q", name), "it has %s", strings.Join(names(s.outputs), ", "))
	}
	return nil
}

// feed wraps the inputs in the model's order. It returns what it made also when it fails.
func (s *Session) feed(in map[string]graph.Tensor) ([]ort.Value, error) {
	for name := range in {
		if !slices.ContainsFunc(s.inputs, func(i IO) bool { return i.Name == name }) {
			return nil, hint.Wrap(fmt.Errorf("the model has no input %q", name), "it has %s", strings.Join(names(s.inputs), ", "))
		}
	}
	var values []ort.Value
	for _, want := range s.inputs {
		t, ok := in[want.Name]
		if !ok {
			return values, fmt.Errorf("input %q is missing: the model takes %v", want.Name, want)
		}
		if t.DType().String() != want.DType || !want.fits(t.Shape) {
			return values, fmt.Errorf("input %q is %v%v, the model takes %v", want.Name, t.DType(), t.Shape, want)
		}
		v, err := wrap(t)
		if err != nil {
			return values, fmt.Errorf("input %q: %w", want.Name, err)
		}
		values = append(values, v)
	}
	return values, nil
}

// fetch runs the model and returns its outputs. ONNX Runtime allocates them, but onnxruntime_go cannot receive a scalar so:
// scalars are allocated first. An output without dimensions may be a scalar or one of unknown rank: the first run tells.
func (s *Session) fetch(feed []ort.Value) ([]ort.Value, error) {
	if s.allocate.Load() {
		fetch := make([]ort.Value, len(s.fetched))
		return fetch, s.run(feed, fetch)
	}
	fetch, scalars := make([]ort.Value, len(s.fetched)), []ort.Value{}
	for i, out := range s.fetched {
		if len(out.Shape) > 0 {
			continue
		}
		v, err := dtypes[out.DType].scalar()
		if err != nil {
			destroy(scalars)
			return nil, err
		}
		fetch[i], scalars = v, append(scalars, v)
	}
	err := s.run(feed, fetch)
	if err == nil || len(scalars) == 0 {
		return fetch, err
	}
	destroy(scalars)
	clear(fetch)
	if err := s.run(feed, fetch); err != nil {
		return nil, err
	}
	s.allocate.Store(true)
	return fetch, nil
}

// run executes the model once. The inputs are as [Session.Inputs] orders them, the outputs as s.fetched does; an output that is
// nil is allocated, any other is written in place.
func (s *Session) run(inputs, outputs []ort.Value) error {
	if s.session == nil {
		return errors.New("the session is closed")
	}
	inputs = slices.Concat(inputs, s.bound)
	err := s.session.Run(inputs, outputs)
	// The values keep Go memory alive that ONNX Runtime reads and writes through plain pointers.
	goruntime.KeepAlive(inputs)
	goruntime.KeepAlive(outputs)
	if err != nil {
		return tidy(err)
	}
	return nil
}

// Close frees the session, which cannot be used any more. Closing it again does nothing.
func (s *Session) Close() error {
	if s.session == nil {
		return nil
	}
	err := s.session.Destroy()
	destroy(s.bound)
	s.session, s.bound = nil, nil
	if err != nil {
		return fmt.Errorf("runtime: close session: %w", err)
	}
	return nil
}

func names(ios []IO) []string {
	list := make([]string, len(ios))
	for i, io := range ios {
		list[i] = io.Name
	}
	return list
}
