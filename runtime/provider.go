package runtime

import (
	"fmt"
	"maps"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"distill/internal/hint"
)

// Provider is the execution provider that runs a session: the hardware and its kernels. The zero Provider is the CPU.
type Provider struct {
	Name    string            // one of [Providers]; "" is cpu
	Options map[string]string // the provider's own option keys, such as device_id and gpu_mem_limit (bytes) for cuda
}

// String is the provider's name.
func (p Provider) String() string {
	if p.Name == "" {
		return providers[0].name
	}
	return p.Name
}

type provider struct {
	name     string
	defaults map[string]string // what Provider.Options overrides
	add      func(o *ort.SessionOptions, options map[string]string) error
}

// The first is the default. Whatever a provider lacks a kernel for runs on the CPU.
var providers = []provider{
	{name: "cpu", add: addCPU},
	// TensorFloat-32 rounds products to 10 bits, too coarse for the parity that export asks for.
	{name: "cuda", defaults: map[string]string{"use_tf32": "0"}, add: addCUDA},
	{name: "webgpu", add: addWebGPU},
}

// Providers lists the names that [Provider] accepts. Whether one works depends on the library and the machine.
func Providers() []string {
	names := make([]string, len(providers))
	for i, p := range providers {
		names[i] = p.name
	}
	return names
}

// attach makes the session to be made from o run on p.
func (p Provider) attach(o *ort.SessionOptions) error {
	for _, known := range providers {
		if known.name != p.String() {
			continue
		}
		options := maps.Clone(known.defaults)
		if options == nil {
			options = map[string]string{}
		}
		maps.Copy(options, p.Options)
		if err := known.add(o, options); err != nil {
			return hint.Wrap(fmt.Errorf("provider %s: %w", p, tidy(err)),
				"use the cpu provider, or name a library that has %s with --onnxruntime or %s", p, LibraryEnv)
		}
		return nil
	}
	return hint.Wrap(fmt.Errorf("provider %s: unknown", p), "choose one of %s", strings.Join(Providers(), ", "))
}

func addCPU(_ *ort.SessionOptions, options map[string]string) error {
	for key := range options {
		return fmt.Errorf("has no option %q, nor any other", key)
	}
	return nil
}

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
