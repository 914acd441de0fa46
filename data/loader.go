package data

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
)

// Loader makes batches of a source. What is in a batch, and how it is augmented, is a pure function of the fields,
// the epoch and the step: any batch can be made again, in any order. The fields must not change once it is used.
type Loader struct {
	Source   Source
	Batch    int    // images per batch; > 0
	Seed     uint64 // of order and augmentation
	Augment  Augment
	Shuffle  bool // visit the samples in another order in each epoch; else in the source's order
	DropLast bool // leave out a last batch that is not full; else it is smaller

	order atomic.Pointer[order] // of the epoch last asked for
}

// order is the order of the samples in one epoch.
type order struct {
	epoch   int
	samples []int
}

// Steps is the number of batches in an epoch.
func (l *Loader) Steps() int {
	if l.DropLast {
		return l.Source.Len() / l.Batch
	}
	return (l.Source.Len() + l.Batch - 1) / l.Batch
}

// Fill makes b the batch of a step, in 0..Steps()-1, of an epoch, from 0. It is safe for concurrent use with different
// batches.
func (l *Loader) Fill(b *Batch, epoch, step int) error {
	if epoch < 0 || step < 0 || step >= l.Steps() {
		return fmt.Errorf("data: fill batch %d of epoch %d: an epoch has %d", step, epoch, l.Steps())
	}
	return l.FillSamples(b, epoch, l.samples(epoch, step*l.Batch, min((step+1)*l.Batch, l.Source.Len())))
}

// FillSamples makes b a batch of any samples, as the epoch sees each of them. It is safe for concurrent use with different
// batches.
func (l *Loader) FillSamples(b *Batch, epoch int, samples []int) error {
	c, h, w := l.Source.Shape()
	if err := l.Augment.Check(h, w); err != nil {
		return err
	}
	b.resize(len(samples), c, h, w)
	size := c * h * w
	b.Draw = l.Augment.View(epoch)
	seed := l.Seed
	if own := l.Augment.Seed; own != nil {
		seed = *own
	}
	for n, i := range samples {
		v := l.Augment.draw(random(seed, augmentStream, b.Draw, i))
		x := b.X[n*size:][:size]
		read := x
		if v != (view{}) {
			read = b.sample
		}
		label, err := l.Source.Read(i, read)
		if err != nil {
			return err
		}
		if v != (view{}) {
			v.apply(x, read, h, w)
		}
		b.Y[n], b.Index[n], b.View[n] = int64(label), i, v.id()
	}
	return nil
}

// samples lists those from one place in the order of an epoch up to another.
func (l *Loader) samples(epoch, from, to int) []int {
	if !l.Shuffle {
		samples := make([]int, to-from)
		for n := range samples {
			samples[n] = from + n
		}
		return samples
	}
	o := l.order.Load()
	if o == nil || o.epoch != epoch {
		o = &order{epoch, random(l.Seed, orderStream, epoch, 0).Perm(l.Source.Len())}
		l.order.Store(o)
	}
	return o.samples[from:to]
}

// random is the generator of one use of random numbers in an epoch, for one sample.
func random(seed, stream uint64, epoch, sample int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed, stream, uint64(epoch), uint64(sample)), stream))
}

// Streams keep the random numbers of different uses apart under one seed.
const (
	orderStream uint64 = iota + 1
	augmentStream
)

// mix hashes values into one, by the finaliser of SplitMix64 (Steele et al. 2014), so that neighbouring seeds and
// epochs give unrelated generators.
func mix(values ...uint64) uint64 {
	var h uint64
	for _, v := range values {
		h += v + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}
