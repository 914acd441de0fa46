package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distill/internal/safetensors"
	"distill/runtime/graph"
	"distill/runtime/runtimetest"
	"distill/student"
)

func TestMain(m *testing.M) { runtimetest.Main(m) }

func TestSpreadIsMedianQuartilesAndLeast(t *testing.T) {
	for _, c := range []struct {
		ms   []float64
		want spread
	}{
		{[]float64{7}, spread{7, 7, 7, 7}},
		{[]float64{4, 1, 3, 2, 5}, spread{1, 2, 3, 4}},
		{[]float64{40, 10, 20, 30}, spread{10, 17.5, 25, 32.5}},
	} {
		if got := spreadOf(c.ms); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.ms, got, c.want)
		}
	}
}

// Two runs of which the first warms up, out of order as ONNX Runtime's threads may write them.
const profileText = `[
{"cat":"Session","dur":9000,"name":"session_initialization","ts":1,"args":{}},
{"cat":"Node","dur":100,"name":"c1_kernel_time","ts":20000,"args":{"op_name":"Conv"}},
{"cat":"Session","dur":50000,"name":"model_run","ts":10000,"args":{}},
{"cat":"Session","dur":10000,"name":"model_run","ts":70000,"args":{}},
{"cat":"Node","dur":1000,"name":"r_kernel_time","ts":72000,"args":{"op_name":"Relu"}},
{"cat":"Node","dur":1,"name":"c1_fence_before","ts":70500,"args":{"op_name":"Conv"}},
{"cat":"Node","dur":4000,"name":"c1_kernel_time","ts":71000,"args":{"op_name":"Conv",
	"input_type_shape":[{"float":[2,3,8,8]},{"float":[4,3,3,3]}],"output_type_shape":[{"float":[2,4,8,8]}]}},
{"cat":"Node","dur":2000,"name":"c2_kernel_time","ts":75000,"args":{"op_name":"Conv",
	"input_type_shape":[{"float":[2,4,8,8]},{"float":[4,4,3,3]}],"output_type_shape":[{"float":[2,4,8,8]}]}}
]`

func TestProfileIsSummedByOperatorAndByNodeWithoutWarmUp(t *testing.T) {
	events, err := parseProfile([]byte(profileText))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by   func(event) string
		want []line
	}{
		{event.operator, []line{{"Conv", 2, 6}, {"Relu", 1, 1}}},
		{event.node, []line{
			{"Conv [2,3,8,8] [4,3,3,3] → [2,4,8,8]  c1", 1, 4}, {"Conv [2,4,8,8] [4,4,3,3] → [2,4,8,8]  c2", 1, 2}, {"Relu  →   r", 1, 1},
		}},
	} {
		s, err := summarize(events, 1, c.by)
		if err != nil || s.run != 10 || !slices.Equal(s.lines, c.want) {
			t.Errorf("got %+v, %v; want %v of 10 ms", s, err, c.want)
		}
	}
	if _, err := summarize(events, 2, event.operator); err == nil {
		t.Error("a profile of the warm-up alone is summed")
	}
	if _, err := parseProfile([]byte(`{"cat":`)); err == nil {
		t.Error("half a profile is read")
	}
}

