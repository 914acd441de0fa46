package strictyaml

import (
	"bytes"
	"testing"
)

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"", "epochs: 1\noptimizer: {name: sgd, lr: 1e-3}\n", "losses:\n- kd\n- {loss: ce, weight: .5}\n", "name: \"\\x41\\u00e9\"\n",
		"name: |\n  x\n", "weights: {a: .inf, 'b': .nan}", "? a\n: b", "a: &x [*x]", "- - - a", "[[{", "%YAML 1.2\n---\n", "name: >-\n\n  x\n y",
	} {
		f.Add([]byte(s), "losses.0.weight=1")
	}
	f.Fuzz(func(t *testing.T, src []byte, o string) {
		r := defaults()
		if Decode(src, "r.yaml", &r, []string{o}) != nil {
			return
		}
		first, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		again := defaults()
		if err := Decode(first, "again.yaml", &again, nil); err != nil {
			t.Fatalf("%v in\n%s", err, first)
		}
		if second, _ := Encode(again); !bytes.Equal(first, second) {
			t.Fatalf("encoded\n%s\nthen\n%s", first, second)
		}
	})
}
