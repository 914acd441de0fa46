package losses

import "slices"

// Taps says which inner tensors a loss compares, for a recipe that does not name them.
type Taps int

// What a loss compares besides logits.
const (
	None   Taps = iota // logits alone
	Last               // the last map, [N,C,H,W]
	Stages             // the last map of each resolution
	Pooled             // the vector that the classifier reads, [N,D]
	Tokens             // the tokens of a transformer's last block, [N,L,D]
	Heads              // each stage of the student, classified by its adapter, and the teacher's logits [N,K]
)

// Row is a loss under the name a recipe gives it.
type Row struct {
	Name    string
	Doc     string  // a line of help
	Source  string  // the paper: authors, year, arXiv number or venue
	Weight  float32 // the published weight for the reduction that the loss has; a recipe's default
	Taps    Taps
	Adapter string      // default adapter of the student's tensors; "": none
	New     func() Loss // a pointer to the defaults
}

// Table lists the losses, family by family: a loss is a file and a row in its family's table.
var Table = slices.Concat(logitRows, featureRows, relationRows, ownRows)

// logitRows are the losses on logits and labels.
var logitRows = []Row{
	{Name: "ce", Doc: "cross-entropy with the labels, or with the teacher's probabilities", Source: "label smoothing: Szegedy et al. 2016, arXiv:1512.00567",
		Weight: 1, New: func() Loss { return &CE{Targets: "labels"} }},
	{Name: "kd", Doc: "softened divergence from the teacher (Hinton et al. 2015)", Source: "Hinton et al. 2015, arXiv:1503.02531",
		Weight: 1, New: func() Loss { return &KD{Temperature: 4} }},
}

// Lookup finds a loss by its name.
func Lookup(name string) (Row, bool) {
	i := slices.IndexFunc(Table, func(r Row) bool { return r.Name == name })
	if i < 0 {
		return Row{}, false
	}
	return Table[i], true
}
