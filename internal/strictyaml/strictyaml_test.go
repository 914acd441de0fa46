package strictyaml

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"distill/internal/hint"
)

func decoded(t *testing.T, src string, overrides ...string) recipe {
	t.Helper()
	r := defaults()
	if err := Decode([]byte(src), "r.yaml", &r, overrides); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEmptyDocumentKeepsDefaults(t *testing.T) {
	for _, src := range []string{"", "# nothing\n", "---\n", "{}", "optimizer:\n  # lr: 1\n"} {
		if got := decoded(t, src); !reflect.DeepEqual(got, defaults()) {
			t.Errorf("%q: got %+v", src, got)
		}
	}
}

func TestWhatIsWrittenReplacesTheDefault(t *testing.T) {
	clip := 1e-3
	for _, c := range []struct {
		src  string
		want func(*recipe)
	}{
		{"epochs: 0", func(r *recipe) { r.Epochs = 0 }},
		{"shuffle: false", func(r *recipe) { r.Shuffle = false }},
		{"seed: 18446744073709551615", func(r *recipe) { r.Seed = math.MaxUint64 }},
		{"tiny: -128", func(r *recipe) { r.Tiny = -128 }},
		{"ratio: 1e-3", func(r *recipe) { r.Ratio = 1e-3 }},
		{"ratio: 5", func(r *recipe) { r.Ratio = 5 }},
		{"ratio: -.inf", func(r *recipe) { r.Ratio = float32(math.Inf(-1)) }},
		{"clip: +1E-3 # a comment", func(r *recipe) { r.Clip = &clip }},
		{"clip: null", func(r *recipe) { r.Clip = nil }},
		{"name: '5'", func(r *recipe) { r.Name = "5" }},
		{"name: cifar10:testdata/cifar10", func(r *recipe) { r.Name = "cifar10:testdata/cifar10" }},
		{"name: |\n  two\n  lines\n", func(r *recipe) { r.Name = "two\nlines\n" }},
		{"mean: [1, 2e0]", func(r *recipe) { r.Mean = []float64{1, 2} }},
		{"mean: []", func(r *recipe) { r.Mean = nil }},
		{"grid: [[1, 2], [3]]", func(r *recipe) { r.Grid = [][]int{{1, 2}, {3}} }},
		{"size: [24, 48]", func(r *recipe) { r.Size = [2]int{24, 48} }},
		{"weights: {a: 1, \"b c\": 0.5, 0: 2}", func(r *recipe) { r.Weights = map[string]float64{"a": 1, "b c": 0.5, "0": 2} }},
		{"threads: 2", func(r *recipe) { r.Common.Threads = 2 }},
		{"adapter: {from: layer1}", func(r *recipe) { r.Adapter = &adapter{"layer1", "feat"} }},
	} {
		want := defaults()
		c.want(&want)
		if got := decoded(t, c.src); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", c.src, got, want)
		}
	}
}

func TestChoiceByName(t *testing.T) {
	for _, c := range []struct {
		src  string
		want optimizer
	}{
		{"optimizer: {lr: 0.5}", optimizer{"sgd", sgd{0.5, 0.9}, 5}},
		{"optimizer: {name: sgd}", optimizer{"sgd", sgd{0.2, 0.9}, 5}},
		{"optimizer: {momentum: 0, name: sgd}", optimizer{"sgd", sgd{0.2, 0}, 5}},
		{"optimizer: adamw", optimizer{"adamw", &adamw{1e-3, [2]float64{0.9, 0.999}}, 5}},
		{"optimizer: {name: adamw, betas: [0, 1], clip: 0}", optimizer{"adamw", &adamw{1e-3, [2]float64{0, 1}}, 0}},
	} {
		if got := decoded(t, c.src).Optimizer; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %+v, want %+v", c.src, got, c.want)
		}
	}
	bare := optimizer{Name: "sgd"} // a name that nothing was put under yet
	if err := Decode([]byte("name: sgd"), "r.yaml", &bare, nil); err != nil || bare.Method != any(sgd{0.1, 0.9}) {
		t.Errorf("got %+v, %v", bare, err)
	}
	got := decoded(t, "losses:\n- kd\n- {loss: kd, temperature: 2, weight: 0.9}\n- loss: ce\n  weight: 0\n").Losses
	if want := []term{{"kd", kd{4}, 1}, {"kd", kd{2}, 0.9}, {"ce", ce{}, 0}}; !reflect.DeepEqual(got, want) {
		t.Errorf("losses are %+v, want %+v", got, want)
	}
}

