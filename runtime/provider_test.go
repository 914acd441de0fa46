package runtime

import (
	"maps"
	"os"
	"strings"
	"testing"

	"distill/internal/hint"
)

func TestUnusableProviderIsNamedWithAWayOut(t *testing.T) {
	testInit(t)
	model, err := os.ReadFile("../models/mnist_cntk.onnx")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		provider    Provider
		cause, hint string
	}{
		{Provider{Name: "npu"}, `provider "npu" is unknown`, "cpu, cuda, webgpu"},
		{Provider{Name: "cuda"}, "provider cuda: ", "cpu provider"},
		{Provider{Options: map[string]string{"device_id": "1"}}, `provider cpu: there is no option "device_id"`, "no options"},
	} {
		s, err := NewSession(model, Options{Provider: c.provider})
		if err == nil {
			s.Close()
			if c.provider.Name == "cuda" {
				continue // a library and a machine that have it
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.cause) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%v: got %v, hint %q", c.provider, err, hint.Of(err))
		}
	}
}

func TestFirstProviderIsTheDefault(t *testing.T) {
	if got := (Provider{}).String(); got != "cpu" || Providers()[0] != "cpu" {
		t.Errorf("default %q of %v, want cpu", got, Providers())
	}
}

func TestProviderOptionsAreCheckedWithoutTheHardware(t *testing.T) {
	for _, c := range []struct{ provider, key, value, cause, hint string }{
		{"cuda", "device_id", "0", "", ""},
		{"cuda", "gpu_mem_limit", "8589934592", "", ""},
		{"cuda", "arena_extend_strategy", "kSameAsRequested", "", ""},
		{"cuda", "use_tf32", "1", "", ""},
		{"webgpu", "powerPreference", "low-power", "", ""},
		{"cuda", "device", "0", `there is no option "device"`, "did you mean device_id?"},
		{"cuda", "device_id", "-1", `option device_id is "-1", want a whole number`, ""},
		{"cuda", "gpu_mem_limit", "8GB", `option gpu_mem_limit is "8GB", want a whole number`, ""},
		{"cuda", "use_tf32", "true", `option use_tf32 is "true", want one of 0, 1`, ""},
		{"cuda", "arena_extend_strategy", "1", "want one of kNextPowerOfTwo, kSameAsRequested", ""},
		{"webgpu", "device_id", "0", `there is no option "device_id"`, "preferredLayout"}, // which ONNX Runtime would ignore
		{"webgpu", "preferredLayout", "nchw", "want one of NCHW, NHWC", ""},
		{"npu", "a", "b", `provider "npu" is unknown`, "cpu, cuda, webgpu"},
	} {
		err := Provider{Name: c.provider, Options: map[string]string{c.key: c.value}}.Validate()
		if c.cause == "" && err == nil {
			continue
		}
		if c.cause == "" || err == nil || !strings.Contains(err.Error(), c.cause) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%s: %s=%s: error %v, hint %q", c.provider, c.key, c.value, err, hint.Of(err))
		}
	}
}

func TestDefaultsOfAProviderGiveWayToWhatIsSet(t *testing.T) {
	for _, c := range []struct {
		provider  string
		set, want map[string]string
	}{
		{"cpu", nil, map[string]string{}},
		{"cuda", nil, map[string]string{"use_tf32": "0"}},
		{"cuda", map[string]string{"device_id": "1"}, map[string]string{"use_tf32": "0", "device_id": "1"}},
		{"cuda", map[string]string{"use_tf32": "1"}, map[string]string{"use_tf32": "1"}},
		{"webgpu", nil, map[string]string{"preferredLayout": "NCHW"}},
		{"webgpu", map[string]string{"preferredLayout": "NHWC"}, map[string]string{"preferredLayout": "NHWC"}},
	} {
		row, err := Provider{Name: c.provider}.row()
		if err != nil {
			t.Fatal(err)
		}
		if got := row.resolve(c.set); !maps.Equal(got, c.want) {
			t.Errorf("%s with %v: ONNX Runtime gets %v, want %v", c.provider, c.set, got, c.want)
		}
	}
}

func TestEveryProviderHasAThreshold(t *testing.T) {
	cpu := Provider{}.Parity()
	for _, name := range Providers() {
		if p := (Provider{Name: name}).Parity(); !(p >= cpu && p < 0.01) {
			t.Errorf("%s: parity %v", name, p)
		}
	}
	if p := (Provider{Name: "npu"}).Parity(); p != 0 {
		t.Errorf("an unknown provider has parity %v: all would pass", p)
	}
}
