// Package cache keeps on disk what a teacher says of the views of training images, so that it is computed once.
//
//	c, err := cache.Create(folder, key, recipe) // or Open, to read alone
//	defer c.Close()
//	out, ok, err := c.Fetch(batch.Draw, batch.Index)
//	if err == nil && !ok {
//		out, err = t.Forward(&batch)
//		err = errors.Join(err, c.Add(batch.Draw, batch.Index, out))
//	}
//
// A cache is a folder: cache.json says what it is of, and numbered shards hold a record for each sample and view. Every record
// has a checksum, which each read checks. Many processes may read a cache while one adds to it.
package cache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/teacher"
)

// Cache is an open cache. Its methods may be called by one goroutine at a time.
type Cache struct {
	layout
	info   Info
	folder string
	sum    [sha256.Size]byte // of the key
	shards map[int]*shard    // that are open
	lock   *os.File          // held by the one process that may write; nil: this one reads alone
	row    []float32         // the values of a record
	bytes  []byte            // a record
}

// Open opens a cache to read it.
func Open(folder string) (*Cache, error) {
	info, err := ReadInfo(folder)
	if err != nil {
		return nil, err
	}
	return open(folder, info)
}

func open(folder string, info Info) (*Cache, error) {
	l, err := info.Key.layout()
	if err != nil {
		return nil, fmt.Errorf("cache: %s: %w", folder, err)
	}
	return &Cache{layout: l, info: info, folder: folder, sum: info.Key.Sum(), shards: map[int]*shard{},
		row: make([]float32, l.values), bytes: make([]byte, l.record)}, nil
}

// ErrLocked is what [Create] returns, wrapped, where another process writes the cache.
var ErrLocked = errors.New("another process is writing this cache")

// Create opens a cache to read it and add to it, and makes it, from info's key, model, recipe and day, where the folder holds
// none. One that is there must be of the same key. Until Close no other process can write it.
func Create(folder string, info Info) (_ *Cache, err error) {
	info.Format = version
	info.Sum = info.sum()
	c, err := open(folder, info)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, writeError(err)
	}
	if c.lock, err = lock(folder); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.lock.Close()
		}
	}()
	if !Exists(folder) {
		if err := onlyOurs(folder); err != nil {
			return nil, err
		}
		return c, writeInfo(folder, info)
	}
	if c.info, err = ReadInfo(folder); err != nil {
		return nil, err
	}
	if c.info.Key.Sum() != c.sum {
		if err := c.info.Key.Serves(info.Key, false); err != nil {
			return nil, fmt.Errorf("cache: %s: %w", folder, err)
		}
		return nil, hint.Wrap(fmt.Errorf("cache: %s: %w: it keeps other tensors", folder, ErrForeign), "name another folder")
	}
	return c, nil
}

// onlyOurs refuses to begin a cache among other files.
func onlyOurs(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockName && !isShard(e.Name()) && !isTemporary(e.Name()) {
			return hint.Wrap(fmt.Errorf("cache: make %s: it holds %s: it is no cache", folder, e.Name()), "name an empty folder, or one that is not there yet")
		}
	}
	return nil
}

func writeInfo(folder string, info Info) error {
	err := atomicfile.Write(filepath.Join(folder, infoName), func(w io.Writer) error {
		_, err := io.WriteString(w, indented(info))
		return err
	})
	if err != nil {
		return writeError(err)
	}
	return nil
}

// lock takes the right to write in a folder, which ends with the file or the process.
func lock(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, lockName), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, writeError(err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for range 20 { // Status holds it for a moment
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, hint.Wrap(fmt.Errorf("cache: %s: %w", folder, ErrLocked), "wait for it to end, or name another folder")
		}
		return nil, fmt.Errorf("cache: lock %s: %w", folder, err)
	}
	return f, nil
}

// Info is what cache.json says.
func (c *Cache) Info() Info { return c.info }

// Folder is that of the cache.
func (c *Cache) Folder() string { return c.folder }

// Writable reports whether Add may be called.
func (c *Cache) Writable() bool { return c.lock != nil }

// shard is an open shard; nil where it is not there, which it always is to one who may write.
func (c *Cache) shard(number int) (*shard, error) {
	if s := c.shards[number]; s != nil {
		return s, nil
	}
	s, err := c.openWhole(number)
	if err == nil && s == nil && c.Writable() {
		if s, err = c.openPart(number); err == nil && s.count == s.records { // a process was killed before it could finish it
			s, err = c.finish(s)
		}
	}
	if err != nil || s == nil {
		return nil, err
	}
	c.shards[number] = s
	return s, nil
}

