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

	// Relational: the loss of a batch is not the mean of its parts' losses, so that a batch must not be taken in parts.
	Relational bool
}

// Table lists the losses, family by family: a loss is a file and a row in its family's table.
var Table = slices.Concat(logitRows, featureRows, headRows, relationRows, ownRows)

// Lookup finds a loss by its name.
func Lookup(name string) (Row, bool) {
	i := slices.IndexFunc(Table, func(r Row) bool { return r.Name == name })
	if i < 0 {
		return Row{}, false
	}
	return Table[i], true
}
