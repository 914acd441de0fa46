package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sys/unix"

	"distill/train"
)

// watch shows how a run goes on: a line after each epoch and, on a terminal, a bar below the lines.
type watch struct {
	w    io.Writer
	live bool // whether there is a bar
	bar  *progressbar.ProgressBar
	run  string // whose bar it is
}

// newWatch writes to w. It keeps to lines where CI is set, for the logs of a CI may come from a terminal that nobody sees.
func newWatch(w io.Writer) *watch { return &watch{w: w, live: isTerminal(w) && os.Getenv("CI") == ""} }

// observe is a train.Observer.
func (w *watch) observe(e train.Event) {
	if e.Row != nil {
		w.clear()
		fmt.Fprintf(w.w, "%s  %s  %s\n", place(e), figures(e), remaining(e))
	}
	if !w.live {
		return
	}
	if w.bar == nil || w.run != e.Run {
		w.run, w.bar = e.Run, progressbar.NewOptions(e.Steps,
			progressbar.OptionSetWriter(w.w),
			progressbar.OptionSetWidth(barWidth),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionSetPredictTime(false), // the event's is better: it knows where a resumed run began
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionUseANSICodes(true),
			progressbar.OptionClearOnFinish(),
		)
	}
	// What matters least comes last, for a narrow terminal cuts it off. Errors of these two would be the terminal's.
	line := fmt.Sprintf("%s  %s  %s", place(e), remaining(e), figures(e))
	w.bar.Describe(fit(line, columns(w.w)-barWidth-len(" 100% || ")))
	w.bar.Set(e.Step + 1)
}

const barWidth = 10

// clear wipes the bar, so that a line can be written in its place.
func (w *watch) clear() {
	if w.bar != nil {
		w.bar.Clear()
	}
}

// close takes the bar away for good. Closing again does nothing.
func (w *watch) close() {
	w.clear()
	w.bar = nil
}

func place(e train.Event) string { return fmt.Sprintf("%-7s  epoch %d/%d", e.Run, e.Epoch+1, e.Epochs) }

func remaining(e train.Event) string { return fmt.Sprintf("ETA %v", e.ETA.Round(time.Second)) }

// figures are an event's losses, accuracy and speed.
func figures(e train.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "loss %.4g", e.Loss)
	for _, t := range e.Terms {
		fmt.Fprintf(&b, "  %s %.4g", t.Name, t.Value)
	}
	if e.Row != nil {
		fmt.Fprintf(&b, "  val %s", percent(e.Row.ValTop1))
		if e.Row.Best {
			b.WriteString(" (best)")
		}
	}
	fmt.Fprintf(&b, "  %.0f img/s  wait %.0f %%", e.Speed, 100*e.Wait)
	return b.String()
}

// fit cuts a line to a number of columns, at least 1.
func fit(line string, columns int) string {
	if r := []rune(line); len(r) > columns {
		return string(r[:max(columns-1, 0)]) + "…"
	}
	return line
}

// columns is the width of the terminal that w is; 80 if it does not say.
func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
	}
	return 80
}