// Fetch returns what is kept of samples in a view; ok is false where a record of any is not there. A record that is damaged
// is an error.
func (c *Cache) Fetch(view int, samples []int) (out teacher.Outputs, ok bool, err error) {
	if err := c.check(view, samples); err != nil {
		return out, false, err
	}
	k := c.info.Key
	out.Logits = make([]float32, len(samples)*k.Classes)
	for _, t := range k.Taps {
		if out.Taps == nil {
			out.Taps = make(map[string]graph.Tensor, len(k.Taps))
		}
		out.Taps[t.Name] = graph.NewTensor(graph.Float32, slices.Concat(graph.Shape{len(samples)}, t.Shape)...)
	}
	for n, i := range samples {
		number, place := c.find(view, i)
		s, err := c.shard(number)
		if err != nil {
			return out, false, err
		}
		if s == nil || !s.whole() && !s.present[place] {
			return out, false, nil
		}
		if err := s.read(c.bytes, place); err != nil {
			return out, false, err
		}
		decode(c.row, c.bytes, c.half)
		rest := c.row[copy(out.Logits[n*k.Classes:], c.row[:k.Classes]):]
		for _, t := range k.Taps {
			f := out.Taps[t.Name].F
			size := len(f) / len(samples)
			rest = rest[copy(f[n*size:], rest[:size]):]
		}
	}
	return out, true, nil
}

// Add keeps a teacher's outputs for samples in a view, but for what is there already. It must be a cache of Create.
func (c *Cache) Add(view int, samples []int, out teacher.Outputs) error {
	if err := c.check(view, samples); err != nil {
		return err
	}
	k := c.info.Key
	if len(out.Logits) != len(samples)*k.Classes {
		return fmt.Errorf("cache: add: %d logits for %d samples of %d classes", len(out.Logits), len(samples), k.Classes)
	}
	for _, t := range k.Taps {
		if got, want := out.Taps[t.Name].Shape, slices.Concat(graph.Shape{len(samples)}, t.Shape); !got.Equal(want) {
			return fmt.Errorf("cache: add: tensor %q is %v, not %v", t.Name, got, want)
		}
	}
	for n, i := range samples {
		number, place := c.find(view, i)
		s, err := c.shard(number)
		if err != nil {
			return err
		}
		if s.whole() || s.present[place] {
			continue
		}
		row := append(c.row[:0], out.Logits[n*k.Classes:][:k.Classes]...)
		for _, t := range k.Taps {
			f := out.Taps[t.Name].F
			size := len(f) / len(samples)
			row = append(row, f[n*size:][:size]...)
		}
		if err := encode(c.bytes, place, row, c.half); err != nil {
			return fmt.Errorf("cache: keep sample %d: %w", i, err)
		}
		if err := s.write(c.bytes, place); err != nil {
			return err
		}
		if s.count == s.records {
			delete(c.shards, number)
			if _, err := c.finish(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// check refuses a view or samples that the cache has no place for.
func (c *Cache) check(view int, samples []int) error {
	if view < 0 || view >= c.views {
		return fmt.Errorf("cache: %s: view %d of %d", c.folder, view, c.views)
	}
	for _, i := range samples {
		if i < 0 || i >= c.samples {
			return fmt.Errorf("cache: %s: sample %d of %d", c.folder, i, c.samples)
		}
	}
	return nil
}

// Missing lists the samples whose record of a view is not there.
func (c *Cache) Missing(view int) ([]int, error) {
	var missing []int
	for i := 0; i < c.samples; i += c.perShard {
		number, _ := c.find(view, i)
		s, err := c.shard(number)
		if err != nil {
			return nil, err
		}
		for place := range c.layout.records(number) {
			if s == nil || !s.whole() && !s.present[place] {
				missing = append(missing, i+place)
			}
		}
	}
	return missing, nil
}

// Left counts the records of a view that are not there.
func (c *Cache) Left(view int) (int, error) {
	left := 0
	for number := view * c.perView; number < (view+1)*c.perView; number++ {
		s, err := c.shard(number)
		switch {
		case err != nil:
			return 0, err
		case s == nil:
			left += c.layout.records(number)
		case !s.whole():
			left += s.records - s.count
		}
	}
	return left, nil
}

// Close gives back what is open, and the right to write.
func (c *Cache) Close() error {
	var errs []error
	for _, s := range c.shards {
		errs = append(errs, s.close())
	}
	clear(c.shards)
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
		c.lock = nil
	}
	return errors.Join(errs...)
}
