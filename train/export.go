package train

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"distill/data"
	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/metrics"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// parityImages is how many real images the exported file is compared on.
const parityImages = 512

// Parity is how far the exported file's logits are from the trainer's.
type Parity struct {
	Images  int     `json:"images"`
	MaxDiff float64 `json:"max_diff"` // of a logit
	Limit   float64 `json:"limit"`    // what MaxDiff must not exceed
	Flipped int     `json:"flipped"`  // images whose top-1 differs beyond a tie within the limit
}

// ParityError is an export that does not compute what was trained. No file is left.
type ParityError struct{ Parity }

func (e *ParityError) Error() string {
	return fmt.Sprintf("train: export: the file's logits differ from the trainer's by up to %.3g on %d images, the limit is %.3g; %d labels change",
		e.MaxDiff, e.Images, e.Limit, e.Flipped)
}

// ExitCode is the process's exit status for this error.
func (e *ParityError) ExitCode() int { return 3 }

// parity compares logits [n,k] of the file with the trainer's. The tolerance bounds the difference of a logit, relative to the
// largest one where that is above 1.
func parity(file, trainer []float32, k int, tolerance float64) (Parity, error) {
	p := Parity{Images: len(trainer) / k}
	largest := 1.0
	for i, z := range trainer {
		largest = math.Max(largest, math.Abs(float64(z)))
		d := math.Abs(float64(file[i] - z))
		if math.IsNaN(d) { // a logit that is not finite agrees with none
			d = math.Inf(1)
		}
		p.MaxDiff = math.Max(p.MaxDiff, d)
	}
	p.Limit = tolerance * largest
	a, b := metrics.Predictions(file, k), metrics.Predictions(trainer, k)
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		if row := trainer[i*k : (i+1)*k]; float64(row[b[i]]-row[a[i]]) > p.Limit {
			p.Flipped++
		}
	}
	if !(p.MaxDiff <= p.Limit) || math.IsInf(p.MaxDiff, 1) || p.Flipped > 0 {
		return p, hint.Wrap(&ParityError{p},
			"nothing was written. Folding batch norm costs digits where channels hardly vary, as in a network hardly trained: train longer; "+
				"else try another ONNX Runtime (--onnxruntime), and report it")
	}
	return p, nil
}

// Export writes the student of the store as an ONNX file: for inference, batch norm folded, opset 17, any batch size,
// operators of the default domain alone, with a data.Card. The file is written only if ONNX Runtime computes from its bytes
// what the trainer computes, on up to 512 images of val, on the CPU and, where the run has another, on the run's provider,
// whose threshold then holds; else the error is a *ParityError.
func (run *Run) Export(path string) (Parity, error) {
	m, err := run.model(2)
	if err != nil {
		return Parity{}, fmt.Errorf("train: export: %w", err)
	}
	b, err := m.Marshal()
	if err != nil {
		return Parity{}, fmt.Errorf("train: export: %w", err)
	}
	p, err := run.verify(b)
	if err != nil {
		return p, err
	}
	err = atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("train: export: %w", err)
	}
	return p, nil
}

// model lowers the student for inference; the batch it is built at leaves no trace.
func (run *Run) model(batch int) (*onnx.Model, error) {
	p, err := run.Recipe.inference(run.State.Image, len(run.State.Classes), batch, lend(run.Teacher))
	if err != nil {
		return nil, err
	}
	m, err := onnx.Lower(p, onnx.Lowering{Store: run.Store, Batch: "batch"})
	if err != nil {
		return nil, err
	}
	if m, err = m.Only(logitsOutput); err != nil { // a loss that is deployed leaves out the student's own classifier
		return nil, err
	}
	if _, err := m.FoldBatchNorm(); err != nil {
		return nil, err
	}
	sha := sha256.Sum256([]byte(run.State.Recipe)) // that which trained it: a reopened run's data may have moved
	card := data.Card{
		Preprocess: run.Recipe.Preprocess, Classes: run.State.Classes,
		RecipeSHA256: hex.EncodeToString(sha[:]), TeacherSHA256: run.State.TeacherSHA256,
	}
	meta := card.Metadata()
	for _, key := range slices.Sorted(maps.Keys(meta)) { // the same run makes the same bytes
		m.SetMetadata(key, meta[key])
	}
	return m, nil
}

// verify runs the file's bytes beside the trainer's own network, and returns how far they are apart where it is most.
func (run *Run) verify(file []byte) (Parity, error) {
	val := data.First(run.Splits.Val, parityImages)
	_, trainer, err := run.Evaluate(val)
	if err != nil {
		return Parity{}, fmt.Errorf("train: export: %w", err)
	}
	places := []runtime.Provider{{}}
	if own := run.Recipe.provider(); own.String() != places[0].String() {
		places = append(places, own)
	}
	var worst Parity
	for _, place := range places {
		logits, err := run.logits(file, val, place)
		if err != nil {
			return Parity{}, fmt.Errorf("train: export: %w", err)
		}
		if len(logits) != len(trainer) {
			return Parity{}, fmt.Errorf("train: export: the file gives %d logits, the trainer %d", len(logits), len(trainer))
		}
		p, err := parity(logits, trainer, len(run.State.Classes), run.Recipe.provider().Parity())
		if err != nil {
			return p, err
		}
		if worst.Images == 0 || p.MaxDiff > worst.MaxDiff {
			worst = p
		}
	}
	return worst, nil
}

// logits are what the file's bytes give for images, [len,K].
func (run *Run) logits(file []byte, images data.Source, place runtime.Provider) ([]float32, error) {
	session, err := runtime.NewSession(file, runtime.Options{Threads: run.Threads.Student, Provider: place})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	l := &data.Loader{Source: images, Batch: run.Recipe.Batch}
	var batch data.Batch
	var logits []float32
	for i := range l.Steps() {
		if err := l.Fill(&batch, 0, i); err != nil {
			return nil, err
		}
		shape := run.Recipe.Preprocess.OutShape(batch.Shape)
		x := graph.NewTensor(graph.Float32, shape[:]...)
		run.Recipe.Preprocess.Apply(x.F, batch.X, batch.Shape)
		out, err := session.Run(map[string]graph.Tensor{imagesInput: x})
		if err != nil {
			return nil, err
		}
		logits = append(logits, out[logitsOutput].F...)
	}
	return logits, nil
}
