package losses_test

// logitRefused are settings that the losses on logits must refuse.
var logitRefused = map[string][]setting{
	"ce": {{"label_smoothing", "-0.1"}, {"label_smoothing", "1.1"}, {"label_smoothing", ".nan"}, {"targets", "none"}},
	"kd": {{"temperature", "0"}, {"temperature", "-1"}, {"temperature", ".nan"}, {"temperature", ".inf"}},
}