func TestResultsHaveTheKeysThatReadersExpect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "results.json")
	if err := writeJSON(path, []row{{"wide", 1, 2, 0.5, 3, 4, 0.25}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"network": "wide", "ours_ms": 1.0, "pytorch_ms": 2.0, "ratio": 0.5, "ours_mb": 3.0, "pytorch_mb": 4.0, "peak_share": 0.25}
	if len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFurthestTensorIsFoundAndRoundingOfNothingIsNot(t *testing.T) {
	nan := float32(math.NaN())
	vector := func(v ...float32) graph.Tensor { return graph.Floats(v, len(v)) }
	b := map[string]graph.Tensor{"large": vector(3, 4), "small": vector(1, 0), "faint": vector(1e-6, 0)}
	for _, c := range []struct {
		change string
		to     graph.Tensor
		want   deviation
	}{
		{"large", vector(3, 4.5), deviation{"large", 0.1}},
		{"small", vector(1, 0.25), deviation{"small", 0.25}},
		{"faint", vector(2e-6, 0), deviation{"faint", 1e-6 / (faint * 5)}},
		{"small", vector(nan, 0), deviation{"small", math.Inf(1)}},
	} {
		a := map[string]graph.Tensor{"large": b["large"], "small": b["small"], "faint": b["faint"]}
		a[c.change] = c.to
		got := furthest(a, b)
		if got.tensor != c.want.tensor || got.difference != c.want.difference && math.Abs(got.difference-c.want.difference) > 1e-9 {
			t.Errorf("%s: got %v, want %v", c.change, got, c.want)
		}
	}
}

func TestTurnsFitIntoTheEpoch(t *testing.T) {
	for _, c := range []struct{ images, rounds, want int }{
		{30000, 5, 85},
		{64 * (2 + settle + 1), 1, 1},
		{64*(2+settle+1) - 1, 1, 0}, // refused
	} {
		got, err := turn(c.images, c.rounds)
		if got != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%d images, %d rounds: %d, %v; want %d", c.images, c.rounds, got, err, c.want)
		}
		if err == nil && 1+c.rounds*(settle+got) >= c.images/epochBatch {
			t.Errorf("%d images, %d rounds: the last step is timed", c.images, c.rounds)
		}
	}
}

func TestModulePathIsThatOfPyTorch(t *testing.T) {
	for node, want := range map[string]string{
		"/conv1/Conv":                    "conv1",
		"/layer1/layer1.0/conv2/Conv":    "layer1.0.conv2",
		"/layer1/layer1.0/body/conv/Add": "layer1.0.body.conv",
		"Gemm":                           "",
	} {
		if got := modulePath(node); got != want {
			t.Errorf("%s: %q, want %q", node, got, want)
		}
	}
}