func TestDecodingLeavesSharedDefaultsAlone(t *testing.T) {
	clip := 1.0
	shared := &adamw{LR: 1}
	r := recipe{Clip: &clip, Optimizer: optimizer{"adamw", shared, 0}}
	if err := Decode([]byte("clip: 2\noptimizer: {lr: 2}"), "r.yaml", &r, nil); err != nil {
		t.Fatal(err)
	}
	if clip != 1 || shared.LR != 1 || *r.Clip != 2 || r.Optimizer.Method.(*adamw).LR != 2 {
		t.Errorf("defaults became %v and %v", clip, shared.LR)
	}
}

func TestOverridesReachEveryPlace(t *testing.T) {
	const src = "epochs: 3\noptimizer: sgd\nlosses:\n- ce\n- {loss: kd, weight: 0.5}\n"
	for _, c := range []struct {
		override string
		want     func(*recipe)
	}{
		{"epochs=7", func(r *recipe) { r.Epochs = 7 }},
		{"name=a=b", func(r *recipe) { r.Name = "a=b" }},
		{`name=""`, func(r *recipe) { r.Name = "" }},
		{"optimizer.lr=1e-2", func(r *recipe) { r.Optimizer.Method = sgd{1e-2, 0.9} }},
		{"optimizer={name: adamw, lr: 1}", func(r *recipe) { r.Optimizer.Name = "adamw"; r.Optimizer.Method = &adamw{1, [2]float64{0.9, 0.999}} }},
		{"optimizer.name=adamw", func(r *recipe) {
			r.Optimizer.Name = "adamw"
			r.Optimizer.Method = &adamw{1e-3, [2]float64{0.9, 0.999}}
		}},
		{"losses.1.weight=0.25", func(r *recipe) { r.Losses[1].Weight = 0.25 }},
		{"losses.0.weight=3", func(r *recipe) { r.Losses[0].Weight = 3 }},
		{"losses.0=kd", func(r *recipe) { r.Losses[0] = term{"kd", kd{4}, 1} }},
		{"losses=[]", func(r *recipe) { r.Losses = nil }},
		{"mean.0=2", func(r *recipe) { r.Mean = []float64{2} }}, // the list is a default, not in the document
		{"adapter.from=x", func(r *recipe) { r.Adapter = &adapter{"x", "feat"} }},
		{"weights.a=1", func(r *recipe) { r.Weights = map[string]float64{"a": 1} }},
	} {
		want := decoded(t, src)
		c.want(&want)
		if got := decoded(t, src, c.override); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", c.override, got, want)
		}
	}
	if r := decoded(t, "", "epochs=1", "epochs=2"); r.Epochs != 2 {
		t.Errorf("of two overrides of one key, the first won")
	}
}

