package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distill/internal/hint"
)

// The CIFAR-10 binary format: records of a label byte and three planes, R, G and B, of 32 rows of 32 bytes.
// A file may be gzipped.
const (
	cifarSide   = 32
	cifarPixels = 3 * cifarSide * cifarSide
	cifarRecord = 1 + cifarPixels

	// cifarLimit bounds the records of one file, and with them what a small gzip file may grow to: 615 MB. The data
	// set itself has 60,000.
	cifarLimit = 200_000
)

var cifarClasses = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}

// cifarDefaults are the selectors of train, val and test.
var cifarDefaults = [3]string{"data_batch_*.bin*", "val*.bin*", "test_batch*.bin*"}

// cifar is a Source over records held in memory as they are on disk.
type cifar struct {
	records [][]byte // each of cifarRecord bytes
	classes []string
}

func (c *cifar) Len() int             { return len(c.records) }
func (c *cifar) Shape() (_, _, _ int) { return 3, cifarSide, cifarSide }
func (c *cifar) Classes() []string    { return c.classes }

func (c *cifar) Read(i int, dst []float32) (int, error) {
	record := c.records[i]
	for j, v := range record[1:] {
		dst[j] = float32(v)
	}
	return int(record[0]), nil
}

func openCIFAR(dir string, o Options) (Splits, error) {
	f, err := newCIFARFolder(dir, o)
	if err != nil {
		return Splits{}, err
	}
	var spans [3][]span
	for i, name := range splitNames {
		if name == "val" && !f.hasVal() {
			continue
		}
		if spans[i], err = f.selectSpans(f.selectors[i]); err != nil {
			return Splits{}, hint.Wrap(err, "set data.%s to a glob of files in %s", name, dir)
		}
	}
	if !f.hasVal() {
		spans[0], spans[1] = holdOut(spans[0])
	}
	if err := disjoint(spans); err != nil {
		return Splits{}, hint.Wrap(err, "give the splits different files or ranges, such as valid.bin[0:5000]")
	}
	return Splits{f.source(spans[0]), f.source(spans[1]), f.source(spans[2])}, nil
}

func openCIFARSplit(path, split string, o Options) (Split, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		dir, file := filepath.Split(filepath.Clean(path))
		f, err := newCIFARFolder(filepath.Clean(dir), o)
		if err != nil {
			return Split{}, err
		}
		spans, err := f.selectSpans(file)
		if err != nil {
			return Split{}, hint.Wrap(err, "PATH is a folder of CIFAR-10 files or one such file")
		}
		return Split{f.source(spans), everything}, nil
	}
	f, err := newCIFARFolder(path, o)
	if err != nil {
		return Split{}, err
	}
	if split == "" {
		split = "test"
	}
	i := slices.Index(splitNames[:], split)
	heldOut := split != "test" && !f.hasVal()
	if heldOut {
		i = 0
	}
	spans, err := f.selectSpans(f.selectors[i])
	if err != nil {
		return Split{}, hint.Wrap(err, "name one file, as in cifar10:%s", filepath.Join(path, "test_batch.bin"))
	}
	if heldOut {
		train, val := holdOut(spans)
		if spans = train; split == "val" {
			spans = val
		}
	}
	return Split{f.source(spans), split}, nil
}

// cifarFolder reads each file of a folder once, however many selectors name it.
type cifarFolder struct {
	dir       string
	selectors [3]string
	valGiven  bool // the recipe asks for a val split by name
	classes   []string
	files     map[string]*cifarFile
}

type cifarFile struct {
	name    string
	info    fs.FileInfo
	records []byte
}

// same reports whether two names lead to one file, or to one file and its gzipped copy.
func (f *cifarFile) same(g *cifarFile) bool {
	return os.SameFile(f.info, g.info) || strings.TrimSuffix(f.name, ".gz") == strings.TrimSuffix(g.name, ".gz")
}

// span is the records from from up to but without to of a file.
type span struct {
	file     *cifarFile
	from, to int
}

func newCIFARFolder(dir string, o Options) (*cifarFolder, error) {
	if len(o.Size) != 0 {
		return nil, hint.Wrap(errors.New("size: CIFAR-10 images are 32x32"), "remove data.size")
	}
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	classes, err := readClasses(filepath.Join(dir, "batches.meta.txt"))
	if err != nil {
		return nil, err
	}
	f := &cifarFolder{dir: dir, selectors: o.selectors(), valGiven: o.Val != "", classes: classes, files: map[string]*cifarFile{}}
	for i, s := range f.selectors {
		if s == "" {
			f.selectors[i] = cifarDefaults[i]
		}
	}
	return f, nil
}

