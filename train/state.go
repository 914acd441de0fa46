package train

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/train/checkpoint"
)

// State is what a checkpoint holds besides tensors: with the recipe, it is all that the rest of a run depends on.
type State struct {
	Recipe  string    `json:"recipe"` // the text of Recipe.Identity
	Classes []string  `json:"classes"`
	Image   image     `json:"image"`           // C, H, W of the student's input
	Images  [3]int    `json:"images"`          // how many train, val and test have
	Phase   int       `json:"phase"`           // from 0
	Step    int       `json:"step"`            // steps done in the phase
	Sums    []float64 `json:"sums"`            // of the loss and each term since the epoch began
	Count   int       `json:"count"`           // steps in Sums
	Scale   *Scale    `json:"scale,omitempty"` // of the loss, in float16
	Seconds float64   `json:"seconds"`
	History []Row     `json:"history"`           // of the epochs done
	Best    float64   `json:"best"`              // val_top1
	Choices []Choice  `json:"choices,omitempty"` // of teachers, where a policy picks them
	// TeacherSHA256 names the bytes of the teachers, in order, with spaces between them; empty without one.
	TeacherSHA256 string `json:"teacher_sha256"`
}

// begin is the start of a phase.
func (s *State) begin(r *Recipe, ph *Phase) {
	s.Step, s.Count, s.Scale, s.Choices = 0, 0, nil, nil
	s.Sums = make([]float64, 1+len(ph.Terms))
	if r.scales() {
		s.Scale = &Scale{Value: r.LossScale.Init}
	}
}

// Files of a run folder.
const (
	recipeFile  = "recipe.yaml"
	csvFile     = "metrics.csv"
	jsonlFile   = "metrics.jsonl"
	choicesFile = "choices.jsonl"
	lastFile    = "last.ckpt"
	bestFile    = "best.ckpt"
	studentFile = "student.onnx"
)

// Folder is a run's folder.
type Folder string

func (f Folder) path(name string) string { return filepath.Join(string(f), name) }

// Student is the path of the exported student.
func (f Folder) Student() string { return f.path(studentFile) }

// make creates the folder and finds out whether it can be written to.
func (f Folder) make() error {
	if err := os.MkdirAll(string(f), 0o777); err != nil {
		return hint.Wrap(fmt.Errorf("train: output folder: %w", err), "choose another with --output")
	}
	probe, err := os.CreateTemp(string(f), ".probe-*")
	if err != nil {
		return hint.Wrap(fmt.Errorf("train: output folder cannot be written to: %w", err), "choose another with --output")
	}
	probe.Close()
	return os.Remove(probe.Name())
}

// files are the names that a run writes in its folder.
var files = []string{recipeFile, csvFile, jsonlFile, choicesFile, lastFile, bestFile, studentFile}

// has reports whether the folder has a file.
func (f Folder) has(name string) bool {
	_, err := os.Lstat(f.path(name))
	return err == nil
}

// claim refuses a folder with files that the run would write over, unless they are to be: those of a run to go on with, or
// any where overwrite says so.
func (f Folder) claim(resume, overwrite bool) error {
	i := slices.IndexFunc(files, f.has)
	if i < 0 || overwrite || resume && f.has(recipeFile) {
		return nil
	}
	return hint.Wrap(fmt.Errorf("train: %s is there already", f.path(files[i])),
		"go on with that run by --resume, start anew with --overwrite, or choose another --output")
}

// clear takes away what an earlier run left, so that nothing of it can be taken for this one's.
func (f Folder) clear() error {
	for _, name := range files {
		if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("train: clear the output folder: %w", err)
		}
	}
	return f.sweep()
}

// sweep takes away the files that a killed process was writing.
func (f Folder) sweep() error {
	for _, name := range files {
		stale, err := filepath.Glob(atomicfile.Pattern(f.path(name)))
		for _, path := range stale {
			err = errors.Join(err, os.Remove(path))
		}
		if err != nil {
			return fmt.Errorf("train: clear the output folder: %w", err)
		}
	}
	return nil
}