func TestRefusedInputNamesPlaceCauseAndWayOut(t *testing.T) {
	for _, c := range []struct {
		src, override, err, hint string
	}{
		{"epochs: 1\nepoch: 2", "", `r.yaml:2:1: unknown key "epoch"`, `did you mean "epochs"?`},
		{"losses:\n  - loss: kd\n    temprature: 2", "", `r.yaml:3:5: unknown key "temprature" in losses.0 (loss: kd)`, `did you mean "temperature"?`},
		{"optimizer: {betas: [0, 0]}", "", `r.yaml:1:13: unknown key "betas" in optimizer (name: sgd)`, "known keys: lr, momentum, clip"},
		{"optimizer:\n  name: sdg", "", `r.yaml:2:9: optimizer.name: unknown name "sdg" (known names: adamw, sgd)`, `did you mean "sgd"?`},
		{"optimizer: 5", "", `r.yaml:1:12: optimizer.name: expected text, got 5`, `put it in quotes: "5"`},
		{"optimizer: [sgd]", "", "r.yaml:1:12: optimizer: expected a section of keys, got a list of 1", ""},
		{"losses: [{weight: 1}]", "", `r.yaml:1:11: losses.0: the key "loss", which says what this is, is missing`, "known names: ce, kd"},
		{"optimizer:\n  lr: 0", "", "r.yaml:2:3: optimizer: lr must be positive", "0.1 is usual"},
		{"epochs: ten", "", `r.yaml:1:9: epochs: expected a whole number, got the text "ten"`, ""},
		{"epochs: '1'", "", `r.yaml:1:9: epochs: expected a whole number, got the text "1"`, ""},
		{"epochs: 1.0", "", "r.yaml:1:9: epochs: expected a whole number, got 1.0", ""},
		{"epochs: 0x10", "", `r.yaml:1:9: epochs: expected a whole number, got the text "0x10"`, ""},
		{"epochs:", "", "r.yaml:1:1: epochs: expected a whole number, got nothing", ""},
		{"epochs: 9223372036854775808", "", "r.yaml:1:9: epochs: 9223372036854775808 is out of range for int", ""},
		{"tiny: 128", "", "r.yaml:1:7: tiny: 128 is out of range for int8", ""},
		{"seed: -1", "", "r.yaml:1:7: seed: expected a whole number, not negative, got -1", ""},
		{"ratio: 1e39", "", "r.yaml:1:8: ratio: 1e39 is out of range for float32", ""},
		{"ratio: nan", "", `r.yaml:1:8: ratio: expected a number, got the text "nan"`, ""},
		{"ratio: Infinity", "", `r.yaml:1:8: ratio: expected a number, got the text "Infinity"`, ""},
		{"ratio: {a: 1}", "", "r.yaml:1:9: ratio: expected a number, got a section", ""},
		{"shuffle: yes", "", `r.yaml:1:10: shuffle: expected true or false, got the text "yes"`, ""},
		{"name: 5", "", "r.yaml:1:7: name: expected text, got 5", `put it in quotes: "5"`},
		{"mean: 5", "", "r.yaml:1:7: mean: expected a list, got 5", "write a list as [a, b], an empty one as []"},
		{"mean: [1, x]", "", `r.yaml:1:11: mean.1: expected a number, got the text "x"`, ""},
		{"size: [1]", "", "r.yaml:1:7: size: expected a list of 2, got a list of 1", ""},
		{"weights: 5", "", "r.yaml:1:10: weights: expected keys and values, got 5", "write an empty section as {}"},
		{"a: 1\nb: 2\n\"a\": 3", "", `r.yaml:3:1: duplicate key "a"`, "it is first written at line 1"},
		{"- 1", "", "r.yaml:1:1: expected a section of keys, got a list of 1", ""},
		{"epochs: &x 1", "", "r.yaml:1:9: anchors and aliases are not supported", ""},
		{"epochs: *x", "", "r.yaml:1:9: anchors and aliases are not supported", ""},
		{"<<: {epochs: 1}", "", `r.yaml:1:1: merge keys and keys after "?" are not supported`, ""},
		{"epochs: !!int 1", "", "r.yaml:1:9: tags and directives are not supported", ""},
		{"epochs: 1\n---\nepochs: 2", "", "r.yaml:3:7: a second document; only one is read", ""},
		{"mean: [1,", "", "r.yaml:1:7: sequence end token ']' not found", ""},
		{"\x89PNG\r\n", "", "r.yaml:1:1: byte 0 is not UTF-8 text", "is this a YAML file?"},
		{"name: é\nname: \xff", "", "r.yaml:2:7: byte 15 is not UTF-8 text", "is this a YAML file?"},
		{"grid: " + strings.Repeat("[", 60_000), "", "r.yaml:1:39: nested deeper than 32", ""},
		{strings.Repeat("- ", 30_000), "", "r.yaml:1:65: nested deeper than 32", ""},
		{strings.Repeat("#", MaxSize+1), "", "r.yaml: 65537 bytes are more than the 65536 a document may have", ""},
		{"", "epoch=1", `override "epoch=1": unknown key "epoch"`, `did you mean "epochs"?`},
		{"", "epochs=x", `override "epochs=x": epochs: expected a whole number, got the text "x"`, ""},
		{"", "epochs", `override "epochs": no key and value`, "write key.path=value, as optimizer.lr=0.05"},
		{"", "epochs=[", `override "epochs=[": sequence end token ']' not found`, ""},
		{"", "optimizer.lr=0", `optimizer: lr must be positive`, "0.1 is usual"},
		{"losses: [ce]", "losses.1.weight=1", `override "losses.1.weight=1": losses: the list has no item "1"`, "write an index from 0 to 0"},
		{"losses: []", "losses.0.weight=1", `override "losses.0.weight=1": losses: the list is empty, it has no item "0"`, ""},
		{"epochs: 1", "epochs.x=1", `override "epochs.x=1": epochs: expected a whole number, got 1`, ""},
		{"", strings.Repeat("a.", 40) + "b=1", "nested deeper than 32", ""},
	} {
		r := defaults()
		var overrides []string
		if c.override != "" {
			overrides = []string{c.override}
		}
		err := Decode([]byte(c.src), "r.yaml", &r, overrides)
		name := strconv.Quote(clip(c.src + c.override))
		if err == nil {
			t.Errorf("%s: no error, want %s", name, c.err)
			continue
		}
		if !strings.HasSuffix(err.Error(), c.err) {
			t.Errorf("%s: error\n%v, want\n%s", name, err, c.err)
		}
		if got := hint.Of(err); got != c.hint {
			t.Errorf("%s: hint %q, want %q", name, got, c.hint)
		}
	}
}

