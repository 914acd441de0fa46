package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"regexp"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/internal/strictyaml"
	"distill/metrics"
)

// Suite is a comparison: one recipe, varied from row to row, each row trained from several seeds. It is the YAML file that
// `distill compare` takes.
type Suite struct {
	Output string     `yaml:"output"` // folder; seed 2 of row kd is the run OUTPUT/kd/seed2
	Recipe string     `yaml:"recipe"` // path of the recipe that all rows start from; "": the defaults
	Set    []string   `yaml:"set"`    // overrides of all rows, as in LoadRecipe
	Seeds  []uint64   `yaml:"seeds"`
	Rows   []SuiteRow `yaml:"rows"`
}

// SuiteRow is a variation of a suite's recipe.
type SuiteRow struct {
	Name    string   `yaml:"name"`    // of its folder and in the table
	Set     []string `yaml:"set"`     // overrides, which go before those of all rows
	Against []string `yaml:"against"` // the rows that it is compared with; empty: the first, or none for a row that others name
}

// rowName is what can be a folder's name anywhere.
var rowName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 +.,_-]*$`)

// LoadSuite reads a suite; the overrides, as in LoadRecipe, are of all rows and go before what the file says.
func LoadSuite(path string, overrides []string) (*Suite, error) {
	src, err := readUpTo(path, strictyaml.MaxSize)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("train: read suite: %w", err), "`distill compare --help` shows one")
	}
	s := &Suite{Output: "runs/compare", Seeds: []uint64{1, 2, 3}}
	if err := strictyaml.Decode(src, path, s, nil); err != nil {
		return nil, fmt.Errorf("train: suite: %w", err)
	}
	for i := range s.Rows {
		s.Rows[i].Set = slices.Concat(s.Set, s.Rows[i].Set, overrides)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("train: suite %s: %w", path, err)
	}
	return s, nil
}

func (s *Suite) check() error {
	switch {
	case s.Output == "":
		return errors.New("output must name a folder")
	case len(s.Seeds) == 0:
		return errors.New("seeds needs at least one seed")
	case len(s.Rows) == 0:
		return errors.New("rows needs at least one row")
	}
	for i, seed := range s.Seeds {
		if slices.Contains(s.Seeds[:i], seed) {
			return fmt.Errorf("seeds has %d twice", seed)
		}
	}
	for i, row := range s.Rows {
		if !rowName.MatchString(row.Name) {
			return fmt.Errorf("rows.%d: name %q must be letters, digits, spaces and +.,_- and begin with one of the first two", i, row.Name)
		}
		if s.find(row.Name) != i {
			return fmt.Errorf("rows.%d: there is a row %q before", i, row.Name)
		}
		for k, other := range row.Against {
			if s.find(other) < 0 || other == row.Name {
				return fmt.Errorf("rows.%d (%s): against names no other row: %q", i, row.Name, other)
			}
			if slices.Contains(row.Against[:k], other) {
				return fmt.Errorf("rows.%d (%s): against has %q twice", i, row.Name, other)
			}
		}
		if _, err := s.RecipeOf(row, s.Seeds[0]); err != nil {
			return fmt.Errorf("rows.%d (%s): %w", i, row.Name, err)
		}
	}
	return nil
}

// find is the index of the row of a name, -1 where there is none.
func (s *Suite) find(name string) int {
	return slices.IndexFunc(s.Rows, func(r SuiteRow) bool { return r.Name == name })
}

// against are the indices of the rows that another is compared with.
func (s *Suite) against(i int) (others []int) {
	row := s.Rows[i]
	for _, name := range row.Against {
		others = append(others, s.find(name))
	}
	names := func(r SuiteRow) bool { return slices.Contains(r.Against, row.Name) }
	if len(others) == 0 && i > 0 && !slices.ContainsFunc(s.Rows, names) {
		others = []int{0}
	}
	return others
}

// RecipeOf is what a row's run from a seed follows.
func (s *Suite) RecipeOf(row SuiteRow, seed uint64) (*Recipe, error) {
	r, err := LoadRecipe(s.Recipe, row.Set)
	if err != nil {
		return nil, err
	}
	r.Seed, r.Output = seed, filepath.Join(s.Output, row.Name, fmt.Sprintf("seed%d", seed))
	return r, nil
}

// Outcome is a finished run of a suite, which its folder keeps as outcome.json.
type Outcome struct {
	RecipeSHA256 string  `json:"recipe_sha256"` // of the identity of the recipe as it was asked for
	Seed         uint64  `json:"seed"`
	Images       [3]int  `json:"images"`    // how many train, val and test have
	Top1         float64 `json:"top1"`      // of the last weights on the test images
	BestTop1     float64 `json:"best_top1"` // of those best on val
	Seconds      float64 `json:"seconds"`   // of training, validation included
	// Correct has a byte for each test image, 1 where the last weights are right and 0 where not.
	Correct string `json:"correct"`
	// Diverged says what became NaN or infinite and when; then there are no other figures. Else it is empty.
	Diverged string `json:"diverged,omitempty"`
}

const outcomeFile = "outcome.json"

// Compare trains each row from each seed and tells done of each table that it comes to, the last one with all in it. Runs that
// are finished in the suite's folder are not trained again, and one that was interrupted goes on from its checkpoint. All rows
// see the first seed before any sees the second. A run whose loss is not finite counts as diverged and the next begins.
func Compare(ctx context.Context, s *Suite, opts Options, done func(*Comparison) error) error {
	outcomes := make([][]Outcome, len(s.Rows))
	for _, seed := range s.Seeds {
		for i, row := range s.Rows {
			r, err := s.RecipeOf(row, seed)
			if err != nil {
				return err
			}
			opts.Name = fmt.Sprintf("%s/%d", row.Name, seed)
			o, err := outcome(ctx, r, opts)
			if err != nil {
				return fmt.Errorf("train: row %s, seed %d: %w", row.Name, seed, err)
			}
			outcomes[i] = append(outcomes[i], *o)
			c, err := s.compare(outcomes)
			if err != nil {
				return err
			}
			if err := done(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// outcome is what a recipe's run comes to: read where it is finished, else trained for.
func outcome(ctx context.Context, r *Recipe, opts Options) (*Outcome, error) {
	_, sha, err := r.Identity()
	if err != nil {
		return nil, err
	}
	path := Folder(r.Output).path(outcomeFile)
	var o Outcome
	b, err := readUpTo(path, maxOutcome)
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	switch {
	case err == nil && o.RecipeSHA256 == sha:
		return &o, nil
	case err == nil:
		return nil, hint.Wrap(fmt.Errorf("%s is of another recipe", path), "choose another output, or remove the folder %s", r.Output)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, hint.Wrap(fmt.Errorf("read %s: %w", path, err), "remove it; the run beside it is measured again")
	}
	opts.Resume = true
	o = Outcome{RecipeSHA256: sha, Seed: r.Seed}
	m, _, _, err := execute(ctx, r, opts)
	if diverged, ok := errors.AsType[*NotFiniteError](err); ok {
		o.Diverged = diverged.Error()
	} else if err != nil {
		return nil, err
	} else {
		o.Images, o.Top1, o.BestTop1, o.Seconds, o.Correct = m.images, m.Top1, *m.BestTop1, m.seconds, digits(m.correct)
	}
	return &o, atomicfile.Write(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(o) })
}

// digits writes true as 1 and false as 0.
func digits(values []bool) string {
	b := make([]byte, len(values))
	for i, v := range values {
		b[i] = '0'
		if v {
			b[i] = '1'
		}
	}
	return string(b)
}

// maxOutcome is the size of the largest outcome that is read: one of as many test images, and a little more.
const maxOutcome = 16 << 20

// Comparison is what a suite came to, as far as it was run.
type Comparison struct {
	Images [3]int     `json:"images"` // how many train, val and test have
	Rows   []Compared `json:"rows"`
}

// Compared is a row of a comparison. Shares are 0..1; a row of which no run is done or one diverged has none.
type Compared struct {
	Name     string    `json:"name"`
	Runs     []Outcome `json:"runs"`
	Top1     *float64  `json:"top1"` // mean over seeds, of the last weights
	BestTop1 *float64  `json:"best_top1"`
	Gains    []Gain    `json:"gains"` // over the rows that it is compared with, where both have figures
}

// Gain is a difference in accuracy, mean over the seeds that both rows have, with 95 % intervals.
type Gain struct {
	Over string  `json:"over"`
	Mean float64 `json:"mean"`
	// Images is for what other test images would have shown of these very runs: Student's t of the differences image by image,
	// each the mean over the seeds. Nil with one image.
	Images *[2]float64 `json:"images"`
	// Seeds is for what other seeds would have shown on these very images: Student's t of the differences seed by seed. Nil
	// with one seed.
	Seeds *[2]float64 `json:"seeds"`
}

// compare makes the table of what is done: some seeds of each row, as many as that has.
func (s *Suite) compare(outcomes [][]Outcome) (*Comparison, error) {
	c := &Comparison{}
	for i, row := range s.Rows {
		runs := outcomes[i]
		out := Compared{Name: row.Name, Runs: runs, Gains: []Gain{}}
		if complete(runs) {
			var last, best []float64
			for _, o := range runs {
				last, best = append(last, o.Top1), append(best, o.BestTop1)
			}
			top1, _ := metrics.MeanStd(last)
			bestTop1, _ := metrics.MeanStd(best)
			out.Top1, out.BestTop1 = &top1, &bestTop1
			c.Images = runs[0].Images
		}
		for _, other := range s.against(i) {
			over := s.Rows[other].Name
			n := min(len(runs), len(outcomes[other]))
			if complete(runs) && complete(outcomes[other][:n]) {
				g, err := gain(runs[:n], outcomes[other][:n])
				if err != nil {
					return nil, fmt.Errorf("train: compare %s with %s: %w", row.Name, over, err)
				}
				g.Over = over
				out.Gains = append(out.Gains, g)
			}
		}
		c.Rows = append(c.Rows, out)
	}
	return c, nil
}

// complete reports whether there are runs and all of them have figures.
func complete(runs []Outcome) bool {
	return len(runs) > 0 && !slices.ContainsFunc(runs, func(o Outcome) bool { return o.Diverged != "" })
}

// gain compares runs with others of the same seeds.
func gain(runs, others []Outcome) (Gain, error) {
	images := make([]float64, len(runs[0].Correct)) // the mean difference of each
	seeds := make([]float64, len(runs))
	for k := range runs {
		a, b := runs[k].Correct, others[k].Correct
		if len(a) != len(images) || len(b) != len(images) || len(images) == 0 {
			return Gain{}, hint.Wrap(errors.New("they were measured on different test images"), "give both rows the same data")
		}
		for i := range images {
			d := float64(a[i]) - float64(b[i])
			images[i] += d / float64(len(seeds))
			seeds[k] += d / float64(len(images))
		}
	}
	mean, _ := metrics.MeanStd(images)
	return Gain{Mean: mean, Images: interval(images), Seeds: interval(seeds)}, nil
}

// interval is that of 95 % for the mean of what the values are drawn from, by Student's t; nil for a single value.
func interval(values []float64) *[2]float64 {
	if len(values) < 2 {
		return nil
	}
	n := float64(len(values))
	mean, std := metrics.MeanStd(values)
	half := distuv.StudentsT{Sigma: 1, Nu: n - 1}.Quantile(0.975) * std / math.Sqrt(n)
	return &[2]float64{mean - half, mean + half}
}