// save writes a checkpoint; what it replaces stays whole until it is on disk.
func (f Folder) save(name string, s *graph.Store, state *State) error {
	if err := checkpoint.Save(f.path(name), s, state); err != nil {
		return hint.Wrap(fmt.Errorf("train: %w", err),
			"make room; if there is a checkpoint from before, it is whole: go on from it with --resume")
	}
	return nil
}

// Load reads the "last" or "best" checkpoint.
func (f Folder) Load(which string) (*graph.Store, *State, error) {
	name := map[string]string{"last": lastFile, "best": bestFile}[which]
	if name == "" {
		return nil, nil, fmt.Errorf("train: there is no checkpoint %q, only last and best", which)
	}
	var state State
	s, err := checkpoint.Load(f.path(name), &state)
	if err != nil {
		return nil, nil, hint.Wrap(fmt.Errorf("train: %w", err),
			"start anew with --overwrite, or export the other checkpoint: distill export %s --checkpoint last or best", f)
	}
	return s, &state, nil
}

// record writes the metrics of every epoch so far, if any, and what teachers were chosen; whole files, so that they always fit
// the checkpoint.
func (f Folder) record(s *State) error {
	rows := s.History
	if len(rows) == 0 {
		return nil
	}
	err := atomicfile.Write(f.path(csvFile), func(w io.Writer) error { return writeCSV(w, rows) })
	if err == nil {
		err = atomicfile.Write(f.path(jsonlFile), func(w io.Writer) error { return writeJSONL(w, rows) })
	}
	if err == nil && len(s.Choices) > 0 {
		err = atomicfile.Write(f.path(choicesFile), func(w io.Writer) error {
			enc := json.NewEncoder(w)
			for _, c := range s.Choices {
				if err := enc.Encode(c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("train: write metrics: %w", err)
	}
	return nil
}

func writeCSV(w io.Writer, rows []Row) error {
	c := csv.NewWriter(w)
	head := []string{"epoch", "step", "lr", "loss"}
	for _, t := range rows[0].Terms {
		head = append(head, t.Name)
	}
	head = append(head, "val_top1", "best", "img_per_s", "wait", "seconds")
	scaled := rows[0].LossScale > 0
	if scaled {
		head = append(head, "loss_scale", "skipped")
	}
	c.Write(head)
	num := func(v float64) string { return strconv.FormatFloat(v, 'g', 7, 64) }
	for _, r := range rows {
		line := []string{strconv.Itoa(r.Epoch), strconv.Itoa(r.Step), num(r.LR), num(r.Loss)}
		for _, t := range r.Terms {
			line = append(line, num(t.Value))
		}
		line = append(line, num(r.ValTop1), strconv.FormatBool(r.Best), num(r.Speed), num(r.Wait), num(r.Seconds))
		if scaled {
			line = append(line, num(r.LossScale), strconv.Itoa(r.Skipped))
		}
		c.Write(line)
	}
	c.Flush()
	return c.Error()
}

func writeJSONL(w io.Writer, rows []Row) error {
	enc := json.NewEncoder(w)
	for _, r := range rows {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		line := map[string]any{}
		if err := json.Unmarshal(b, &line); err != nil {
			return err
		}
		delete(line, "terms")
		for _, t := range r.Terms {
			line[t.Name] = t.Value
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// sameRecipe refuses to go on with a checkpoint of another recipe, naming the first line that differs.
func sameRecipe(path, saved, now string) error {
	if saved == now {
		return nil
	}
	a, b := strings.Split(saved, "\n"), strings.Split(now, "\n")
	var was, is string
	for i := range max(len(a), len(b)) {
		was, is = "", ""
		if i < len(a) {
			was = strings.TrimSpace(a[i])
		}
		if i < len(b) {
			is = strings.TrimSpace(b[i])
		}
		if was != is {
			break
		}
	}
	return hint.Wrap(fmt.Errorf("train: %s is of another recipe: it has %q where this one has %q", path, was, is),
		"resume with the recipe.yaml beside it, or start anew with another --output")
}
