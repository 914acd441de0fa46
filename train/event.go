package train

import (
	"time"
)

// Event is what an Observer is told: after every step, and with Val set after the last step of an epoch.
type Event struct {
	Run    string // Options.Name
	Epoch  int    // from 0
	Epochs int
	Step   int // of the whole run, from 0
	Steps  int // of the whole run
	LR     float64
	Loss   float64 // mean since the epoch began, like Terms
	Terms  []Named // the unweighted losses
	Speed  float64 // images a second since the epoch began or was resumed
	Wait   float64 // share of that time in which step and teacher waited for data, 0..1
	ETA    time.Duration

	LossScale float64 // of the next step, in float16; else 0
	Skipped   int     // steps since the epoch began whose gradients were not finite in float16

	Row *Row // after an epoch's last step
}

// Named is a number under a name.
type Named struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// Observer watches a run. It is called from the training loop, so it must be quick.
type Observer func(Event)

// Row is an epoch as metrics.csv and metrics.jsonl hold it.
type Row struct {
	Epoch   int     `json:"epoch"` // from 1
	Step    int     `json:"step"`  // steps done
	LR      float64 `json:"lr"`    // of the epoch's last step
	Loss    float64 `json:"loss"`
	Terms   []Named `json:"terms"`
	ValTop1 float64 `json:"val_top1"`
	Best    bool    `json:"best"` // the best val_top1 so far
	Speed   float64 `json:"img_per_s"`
	Wait    float64 `json:"wait"`
	Seconds float64 `json:"seconds"` // of the epoch, validation included

	LossScale float64 `json:"loss_scale,omitempty"` // after the epoch; none in float32
	Skipped   int     `json:"skipped,omitempty"`    // steps of the epoch that were
}
