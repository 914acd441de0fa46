package train

import (
	"fmt"
	"strings"

	"distill/data"
	"distill/losses"
	"distill/runtime/graph"
)

// host is the part of a term's loss outside the graph.
type host struct {
	losses.Host
	term   string
	prefix string // of the names of its inputs and outputs
}

// openHosts readies those of the recipe's losses, over a store that has what the programs read.
func (run *Run) openHosts() error {
	run.hosts = nil
	var labels []int64
	for _, t := range run.Recipe.weighted() {
		hosted, ok := t.Loss.(losses.Hosted)
		if !ok {
			continue
		}
		if labels == nil {
			var err error
			if labels, err = labelsOf(run.Splits.Train); err != nil {
				return err
			}
		}
		prefix := losses.Prefix(t.Name)
		h, err := hosted.Open(prefix, run.Store, labels, run.Recipe.Seed)
		if err != nil {
			return fmt.Errorf("train: open loss %s: %w", t.Name, err)
		}
		run.hosts = append(run.hosts, host{h, t.Name, prefix + "."})
	}
	return nil
}

// labelsOf are the classes of all samples, by index.
func labelsOf(s data.Source) ([]int64, error) {
	c, h, w := s.Shape()
	pixels := make([]float32, c*h*w)
	labels := make([]int64, s.Len())
	for i := range labels {
		label, err := s.Read(i, pixels)
		if err != nil {
			return nil, err
		}
		labels[i] = int64(label)
	}
	return labels, nil
}

// feed adds the host's inputs to a step's.
func (h host) feed(in map[string]graph.Tensor, step int, index, labels []int64) error {
	own, err := h.Feed(step, index, labels)
	if err != nil {
		return fmt.Errorf("train: feed loss %s: %w", h.term, err)
	}
	for part, t := range own {
		in[h.prefix+part] = t
	}
	return nil
}

// take tells the host what a program made of its step: the outputs that are the loss's.
func (h host) take(p *graph.Program, out map[string]graph.Tensor) error {
	own := map[string]graph.Tensor{}
	for _, o := range p.Outputs {
		if part, ok := strings.CutPrefix(o.Name, h.prefix); ok {
			own[part] = out[o.Name]
		}
	}
	if err := h.Take(own); err != nil {
		return fmt.Errorf("train: update loss %s: %w", h.term, err)
	}
	return nil
}
