package train

import (
	"context"
	"fmt"
	"os"

	"distill/data"
	"distill/metrics"
	"distill/teacher"
)

// Result is a network measured on the test images through its ONNX file.
type Result struct {
	Name      string   `json:"name"`
	File      string   `json:"file"`
	Top1      float64  `json:"top1"`
	StdErr    float64  `json:"stderr"`              // of Top1
	BestTop1  *float64 `json:"best_top1,omitempty"` // of the checkpoint best on val; only of students
	Params    int      `json:"params"`
	Bytes     int64    `json:"bytes"`
	LatencyMS float64  `json:"latency_ms"`          // median of a batch of one in ONNX Runtime, one thread
	Rounds    int      `json:"rounds,omitempty"`    // that it taught; only of teachers that a policy picks
	Agreement *float64 `json:"agreement,omitempty"` // share of images on which it predicts what the teacher does, the mean over several
}

// Report is what a run came to.
type Report struct {
	TestImages int     `json:"test_images"`
	Teacher    *Result `json:"teacher,omitempty"`
	// Teachers are all of several; Teacher is none then.
	Teachers []Result `json:"teachers,omitempty"`
	Student  Result   `json:"student"`
	Labels   *Result  `json:"labels,omitempty"` // the same student trained on labels alone
	// Gain is Student's accuracy less Labels', paired on the same images, with its standard error.
	Gain       *float64 `json:"gain,omitempty"`
	GainStdErr *float64 `json:"gain_stderr,omitempty"`
	Parity     Parity   `json:"parity"`
}

// latencyRuns is how many runs a latency is the median of.
const latencyRuns = 200

// measured is a Result with what it was made from, image by image.
type measured struct {
	Result
	correct     []bool
	predictions []int
	// Of students only: how many images train, val and test have, and how long training took, validation included.
	images  [3]int
	seconds float64
	choices []Choice // of its teachers
}

// measure runs an ONNX classifier on the test images.
func measure(ctx context.Context, name string, o teacher.Options, pre data.Preprocess, test data.Source) (*measured, error) {
	// One thread: latency on a device is what the table is about, and it does not hang on who else runs.
	t, err := teacher.Open(o, pre, 1)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	m := &measured{Result: Result{Name: name, File: o.Model, Params: t.Params()}}
	var labels []int64
	var logits []float32
	l := &data.Loader{Source: test, Batch: 100}
	var b data.Batch
	for i := range l.Steps() {
		if err := ctx.Err(); err != nil {
			return nil, ErrInterrupted
		}
		if err := l.Fill(&b, 0, i); err != nil {
			return nil, err
		}
		out, err := t.Forward(&b)
		if err != nil {
			return nil, err
		}
		logits, labels = append(logits, out.Logits...), append(labels, b.Y...)
	}
	m.correct = metrics.Correct(logits, t.Classes(), labels)
	m.predictions = metrics.Predictions(logits, t.Classes())
	m.Top1 = share(m.correct)
	m.StdErr = metrics.StdErr(m.Top1, len(m.correct))
	info, err := os.Stat(o.Model)
	if err != nil {
		return nil, fmt.Errorf("train: report: %w", err)
	}
	m.Bytes = info.Size()
	m.LatencyMS, err = t.Latency(ctx, latencyRuns)
	return m, err
}

func (m *measured) agree(with []*measured) {
	same := make([]bool, 0, len(m.predictions)*len(with))
	for _, t := range with {
		for i, p := range t.predictions {
			same = append(same, m.predictions[i] == p)
		}
	}
	a := share(same)
	m.Agreement = &a
}

// Execute carries a recipe out: it trains, exports and measures; with baseline, it also trains the same student on the
// labels alone, for the same steps in the same order with the same augmentation, in the folder "labels" inside the output.
func Execute(ctx context.Context, r *Recipe, opts Options, baseline bool) (*Report, error) {
	labels := Folder(r.Output).path("labels")
	if baseline { // before the first of two long runs, not after it
		if err := Folder(labels).claim(opts.Resume, opts.Overwrite); err != nil {
			return nil, err
		}
	}
	r, err := r.settled() // labels alone see the same views
	if err != nil {
		return nil, err
	}
	student, parity, test, err := execute(ctx, r, opts)
	if err != nil {
		return nil, err
	}
	report := &Report{TestImages: test.Len(), Student: student.Result, Parity: parity}
	if r.Taught() {
		var teachers []*measured
		for _, o := range r.AllTeachers() {
			t, err := measure(ctx, "teacher", o, r.Preprocess, test)
			if err != nil {
				return nil, err
			}
			teachers, report.Teachers = append(teachers, t), append(report.Teachers, t.Result)
		}
		if len(r.Teachers) == 0 {
			report.Teacher, report.Teachers = &teachers[0].Result, nil
		}
		for _, c := range student.choices {
			report.Teachers[c.Teacher].Rounds++
		}
		student.agree(teachers)
		report.Student = student.Result
		if baseline {
			opts.Name, opts.Opened = "labels", nil
			alone, _, _, err := execute(ctx, r.LabelsOnly(labels), opts)
			if err != nil {
				return nil, err
			}
			alone.agree(teachers)
			report.Labels = &alone.Result
			gain, se := metrics.Paired(student.correct, alone.correct)
			report.Gain, report.GainStdErr = &gain, &se
		}
	}
	return report, nil
}

// execute is one run: train, export the last weights, measure the file, and the best checkpoint beside it.
func execute(ctx context.Context, r *Recipe, opts Options) (*measured, Parity, data.Source, error) {
	run, err := Open(r, opts)
	if err != nil {
		return nil, Parity{}, nil, err
	}
	defer run.Close()
	if opts.Opened != nil {
		if err := opts.Opened(run); err != nil {
			return nil, Parity{}, nil, err
		}
	}
	if err := run.Train(ctx); err != nil {
		return nil, Parity{}, nil, err
	}
	parity, err := run.Export(run.Folder.Student())
	if err != nil {
		return nil, parity, nil, err
	}
	m, err := measure(ctx, r.Student.Name, teacher.Options{Model: run.Folder.Student()}, r.Preprocess, run.Splits.Test)
	if err != nil {
		return nil, parity, nil, err
	}
	best, err := run.bestOnTest()
	if err != nil {
		return nil, parity, nil, err
	}
	m.BestTop1, m.images, m.choices = &best, run.images(), run.State.Choices
	for _, row := range run.State.History {
		m.seconds += row.Seconds
	}
	return m, parity, run.Splits.Test, nil
}

// bestOnTest is the test accuracy of the checkpoint that was best on val.
func (run *Run) bestOnTest() (float64, error) {
	best, _, err := run.Folder.Load("best")
	if err != nil {
		return 0, err
	}
	for _, name := range best.Names() {
		t, _ := best.Tensor(name)
		if err := run.Store.Replace(name, t); err != nil {
			return 0, fmt.Errorf("train: best checkpoint: %w", err)
		}
	}
	correct, _, err := run.Evaluate(run.Splits.Test)
	return share(correct), err
}