func TestEpochGoesOnStepByStep(t *testing.T) {
	o := options{threads: 2, images: 640, folder: t.TempDir()}
	logits, err := o.teach(t.Context(), "../testdata/cifar10", "../"+epochModel)
	if err != nil {
		t.Fatal(err)
	}
	if !logits.Shape.Equal([]int{epochBatch, 10}) || norm(logits.F, nil) == 0 {
		t.Errorf("the teacher's logits have shape %v", logits.Shape)
	}
	weights, err := safetensors.ReadFile(filepath.Join(o.folder, "teacher.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conv1.weight", "conv1.bias", "layer3.8.conv2.weight", "linear.bias"} {
		if _, ok := weights.Tensors[name]; !ok || len(weights.Tensors) != 2*56 {
			t.Errorf("the peer does not get %s among 112 tensors", name)
		}
	}
	for _, w := range ways {
		var out bytes.Buffer
		commands := []string{
			"train 1 1", // nothing is open
			"open 640 2 " + o.folder + " " + string(w),
			"train 2 3",
			"train 1 9", // there are four steps more, but of forward passes
		}
		if err := serve(strings.NewReader(strings.Join(commands, "\n")), &out); err != nil {
			t.Fatal(err)
		}
		replies := strings.Split(strings.TrimSpace(out.String()), "\n")
		var ms, wait float64
		if _, err := fmt.Sscanf(replies[2], "ok %f %f", &ms, &wait); err != nil || ms <= 0 || wait < -1 || wait > ms {
			t.Errorf("%s: %s: not a time and a part of it (%v)", w, replies[2], err)
		}
		if ended := strings.HasPrefix(replies[3], "error "); !strings.HasPrefix(replies[0], "error ") || replies[1] != "ok" || ended == (w == raw) {
			t.Errorf("%s: got %q", w, replies)
		}
	}
	if _, err := openLoop("sideways", o.folder, 640, 2); err == nil {
		t.Error("a way that is not there is gone")
	}
}

func TestRatiosAreOfMediansAndTellTheRoundsApart(t *testing.T) {
	sides := []epochSide{{Side: "a", MS: 2, Rounds: []float64{1, 2, 4}}, {Side: "b", MS: 4, Rounds: []float64{4, 4, 5}}}
	if got, want := ratio(sides, [2]string{"a", "b"}), (epochRatio{"a", "b", 0.5, [2]float64{0.25, 0.8}}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, names := range compared {
		for _, name := range names {
			if !slices.Contains(ways, way(name)) && !slices.ContainsFunc(setups, func(s setup) bool { return s.side() == name }) {
				t.Errorf("%q is no side", name)
			}
		}
	}
}

func TestSweepTablesAndDrawsEverySetting(t *testing.T) {
	took := map[setting]float64{}
	for i, s := range settings() {
		took[s] = 10 + float64(i)
	}
	if want := len(sweepThreads) * (len(sweepBatches) + len(sweepDepths) - 1); len(took) != want {
		t.Errorf("%d settings, want %d", len(took), want)
	}
	table := sweepTable(took)
	if rows := strings.Count(table, "\n"); rows != 2+len(sweepBatches)+len(sweepDepths)-1 || strings.Contains(table, " 0.0 ") {
		t.Errorf("%d rows:\n%s", rows, table)
	}
	image := plot(sweepPanels(took))
	var root struct{}
	if err := xml.Unmarshal([]byte(image), &root); err != nil {
		t.Error(err)
	}
	points := len(sweepThreads) * (len(sweepBatches) + len(sweepDepths))
	if n := strings.Count(image, "<circle "); n != points || strings.Contains(image, "NaN") || strings.Contains(image, "Inf") {
		t.Errorf("%d points are drawn, want %d:\n%s", n, points, image)
	}
}

func TestTicksAreOneTwoFiveOfEachDecade(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		want      []float64
	}{
		{0.9, 12, []float64{1, 2, 5, 10}},
		{30, 400, []float64{50, 100, 200}},
	} {
		if got := ticks(c.low, c.high); !slices.Equal(got, c.want) {
			t.Errorf("%v to %v: %v, want %v", c.low, c.high, got, c.want)
		}
	}
}

func TestScaleIsLogarithmic(t *testing.T) {
	at := logScale(1, 100, 200, 0)
	for v, want := range map[float64]float64{1: 200, 10: 100, 100: 0} {
		if got := at(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v is at %v, want %v", v, got, want)
		}
	}
}

func TestMultiplyAddsLeaveOutTheGradientOfTheImages(t *testing.T) {
	// A dense layer [12→5] and one [5→10]: three products of each, less one of the first.
	n := network{name: "small", arch: &student.MLP{Hidden: []int{5}}, image: [3]int{3, 2, 2}, classes: 10, batch: 8}
	got, err := n.multiplyAdds(t.TempDir())
	if want := int64(8 * (2*12*5 + 3*5*10)); err != nil || got != want {
		t.Errorf("got %d, %v; want %d", got, err, want)
	}
}

func TestServerAnswersEachLineWithOne(t *testing.T) {
	folder := t.TempDir()
	first := filepath.Join(folder, "first")
	var out bytes.Buffer
	commands := []string{
		"step 1", // nothing is loaded
		"load nothing 4 1 1 " + folder + " contiguous",
		"load resnet-20 4 1 1 " + folder + " contiguous",
		"first " + first,
		"step 2",
		"memory",
	}
	if err := serve(strings.NewReader(strings.Join(commands, "\n")), &out); err != nil {
		t.Fatal(err)
	}
	replies := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(replies) != len(commands) {
		t.Fatalf("%d replies to %d commands:\n%s", len(replies), len(commands), out.String())
	}
	for i, r := range replies {
		if want := i < 2; strings.HasPrefix(r, "error ") != want {
			t.Errorf("%s: %s", commands[i], r)
		}
	}
	if n := len(strings.Fields(replies[4])); n != 3 {
		t.Errorf("step 2: %s: not two times", replies[4])
	}
	start, err := safetensors.ReadFile(networks[0].batchFile(folder))
	if err != nil {
		t.Fatal(err)
	}
	momenta, err := safetensors.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"images", "labels", "teacher_logits", "conv1.weight", "bn1.running_var"} {
		if _, ok := start.Tensors[name]; !ok {
			t.Errorf("the peer does not get %s", name)
		}
	}
	if m := momenta.Tensors["conv1.weight.momentum"]; m.Shape.Size() != 16*3*3*3 || norm(m.F, nil) == 0 {
		t.Errorf("the momentum of conv1.weight has shape %v", m.Shape)
	}
}