// hasVal reports whether the val split has files of its own.
func (f *cifarFolder) hasVal() bool {
	if f.valGiven {
		return true
	}
	names, _ := fs.Glob(os.DirFS(f.dir), f.selectors[1]) // the pattern is known to be good
	return len(names) > 0
}

// selectSpans reads the files that a selector matches and returns what it selects of each.
func (f *cifarFolder) selectSpans(text string) ([]span, error) {
	s, err := parseSelector(text)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(os.DirFS(f.dir), s.glob)
	if err != nil {
		return nil, fmt.Errorf("match %s: %w", s.glob, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no file matches %s in %s", s.glob, f.dir)
	}
	var spans []span
	total := 0
	for _, name := range names {
		file, err := f.file(name)
		if err != nil {
			return nil, err
		}
		n := len(file.records) / cifarRecord
		from, to := max(s.from-total, 0), min(s.to-total, n)
		if from < to {
			spans = append(spans, span{file, from, to})
		}
		total += n
	}
	if s.from >= total || s.to > total && s.to != math.MaxInt {
		return nil, fmt.Errorf("selector %q: %s in %s has %d records", text, s.glob, f.dir, total)
	}
	return spans, nil
}

func (f *cifarFolder) file(name string) (*cifarFile, error) {
	if file, ok := f.files[name]; ok {
		return file, nil
	}
	path := filepath.Join(f.dir, filepath.FromSlash(name))
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a file", path)
	}
	records, err := decodeCIFAR(in, cifarLimit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	file := &cifarFile{name, info, records}
	f.files[name] = file
	return file, nil
}

func (f *cifarFolder) source(spans []span) *cifar {
	src := &cifar{classes: f.classes}
	for _, s := range spans {
		for record := range slices.Chunk(s.file.records[s.from*cifarRecord:s.to*cifarRecord], cifarRecord) {
			src.records = append(src.records, record)
		}
	}
	return src
}

// holdOut cuts the last tenth off spans.
func holdOut(spans []span) (train, val []span) {
	total := 0
	for _, s := range spans {
		total += s.to - s.from
	}
	left := total - total/10
	for _, s := range spans {
		cut := s.from + min(left, s.to-s.from)
		if s.from < cut {
			train = append(train, span{s.file, s.from, cut})
		}
		if cut < s.to {
			val = append(val, span{s.file, cut, s.to})
		}
		left -= cut - s.from
	}
	return train, val
}

// disjoint refuses records that two selections, or one of them twice, contain.
func disjoint(spans [3][]span) error {
	for i := range spans {
		for j := i; j < len(spans); j++ {
			for k, a := range spans[i] {
				for l, b := range spans[j] {
					if (i != j || k < l) && a.file.same(b.file) && a.from < b.to && b.from < a.to {
						return fmt.Errorf("%s has records %d to %d of %s, and %s has records %d to %d of %s",
							splitNames[i], a.from, a.to-1, a.file.name, splitNames[j], b.from, b.to-1, b.file.name)
					}
				}
			}
		}
	}
	return nil
}

// decodeCIFAR reads records, gzipped or not, at most limit of them, and checks their labels.
func decodeCIFAR(r io.Reader, limit int) ([]byte, error) {
	in := bufio.NewReader(r)
	r = in
	// No label is as large as the first byte of a gzip file.
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		r = z
	}
	size := limit * cifarRecord
	b, err := io.ReadAll(io.LimitReader(r, int64(size)+1))
	if err != nil {
		return nil, fmt.Errorf("after %d bytes: %w", len(b), err)
	}
	if len(b) > size {
		return nil, fmt.Errorf("more than %d records", limit)
	}
	if len(b) == 0 || len(b)%cifarRecord != 0 {
		err := fmt.Errorf("%d bytes are not a whole number of %d-byte records", len(b), cifarRecord)
		return nil, hint.Wrap(err, "the file is cut short, or is not in the CIFAR-10 binary format")
	}
	for i := 0; i < len(b); i += cifarRecord {
		if int(b[i]) >= len(cifarClasses) {
			err := fmt.Errorf("record %d at byte %d: label %d is not 0..9", i/cifarRecord, i, b[i])
			return nil, hint.Wrap(err, "the file is not in the CIFAR-10 binary format")
		}
	}
	return b, nil
}

// readClasses reads one class name a line; without the file, the classes have the names they always had.
func readClasses(path string) ([]string, error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return cifarClasses, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, 1<<16))
	if err != nil {
		return nil, err
	}
	names := strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(names) != len(cifarClasses) {
		return nil, fmt.Errorf("read %s: %d class names, want %d", path, len(names), len(cifarClasses))
	}
	return names, nil
}
