package student_test

import (
	"encoding/json"
	"hash/fnv"
	"math"
	"os"
	"strings"
	"testing"

	"distill/runtime"
	"distill/runtime/graph"
	"distill/student"
)

// derived is the tensor of a name as testdata/goldens/imagenet.py defines it.
func derived(name string, s graph.Shape) graph.Tensor {
	hash := fnv.New32a()
	hash.Write([]byte(name))
	t := graph.NewTensor(graph.Float32, s...)
	for i := range t.F {
		h := hash.Sum32() + uint32(i)
		h ^= h >> 16
		h *= 2246822519
		h ^= h >> 13
		h *= 3266489917
		h ^= h >> 16
		v := float64(h)/(1<<31) - 1
		switch {
		case name == "input":
		case len(s) > 1:
			v *= math.Sqrt(6 / float64(s[1:].Size()))
		case strings.HasSuffix(name, "weight"), strings.HasSuffix(name, "running_var"):
			v = 1 + v/2
		default:
			v /= 10
		}
		t.F[i] = float32(v)
	}
	return t
}

// narrowVGG is vgg11, with batch norm or without, with an eighth of its channels and fewer hidden features: its 133 million
// weights would take a second to derive and half a gigabyte.
func narrowVGG(batchNorm bool) student.Arch {
	return changed("vgg11_bn", func(v *student.VGG) { v.BatchNorm, v.Width, v.Hidden = batchNorm, 0.125, 64 })
}

func TestFullSizeNetworksEqualTorchvisions(t *testing.T) {
	b, err := os.ReadFile("../testdata/goldens/imagenet.json")
	if err != nil {
		t.Fatal(err)
	}
	var goldens map[string]struct {
		Input      graph.Shape
		Parameters int
		Logits     []float64
	}
	if err := json.Unmarshal(b, &goldens); err != nil {
		t.Fatal(err)
	}
	students := map[string]student.Arch{
		"convnext_atto":      member("convnext_atto"),
		"efficientnet_b0":    member("efficientnet_b0"),
		"mobilenet_v2":       member("mobilenetv2"),
		"resnet18":           member("resnet18"),
		"resnet50":           member("resnet50"),
		"resnet18_small":     member("resnet18_cifar"),
		"shufflenet_v2_x0_5": member("shufflenetv2_x0_5"),
		"shufflenet_v2_x1_0": member("shufflenetv2"),
		"vgg11_narrow":       narrowVGG(false),
		"vgg11_bn_narrow":    narrowVGG(true),
		"vit_tiny_16":        member("vit_tiny16"),
	}
	if len(goldens) != len(students) {
		t.Fatalf("%d goldens for %d students", len(goldens), len(students))
	}
	for name, g := range goldens {
		t.Run(name, func(t *testing.T) {
			p, err := graph.Build(graph.Inference, func(b *graph.Graph) {
				b.Output("logits", students[name].Build(b, b.Input("input", graph.Float32, g.Input...), len(g.Logits)).Logits)
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := parameters(p); got != g.Parameters {
				t.Errorf("%d parameters, torchvision's has %d", got, g.Parameters)
			}
			store := &graph.Store{}
			for _, l := range p.Stored {
				store.Set(l.Name, l.Kind, derived(l.Name, l.Shape))
			}
			step, err := runtime.Compile(p, store, runtime.ONNXRuntime, runtime.Options{Threads: 1}, &graph.Target{})
			if err != nil {
				t.Fatal(err)
			}
			defer step.Close()
			out, err := step.Run(map[string]graph.Tensor{"input": derived("input", g.Input)})
			if err != nil {
				t.Fatal(err)
			}
			d := relative(out["logits"].F, g.Logits)
			t.Logf("logits are off by %.3g relative", d)
			if !(d <= 1e-5) {
				t.Errorf("logits are off by %.3g relative", d)
			}
		})
	}
}