func TestEncodedRecipeIsWholeAndDecodesToItself(t *testing.T) {
	clip := 0.1
	r := defaults()
	r.Name = "yes: \"ünï\" \x01\n# no comment"
	r.Ratio, r.Clip = 0.1, &clip
	r.Grid = [][]int{{1, 2}, {}}
	r.Grid[1] = nil
	r.Weights = map[string]float64{"b": math.Inf(1), "a: b": 1e-7, "": 3, "null": 1e21}
	r.Losses = append(r.Losses, term{"kd", kd{2}, 0.9})
	got, err := Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `name: "yes: \"ünï\" \x01\n# no comment"
epochs: 10
seed: 1
tiny: 0
ratio: 0.1
shuffle: true
size: [32, 32]
mean: [0.5]
grid: [[1, 2], []]
weights:
  "": 3
  "a: b": 1e-07
  b: .inf
  "null": 1e+21
clip: 0.1
threads: 0
optimizer:
  name: sgd
  clip: 5
  lr: 0.2
  momentum: 0.9
losses:
  - loss: ce
    weight: 1
  - loss: kd
    weight: 0.9
    temperature: 2
adapter: null
`
	if string(got) != want {
		t.Errorf("encoded\n%s\nwant\n%s", got, want)
	}
	var again recipe
	if err := Decode(got, "r.yaml", &again, nil); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, r) {
		t.Errorf("decoded %+v, want %+v", again, r)
	}
}

func TestChoiceNeverMadeIsLeftOut(t *testing.T) {
	got, err := Encode(&struct {
		A int       `yaml:"a"`
		O optimizer `yaml:"o"`
	}{A: 1})
	if string(got) != "a: 1\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Encode(recipe{Losses: make([]term, 1)}); err == nil || !strings.Contains(err.Error(), "losses: 0: a choice was not made") {
		t.Errorf("error %v for a list with an empty choice", err)
	}
}

func TestSliceThatMayBeLeftOutIsWrittenOnlyWhenFull(t *testing.T) {
	type section struct {
		A []int `yaml:"a,omitempty"`
		B []int `yaml:"b"`
	}
	for want, s := range map[string]section{"b: []\n": {}, "a: [1]\nb: [2]\n": {[]int{1}, []int{2}}} {
		got, err := Encode(&s)
		if string(got) != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		var again section
		if err := Decode(got, "r.yaml", &again, nil); err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("decoded %+v, %v; want %+v", again, err, s)
		}
	}
	if _, err := Encode(&struct {
		A int `yaml:"a,omitempty"`
	}{}); err == nil {
		t.Error("a number may be left out")
	}
}

func TestOneStringIsAListOfStrings(t *testing.T) {
	type section struct {
		A []string `yaml:"a"`
		B []int    `yaml:"b"`
	}
	for src, want := range map[string][]string{"a: x": {"x"}, "a: [x, y]": {"x", "y"}, "a: ''": {""}, "a: []": nil} {
		var got section
		if err := Decode([]byte(src), "r.yaml", &got, nil); err != nil || !slices.Equal(got.A, want) {
			t.Errorf("%s: got %q, %v; want %q", src, got.A, err, want)
		}
	}
	for _, src := range []string{"a: 1", "a:", "a: {x: y}", "b: 1"} {
		if err := Decode([]byte(src), "r.yaml", &section{}, nil); err == nil {
			t.Errorf("%s is a list", src)
		}
	}
}

func TestTypesWithoutYAMLFormAreErrors(t *testing.T) {
	for name, v := range map[string]any{
		"channel": &struct {
			A chan int `yaml:"a"`
		}{},
		"int keys": &struct {
			A map[int]int `yaml:"a"`
		}{},
		"not exported": &struct {
			a int `yaml:"a"`
		}{},
		"odd option": &struct {
			A int `yaml:"a,omitempty"`
		}{},
		"no key": &struct {
			A int `yaml:""`
		}{},
		"choice alone": &struct {
			A string `yaml:"a,choice"`
		}{},
		"interface alone": &struct {
			A any `yaml:",inline"`
		}{},
		"key twice": &struct {
			A int `yaml:"a"`
			B int `yaml:"a"`
		}{},
		"not a Chooser": &struct {
			A string `yaml:"a,choice"`
			B any    `yaml:",inline"`
		}{A: "x", B: sgd{}},
	} {
		if err := Decode([]byte("a: {}"), "r.yaml", v, nil); err == nil || !strings.HasPrefix(err.Error(), "strictyaml: ") {
			t.Errorf("%s: decoding gave %v", name, err)
		}
	}
	for _, dst := range []any{nil, recipe{}, (*recipe)(nil), new(int)} {
		if err := Decode(nil, "r.yaml", dst, nil); err == nil {
			t.Errorf("decoding into %T gave no error", dst)
		}
	}
	for _, v := range []any{nil, 5, recipe{Name: "\xff"}, recipe{Weights: map[string]float64{"\xff": 1}}} {
		if _, err := Encode(v); err == nil {
			t.Errorf("encoding %+v gave no error", v)
		}
	}
}
