package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"distill/student"
)

// What the sweep goes through: batches at one depth, depths at one batch, each with every number of threads.
var (
	sweepBatches = []int{16, 32, 64, 128, 256, 512}
	sweepDepths  = []int{8, 14, 20, 32, 56, 110}
	sweepThreads = []int{1, 2}
)

const (
	sweepBatch = 64
	sweepDepth = 20
)

// setting is a network of the sweep: resnet-20's family at some depth and batch, on some threads.
type setting struct{ depth, batch, threads int }

// settings lists each one once.
func settings() []setting {
	var list []setting
	for _, threads := range sweepThreads {
		for _, batch := range sweepBatches {
			list = append(list, setting{sweepDepth, batch, threads})
		}
		for _, depth := range sweepDepths {
			if s := (setting{depth, sweepBatch, threads}); !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// sweep measures our step as batch, depth and threads grow, and writes a table and a plot.
func sweep(ctx context.Context, o options, out io.Writer) error {
	took := map[setting]float64{}
	for _, s := range settings() {
		if err := ctx.Err(); err != nil {
			return err
		}
		ms, err := s.measure(o)
		if err != nil {
			return fmt.Errorf("bench: sweep: depth %d, batch %d, %d threads: %w", s.depth, s.batch, s.threads, err)
		}
		took[s] = ms
	}
	table := sweepTable(took)
	fmt.Fprint(out, table)
	if err := writeFile(filepath.Join(o.results, "sweep.md"), func(w io.Writer) error {
		_, err := io.WriteString(w, table)
		return err
	}); err != nil {
		return err
	}
	return writeFile(filepath.Join(o.results, "sweep.svg"), func(w io.Writer) error {
		_, err := io.WriteString(w, plot(sweepPanels(took)))
		return err
	})
}

// measure is the median of a step, in milliseconds.
func (s setting) measure(o options) (float64, error) {
	n := network{name: "sweep", arch: &student.ResNet{Depth: s.depth, Width: 16, Shortcut: "B"}, image: [3]int{3, 32, 32}, classes: 10}
	w, err := n.open(s.batch, 1, alone(s.threads), o.folder)
	if err != nil {
		return 0, err
	}
	defer w.close()
	var ms []float64
	for i := range warmUp + o.steps {
		start := time.Now()
		if err := w.run(); err != nil {
			return 0, err
		}
		if i >= warmUp {
			ms = append(ms, time.Since(start).Seconds()*1e3)
		}
	}
	return spreadOf(ms).median, nil
}

// sweepTable is Markdown: milliseconds of a step, and of an image, for each number of threads.
func sweepTable(took map[setting]float64) string {
	s := "| depth | batch |"
	for _, t := range sweepThreads {
		s += fmt.Sprintf(" ms a step, %s | ms an image, %s |", count(t), count(t))
	}
	s += "\n|---|---|"
	for range sweepThreads {
		s += "---|---|"
	}
	row := func(depth, batch int) {
		s += fmt.Sprintf("\n| %d | %d |", depth, batch)
		for _, t := range sweepThreads {
			ms := took[setting{depth, batch, t}]
			s += fmt.Sprintf(" %.1f | %.3f |", ms, ms/float64(batch))
		}
	}
	for _, batch := range sweepBatches {
		row(sweepDepth, batch)
	}
	for _, depth := range sweepDepths {
		if depth != sweepDepth {
			row(depth, sweepBatch)
		}
	}
	return s + "\n"
}

// count writes 1 thread, 2 threads.
func count(threads int) string {
	if threads == 1 {
		return "1 thread"
	}
	return fmt.Sprintf("%d threads", threads)
}

// sweepPanels are the plot's: a step by batch, and by depth.
func sweepPanels(took map[setting]float64) []panel {
	batches := panel{title: fmt.Sprintf("depth %d", sweepDepth), axis: "batch, images"}
	depths := panel{title: fmt.Sprintf("batch %d", sweepBatch), axis: "depth, layers"}
	for _, t := range sweepThreads {
		b, d := series{name: count(t)}, series{name: count(t)}
		for _, batch := range sweepBatches {
			b.points = append(b.points, point{float64(batch), took[setting{sweepDepth, batch, t}]})
		}
		for _, depth := range sweepDepths {
			d.points = append(d.points, point{float64(depth), took[setting{depth, sweepBatch, t}]})
		}
		batches.series, depths.series = append(batches.series, b), append(depths.series, d)
	}
	return []panel{batches, depths}
}
