package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"distill/internal/hint"
)

// A shard is a header and records. Its file is NNNNNN.shard, and NNNNNN.part until all of its records are there. The header
// is, with numbers of four bytes, little-endian:
//
//	 0  "distillC"
//	 8  version, number of the shard, number of its records, bytes of each
//	24  SHA-256 of the key
//	56  zero
//	60  CRC-32C of what is before
const (
	headerSize = 64
	magic      = "distillC"
	version    = 1
)

// shard is an open file of records: whole, and then read-only, or one that is being written.
type shard struct {
	number  int
	path    string
	records int
	record  int // bytes
	file    *os.File
	mapping []byte // of a whole shard; nil where the file system cannot map
	present []bool // of a part: which records are there
	count   int    // of those
}

func (c *Cache) shardPath(number int, suffix string) string {
	return filepath.Join(c.folder, fmt.Sprintf("%06d%s", number, suffix))
}

const (
	wholeSuffix = ".shard"
	partSuffix  = ".part"
)

// header is that of a shard.
func (c *Cache) header(number int) []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	le := binary.LittleEndian
	for i, v := range []int{version, number, c.layout.records(number), c.record} {
		le.PutUint32(b[8+4*i:], uint32(v))
	}
	copy(b[24:], c.sum[:])
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// checkHeader says what is wrong with the header of a shard.
func (c *Cache) checkHeader(b []byte, number int) error {
	le, want := binary.LittleEndian, c.header(number)
	switch {
	case bytes.Equal(b, want):
		return nil
	case !bytes.HasPrefix(b, []byte(magic)):
		return errors.New("it does not begin as a shard does")
	case le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli):
		return errors.New("its header is damaged: the checksum differs")
	case le.Uint32(b[8:]) != version:
		return fmt.Errorf("it is of version %d, not %d", le.Uint32(b[8:]), version)
	}
	return errors.New("it is a shard of another cache, or in another's place")
}

// openWhole opens a shard that was finished; nil where there is none.
func (c *Cache) openWhole(number int) (*shard, error) {
	s := &shard{number: number, path: c.shardPath(number, wholeSuffix), records: c.layout.records(number), record: c.record}
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if err := s.open(c, f); err != nil {
		f.Close()
		return nil, s.damaged(err)
	}
	return s, nil
}

func (s *shard) open(c *Cache, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if want := headerSize + int64(s.records)*int64(s.record); info.Size() != want || !info.Mode().IsRegular() {
		return fmt.Errorf("it has %d bytes, not %d", info.Size(), want)
	}
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	if err := c.checkHeader(b, s.number); err != nil {
		return err
	}
	if s.mapping, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		s.mapping, s.file = nil, f // some file systems do not map: it is read instead
		return nil
	}
	return f.Close() // the mapping stays
}

// damaged is the error for a whole shard that cannot be read.
func (s *shard) damaged(cause error) error {
	return hint.Wrap(fmt.Errorf("cache: shard %s: %w", s.path, cause),
		"remove that file: `distill cache build` makes it again, and so does a run with teacher.cache.write=true")
}

// openPart opens a shard that is being written, or begins one. Of a file that a killed process left, the records that are
// intact count.
func (c *Cache) openPart(number int) (_ *shard, err error) {
	s := &shard{number: number, path: c.shardPath(number, partSuffix), records: c.layout.records(number), record: c.record}
	s.present = make([]bool, s.records)
	s.file, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, writeError(err)
	}
	defer func() {
		if err != nil {
			s.file.Close()
		}
	}()
	header, had := c.header(number), make([]byte, headerSize)
	if _, err := io.ReadFull(io.NewSectionReader(s.file, 0, headerSize), had); err == nil && bytes.Equal(had, header) {
		return s, s.scan()
	}
	// Nothing in it is of use.
	size := headerSize + int64(s.records)*int64(s.record)
	if err := errors.Join(s.file.Truncate(0), s.file.Truncate(size)); err != nil {
		return nil, writeError(err)
	}
	if _, err := s.file.WriteAt(header, 0); err != nil {
		return nil, writeError(err)
	}
	return s, nil
}

// scan finds out which records of a part are there.
func (s *shard) scan() error {
	const most = 1 << 20
	some := max(1, most/s.record)
	b := make([]byte, some*s.record)
	for from := 0; from < s.records; from += some {
		n := min(some, s.records-from)
		k, err := s.file.ReadAt(b[:n*s.record], s.offset(from))
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cache: %w", err)
		}
		for i := range k / s.record {
			if intact(b[i*s.record:][:s.record], from+i) {
				s.present[from+i] = true
				s.count++
			}
		}
	}
	return nil
}

func (s *shard) offset(place int) int64 { return headerSize + int64(place)*int64(s.record) }

func (s *shard) whole() bool { return s.present == nil }

// read copies a record into b and checks it.
func (s *shard) read(b []byte, place int) error {
	err := s.copy(b, place)
	if err == nil && !intact(b, place) {
		err = fmt.Errorf("record %d at byte %d is damaged: its checksum differs", place, s.offset(place))
	}
	if err != nil && s.whole() {
		return s.damaged(err)
	}
	if err != nil {
		return fmt.Errorf("cache: shard %s: %w", s.path, err)
	}
	return nil
}

func (s *shard) copy(b []byte, place int) (err error) {
	if s.mapping == nil {
		_, err := s.file.ReadAt(b, s.offset(place))
		return err
	}
	// Where somebody cuts the file short, or the disk fails, there is no memory behind the mapping.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = errors.New("it cannot be read any more: it was cut short, or the disk fails")
		}
	}()
	copy(b, s.mapping[s.offset(place):])
	return nil
}

// write adds a record to a part.
func (s *shard) write(b []byte, place int) error {
	if _, err := s.file.WriteAt(b, s.offset(place)); err != nil {
		return writeError(err)
	}
	if !s.present[place] {
		s.present[place] = true
		s.count++
	}
	return nil
}

// finish makes a part that has all of its records a whole shard.
func (c *Cache) finish(s *shard) (*shard, error) {
	path := c.shardPath(s.number, wholeSuffix)
	err := s.file.Sync()
	if err == nil {
		err = s.close()
	}
	if err == nil {
		err = os.Rename(s.path, path)
	}
	if err == nil {
		err = syncFolder(c.folder)
	}
	if err != nil {
		return nil, writeError(err)
	}
	return c.openWhole(s.number)
}

func (s *shard) close() error {
	var errs []error
	if s.mapping != nil {
		errs = append(errs, unix.Munmap(s.mapping))
		s.mapping = nil
	}
	if s.file != nil {
		errs = append(errs, s.file.Close())
		s.file = nil
	}
	return errors.Join(errs...)
}

// syncFolder makes a rename survive a power cut.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems cannot sync a folder
		return err
	}
	return nil
}

// writeError says how to go on where a cache cannot be written.
func writeError(err error) error {
	err = fmt.Errorf("cache: write: %w", err)
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return hint.Wrap(err, "free some space; what is there is kept, and the next build or run goes on with it")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return hint.Wrap(err, "choose a folder that can be written to; to read a whole cache alone, leave teacher.cache.write out")
	}
	return err
}
