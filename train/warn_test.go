package train

import (
	"strings"
	"testing"
)

func TestChoicesThatAreKnownToHurtAreWarnedOf(t *testing.T) {
	const layer, map3 = "student: layer3", "teacher: /layer3/layer3.8/Relu_1_output_0"
	for _, c := range []struct {
		name, losses, student string
		want                  string // how the only warning begins; "" for none
	}{
		{"the defaults", "[{loss: ce, weight: 0.1}, {loss: kd, weight: 0.9}]", "{arch: resnet8, width: 4}", ""},
		{"hot standardised logits", "[{loss: ce}, {loss: kd, standardize: true, temperature: 5}]", "{arch: resnet8, width: 4}",
			"losses.1 (kd): standardised logits have deviation 1"},
		{"no weight on logits", "[{loss: ce, weight: 0}, {loss: at}]", "{arch: resnet8, width: 4}", "losses.0 (ce): nothing trains the student's last layer"},
		{"a ReLU for what is below 0", "[{loss: ce}, {loss: fitnets, taps: [{student: layer3, teacher: /layer3/layer3.8/conv2/Conv_output_0}]}]",
			"{arch: resnet8, width: 4}", "losses.1 (fitnets): the adapter convreg ends in a ReLU"},
		{"a ReLU for a ReLU's result", "[{loss: ce}, {loss: fitnets, taps: [{" + layer + ", " + map3 + "}]}]", "{arch: resnet8, width: 4}", ""},
		{"tokens and maps without an adapter", "[{loss: ce}, {loss: sp, taps: [{student: block1, " + map3 + "}]}]",
			"{arch: vit_tiny4, width: 8, depth: 1, heads: 2}", "losses.1 (sp): features of a convolutional network and of a transformer"},
		{"tokens and maps through one", "[{loss: ce}, {loss: fitnets, taps: [{student: block1, " + map3 + ", adapter: map}]}]",
			"{arch: vit_tiny4, width: 8, depth: 1, heads: 2}", ""},
	} {
		r := recipe(t, "teacher.model="+resnet, "losses="+c.losses, "student="+c.student)
		got := open(t, r, Options{}).Warnings()
		if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want) || !strings.Contains(got[0], "arXiv:")) {
			t.Errorf("%s: it warns %q, want %q", c.name, got, c.want)
		}
	}
}
