package losses_test

import (
	"strings"
	"testing"

	"distill/losses"
	"distill/losses/verify"
)

// logitRefused are settings that the losses on logits must refuse.
var logitRefused = map[string][]setting{
	"ce":   {{"label_smoothing", "-0.1"}, {"label_smoothing", "1.1"}, {"label_smoothing", ".nan"}, {"targets", "none"}},
	"kd":   {{"temperature", "0"}, {"temperature", "-1"}, {"temperature", ".nan"}, {"temperature", ".inf"}},
	"dkd":  {{"alpha", "-1"}, {"beta", ".nan"}, {"beta", ".inf"}, {"temperature", "0"}, {"warmup", "-1"}},
	"nkd":  {{"gamma", "-0.5"}, {"gamma", ".nan"}, {"temperature", "0"}, {"temperature", ".inf"}},
	"mlkd": {{"temperatures", "[]"}, {"temperatures", "[4, 0]"}, {"temperatures", "[.nan]"}},
	"dist": {{"beta", "-1"}, {"gamma", ".inf"}, {"temperature", "-1"}},
	"ctkd": {{"start", "0"}, {"span", "0"}, {"span", ".inf"}, {"warmup", "-1"}},
	"ofa":  {{"epsilon", "0"}, {"epsilon", ".nan"}, {"stage_weight", "-1"}, {"temperature", "0"}},
	"wkd_l": {{"gamma", "-1"}, {"temperature", "0"}, {"lambda", "0.01"}, {"lambda", ".nan"}, {"iterations", "0"}, {"iterations", "101"},
		{"kappa", "0"}, {"decay", "-1"}},
}

func TestLogitLossThatCannotBeIsRefusedWithTheReason(t *testing.T) {
	nothing := func(*verify.Case) {}
	for _, c := range []struct {
		loss string
		n, k int
		edit func(c *verify.Case)
		want string
	}{
		{"dkd", 4, 1, nothing, "loss dkd: it sets the label's class apart from the others, and there is only one"},
		{"nkd", 4, 1, nothing, "there is only one"},
		{"dist", 1, 5, nothing, "loss dist: it compares the samples of a batch, and there is only one; take a larger batch"},
		{"ofa", 4, 5, func(c *verify.Case) { c.Pairs[1].Student = waves(1, 0, 4, 6) }, "loss ofa of [[4,6] [4,5]]: a stage must come to"},
		{"ofa", 4, 5, func(c *verify.Case) { c.Pairs = nil }, "loss ofa: it compares inner tensors: name them"},
		{"wkd_l", 4, 5, func(c *verify.Case) { c.Classifier = nil }, "loss wkd_l: it needs the weight of the teacher's last layer"},
		{"wkd_l", 1, 5000, nothing, "loss wkd_l of [[5000,6]]: it takes 4096 classes at most"},
		{"wkd_l", 4, 5, func(c *verify.Case) { c.Classifier.Weight = waves(1, 0, 6, 6) }, "MatMul of [[4,5] [6,6]]"},
	} {
		row, _ := losses.Lookup(c.loss)
		in := inputs(t, row, c.n, c.k)
		c.edit(in)
		if _, err := in.Program(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.loss, err, c.want)
		}
	}
}
