package verify_test

import (
	"slices"
	"strings"
	"testing"

	"distill/losses"
	"distill/losses/verify"
	"distill/runtime/runtimetest"
)

func TestMain(m *testing.M) { runtimetest.Main(m) }

func goldens(t *testing.T) []verify.Case {
	t.Helper()
	cases, err := verify.Goldens()
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// crossEntropy is a golden with logits and labels.
func crossEntropy(t *testing.T) verify.Case {
	t.Helper()
	cases := goldens(t)
	i := slices.IndexFunc(cases, func(c verify.Case) bool { return c.Loss == "ce" && c.Variant == "default" })
	if i < 0 {
		t.Fatal("there is none of ce")
	}
	return cases[i]
}

func TestLossesEqualPyTorch(t *testing.T) {
	for _, c := range goldens(t) {
		t.Run(c.Loss+"/"+c.Variant+"/"+c.Case, func(t *testing.T) {
			r, err := verify.Run(c)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Pass {
				t.Error(r.Reason)
			}
		})
	}
}

func TestEveryLossHasAGoldenOfItsDefaults(t *testing.T) {
	cases := goldens(t)
	for _, row := range losses.Table {
		if !slices.ContainsFunc(cases, func(c verify.Case) bool { return c.Loss == row.Name && c.Variant == "default" }) {
			t.Errorf("%s has none", row.Name)
		}
	}
}

func TestWrongGoldenDoesNotPass(t *testing.T) {
	for what, spoil := range map[string]func(c *verify.Case){
		"value":                func(c *verify.Case) { c.Value += 1e-4 },
		"student":              func(c *verify.Case) { c.Gradients["student"][3] += 1e-4 },
		"elements of gradient": func(c *verify.Case) { c.Gradients["student"] = c.Gradients["student"][1:] },
		"params.none":          func(c *verify.Case) { c.Gradients["params.none"] = []float64{0} },
		"golden has none":      func(c *verify.Case) { delete(c.Gradients, "student") },
	} {
		c := crossEntropy(t)
		spoil(&c)
		if r, err := verify.Run(c); err != nil || r.Pass || r.Reason == "" {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

func TestCaseThatCannotRunIsNamed(t *testing.T) {
	for want, spoil := range map[string]func(c *verify.Case){
		`there is no loss "none"`:         func(c *verify.Case) { c.Loss = "none" },
		`unknown key "warmth"`:            func(c *verify.Case) { c.Settings = "warmth: 3" },
		"has no value of labels":          func(c *verify.Case) { c.Labels = nil },
		"does not read loss.ce.weight":    func(c *verify.Case) { c.Params = map[string]verify.Tensor{"weight": {}} },
		"student as 3 elements":           func(c *verify.Case) { c.Student.Data = c.Student.Data[:3] },
		"labels as 1 elements of shape":   func(c *verify.Case) { c.Labels = c.Labels[:1] },
		"label_smoothing must be in 0..1": func(c *verify.Case) { c.Settings = "label_smoothing: 2" },
	} {
		c := crossEntropy(t)
		spoil(&c)
		if _, err := verify.Run(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
