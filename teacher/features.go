package teacher

import (
	"fmt"
	"slices"
)

// What Features finds.
const (
	Classified = "classified" // the input of the last dense layer
	Pooled     = "pooled"     // what the last pooling operator gives
	Logit      = "logits"     // the logits themselves
)

// mostPooled is how many elements a pooled tensor may have for an image: larger ones are maps.
const mostPooled = 8192

// poolings are the operators that give what is called pooled.
var poolings = []string{"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"}

// Features names the tensor of a teacher's last features: what its last dense layer classifies; where the file has no such layer
// that can be read, what its last pooling operator gives, if that is no more than 8,192 numbers; where there is none either, the logits. The kind says which. o are the
// options that the teacher was opened with.
func (t *Teacher) Features(o Options, threads int) (tensor, kind string, err error) {
	if c, err := t.Classifier(); err == nil {
		return c.Features, Classified, nil
	}
	tensors, err := t.tensors(o, threads)
	if err != nil {
		return "", "", fmt.Errorf("teacher: find the features of %s: %w", t.Path(), err)
	}
	for _, v := range slices.Backward(tensors) {
		if size := v.Shape.Size(); slices.Contains(poolings, v.Op) && size > 0 && size <= mostPooled {
			return v.Name, Pooled, nil
		}
	}
	return t.source, Logit, nil
}
