package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"distill/internal/hint"
	"distill/internal/nearest"
)

// Provider is the execution provider that runs a session: the hardware and its kernels. The zero Provider is the CPU.
type Provider struct {
	Name string // one of [Providers]; "" is cpu
	// Options are the provider's own, under ONNX Runtime's keys. For cuda:
	//
	//	device_id                     which card, from 0; default 0
	//	gpu_mem_limit                 most bytes of its arena; default all there are
	//	arena_extend_strategy         kNextPowerOfTwo (default) or kSameAsRequested, which is slower and keeps closer to the need
	//	use_tf32                      1: products are of 10 bits and faster; default 0, unlike ONNX Runtime's
	//	cudnn_conv_algo_search        EXHAUSTIVE (default), HEURISTIC or DEFAULT
	//	cudnn_conv_use_max_workspace  0: less memory for convolutions; default 1
	//	do_copy_in_default_stream     0: copies on a stream of their own; default 1
	//	prefer_nhwc                   1: images are laid out as NHWC; default 0
	//
	// For webgpu:
	//
	//	preferredLayout  NCHW (default, unlike ONNX Runtime's) or NHWC
	//	powerPreference  high-performance (default) or low-power, where there are two cards
	//	validationMode   basic (default), disabled, wgpuOnly or full
	//	dawnBackendType  Vulkan or D3D12; default the system's
	Options map[string]string
}

// String is the provider's name.
func (p Provider) String() string {
	if p.Name == "" {
		return providers[0].name
	}
	return p.Name
}

// IsCPU reports whether it is the CPU.
func (p Provider) IsCPU() bool { return p.String() == providers[0].name }

// Parity is how far a result of a network on the provider may lie from that of the CPU, relative to the largest element of
// the result, for the provider to count as right.
func (p Provider) Parity() float64 {
	row, err := p.row()
	if err != nil {
		return 0
	}
	return row.parity
}

// kernels is how ONNX Runtime's profile names the provider.
func (p Provider) kernels() string {
	row, err := p.row()
	if err != nil {
		return ""
	}
	return row.kernels
}

// Validate checks name and options, as far as that goes without the hardware.
func (p Provider) Validate() error {
	row, err := p.row()
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(p.Options)) {
		if err := row.check(key, p.Options[key]); err != nil {
			return err
		}
	}
	return nil
}

type provider struct {
	name     string
	kernels  string // what ONNX Runtime calls it
	parity   float64
	options  map[string]func(value string) error // the keys that there are, and what refuses a wrong value
	defaults map[string]string                   // what Provider.Options overrides
	add      func(o *ort.SessionOptions, options map[string]string) error
}

// The first is the default. Whatever a provider lacks a kernel for runs on the CPU.
//
// The thresholds of parity: float32 in another order of summation differs by 1e-5 (measured, whole training steps), and
// 1e-4 is what folding batch norm may cost at export, so that is the CPU's own; CUDA computes in float32, too, and was not
// measured. WebGPU's shading language lets sine and cosine be off by 2⁻¹¹ = 5e-4, of which 2e-4 were measured; twice that.
var providers = []provider{
	{name: "cpu", kernels: "CPUExecutionProvider", parity: 1e-4, add: addCPU},
	{
		name: "cuda", kernels: "CUDAExecutionProvider", parity: 1e-4, add: addCUDA,
		options: map[string]func(string) error{
			"device_id":                    wholeNumber,
			"gpu_mem_limit":                wholeNumber,
			"arena_extend_strategy":        oneOf("kNextPowerOfTwo", "kSameAsRequested"),
			"use_tf32":                     oneOf("0", "1"),
			"cudnn_conv_algo_search":       oneOf("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
			"cudnn_conv_use_max_workspace": oneOf("0", "1"),
			"do_copy_in_default_stream":    oneOf("0", "1"),
			"prefer_nhwc":                  oneOf("0", "1"),
		},
		// TensorFloat-32 rounds products to 10 bits, too coarse for the parity that export asks for.
		defaults: map[string]string{"use_tf32": "0"},
	},
	{
		name: "webgpu", kernels: "WebGpuExecutionProvider", parity: 1e-3, add: addWebGPU,
		options: map[string]func(string) error{
			"preferredLayout": oneOf("NCHW", "NHWC"),
			"powerPreference": oneOf("high-performance", "low-power"),
			"validationMode":  oneOf("basic", "disabled", "wgpuOnly", "full"),
			"dawnBackendType": oneOf("Vulkan", "D3D12"),
		},
		// In NHWC, ONNX Runtime 1.30 computes some convolutions in groups wrongly: see docs/providers.md.
		defaults: map[string]string{"preferredLayout": "NCHW"},
	},
}

// Providers lists the names that [Provider] accepts. Whether one works depends on the library and the machine.
func Providers() []string {
	names := make([]string, len(providers))
	for i, p := range providers {
		names[i] = p.name
	}
	return names
}

func (p Provider) row() (provider, error) {
	for _, row := range providers {
		if row.name == p.String() {
			return row, nil
		}
	}
	return provider{}, hint.Wrap(fmt.Errorf("provider %q is unknown", p), "choose one of %s", strings.Join(Providers(), ", "))
}

// check refuses an option that the provider does not have, which ONNX Runtime would not in every case, or a wrong value.
func (row provider) check(key, value string) error {
	valid, ok := row.options[key]
	if !ok {
		err := fmt.Errorf("provider %s: there is no option %q", row.name, key)
		known := slices.Sorted(maps.Keys(row.options))
		if len(known) == 0 {
			return hint.Wrap(err, "the %s provider has no options", row.name)
		}
		return hint.Wrap(err, "did you mean %s? There are %s", nearest.Names(key, known, 1)[0], strings.Join(known, ", "))
	}
	if err := valid(value); err != nil {
		return fmt.Errorf("provider %s: option %s is %q, want %w", row.name, key, value, err)
	}
	return nil
}

func wholeNumber(value string) error {
	if _, err := strconv.ParseUint(value, 10, 63); err != nil {
		return fmt.Errorf("a whole number of 0 or more")
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return fmt.Errorf("one of %s", strings.Join(values, ", "))
	}
}

// attach makes the session to be made from o run on p.
func (p Provider) attach(o *ort.SessionOptions) error {
	if err := p.Validate(); err != nil {
		return err
	}
	row, err := p.row()
	if err != nil {
		return err
	}
	if err := row.add(o, row.resolve(p.Options)); err != nil {
		return hint.Wrap(fmt.Errorf("provider %s: %w", p, tidy(err)),
			"use the cpu provider, or name a library that has %s with --onnxruntime or %s; its hardware and driver must be there, too", p, LibraryEnv)
	}
	return nil
}

// resolve is what ONNX Runtime is given: the defaults, and over them what is set.
func (row provider) resolve(options map[string]string) map[string]string {
	resolved := map[string]string{}
	maps.Copy(resolved, row.defaults)
	maps.Copy(resolved, options)
	return resolved
}

func addCPU(*ort.SessionOptions, map[string]string) error { return nil }

func addCUDA(o *ort.SessionOptions, options map[string]string) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy()
	if err := cuda.Update(options); err != nil {
		return err
	}
	return o.AppendExecutionProviderCUDA(cuda)
}

func addWebGPU(o *ort.SessionOptions, options map[string]string) error {
	return o.AppendExecutionProvider("WebGPU", options)
}
