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

// record is an image and its class as a file holds them.
type record struct {
	pixels []byte // [C,H,W]
	label  byte
}

// records is a Source over records held in memory as they are on disk.
type records struct {
	list    []record
	shape   [3]int // C, H, W
	classes []string
}

func (r *records) Len() int             { return len(r.list) }
func (r *records) Shape() (c, h, w int) { return r.shape[0], r.shape[1], r.shape[2] }
func (r *records) Classes() []string    { return r.classes }

func (r *records) Read(i int, dst []float32) (int, error) {
	for j, v := range r.list[i].pixels {
		dst[j] = float32(v)
	}
	return int(r.list[i].label), nil
}

// recordFormat is a format of data sets that are a folder of files, each of many records.
type recordFormat struct {
	name      string    // of the format, for people
	selectors [3]string // of train, val and test, where none is given
	sample    string    // the name of a file, for hints
	classFile string    // names the classes, one a line; may be missing
	classes   []string  // their names then
	fixed     bool      // there are as many classes as that, whatever they are called

	// read decodes what file holds, of so many classes; path is the file's.
	read func(file io.Reader, path string, classes int) (list []record, shape [3]int, err error)
}

func (k *recordFormat) open(dir string, o Options) (Splits, error) {
	f, err := k.folder(dir, o)
	if err != nil {
		return Splits{}, err
	}
	var spans [3][]span
	for i, name := range splitNames {
		if name == "val" && !f.hasVal() {
			continue
		}
		if spans[i], err = f.selectSpans(f.selectors[i]); err != nil {
			return Splits{}, orHint(err, "set data.%s to a glob of files in %s", name, dir)
		}
	}
	if !f.hasVal() {
		spans[0], spans[1] = holdOut(spans[0])
	}
	if err := disjoint(spans); err != nil {
		return Splits{}, hint.Wrap(err, "give the splits different files or ranges, such as %s[0:5000]", k.sample)
	}
	return Splits{f.source(spans[0]), f.source(spans[1]), f.source(spans[2])}, nil
}

func (k *recordFormat) openSplit(path, split string, o Options) (Split, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		dir, file := filepath.Split(filepath.Clean(path))
		f, err := k.folder(filepath.Clean(dir), o)
		if err != nil {
			return Split{}, err
		}
		spans, err := f.selectSpans(file)
		if err != nil {
			return Split{}, orHint(err, "PATH is a folder of %s files or one such file", k.name)
		}
		return Split{f.source(spans), everything}, nil
	}
	f, err := k.folder(path, o)
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
		return Split{}, orHint(err, "name one file, as in %s", filepath.Join(path, k.sample))
	}
	if heldOut {
		train, val := holdOut(spans)
		if spans = train; split == "val" {
			spans = val
		}
	}
	return Split{f.source(spans), split}, nil
}

// orHint gives err a hint where it has none.
func orHint(err error, format string, args ...any) error {
	if hint.Of(err) != "" {
		return err
	}
	return hint.Wrap(err, format, args...)
}

// recordFolder reads each file of a folder once, however many selectors name it.
type recordFolder struct {
	*recordFormat
	dir       string
	selectors [3]string
	valGiven  bool // the recipe asks for a val split by name
	classes   []string
	files     map[string]*recordFile
	first     *recordFile // the first that was read: all have images of one shape
}

type recordFile struct {
	name    string
	info    fs.FileInfo
	records []record
	shape   [3]int // C, H, W
}

// same reports whether two names lead to one file, or to one file and its gzipped copy.
func (f *recordFile) same(g *recordFile) bool {
	return os.SameFile(f.info, g.info) || strings.TrimSuffix(f.name, ".gz") == strings.TrimSuffix(g.name, ".gz")
}

// span is the records from from up to but without to of a file.
type span struct {
	file     *recordFile
	from, to int
}

func (k *recordFormat) folder(dir string, o Options) (*recordFolder, error) {
	if len(o.Size) != 0 {
		err := fmt.Errorf("size: the images of %s files have a size of their own", k.name)
		return nil, hint.Wrap(err, "remove data.size; preprocess.size stretches images")
	}
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	classes, err := k.readClasses(filepath.Join(dir, k.classFile))
	if err != nil {
		return nil, err
	}
	f := &recordFolder{recordFormat: k, dir: dir, selectors: o.selectors(), valGiven: o.Val != "", classes: classes, files: map[string]*recordFile{}}
	for i, s := range f.selectors {
		if s == "" {
			f.selectors[i] = k.selectors[i]
		}
	}
	return f, nil
}

// readClasses reads one class name a line; without the file, the classes have the names they always had.
func (k *recordFormat) readClasses(path string) ([]string, error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k.classes, nil
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
	switch n := len(names); {
	case k.fixed && n != len(k.classes):
		return nil, fmt.Errorf("read %s: %d class names, want %d", path, n, len(k.classes))
	case n < 2 || n > 256: // a label is a byte
		return nil, fmt.Errorf("read %s: %d class names, want 2 to 256", path, n)
	}
	return names, nil
}

// hasVal reports whether the val split has files of its own.
func (f *recordFolder) hasVal() bool {
	if f.valGiven {
		return true
	}
	names, _ := fs.Glob(os.DirFS(f.dir), f.selectors[1]) // the pattern is known to be good
	return len(names) > 0
}

// selectSpans reads the files that a selector matches and returns what it selects of each. Of a file and its gzipped
// copy, as downloads leave them side by side, it takes the file.
func (f *recordFolder) selectSpans(text string) ([]span, error) {
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
		if plain, zipped := strings.CutSuffix(name, ".gz"); zipped && slices.Contains(names, plain) {
			continue
		}
		file, err := f.file(name)
		if err != nil {
			return nil, err
		}
		n := len(file.records)
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

func (f *recordFolder) file(name string) (*recordFile, error) {
	if file, ok := f.files[name]; ok {
		return file, nil
	}
	path := filepath.Join(f.dir, filepath.FromSlash(name))
	in, info, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	list, shape, err := f.read(in, path, len(f.classes))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	file := &recordFile{name, info, list, shape}
	if f.first == nil {
		f.first = file
	}
	if one := f.first; one.shape != shape {
		err := fmt.Errorf("the images of %s are %dx%d, those of %s %dx%d", name, shape[1], shape[2], one.name, one.shape[1], one.shape[2])
		return nil, hint.Wrap(err, "select files with images of one size")
	}
	f.files[name] = file
	return file, nil
}

// openRegular opens a file that is neither a folder nor a device.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := in.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("read %s: not a file", path)
	}
	if err != nil {
		in.Close()
		return nil, nil, err
	}
	return in, info, nil
}

// unzipped undoes the compression of a file, where there is one. No record file that is not compressed begins as a gzip
// file does. size is how many bytes a file that is not compressed has; 0 where only reading it says so.
func unzipped(r io.Reader) (out io.Reader, size int64, err error) {
	in := bufio.NewReader(r)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		out, err = gzip.NewReader(in)
		return out, 0, err
	}
	if f, ok := r.(fs.File); ok {
		info, err := f.Stat()
		if err != nil {
			return nil, 0, err
		}
		size = info.Size()
	}
	return in, size, nil
}

// readUpTo is io.ReadAll of at most limit bytes. For those that a file has on disk it makes room once, where io.ReadAll allocates more
// than twice as much. onDisk may be wrong, or 0.
func readUpTo(r io.Reader, limit int, onDisk int64) ([]byte, error) {
	b := make([]byte, min(int64(limit), onDisk))
	n, err := io.ReadFull(r, b)
	if n < len(b) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		return b[:n], err
	}
	rest, err := io.ReadAll(io.LimitReader(r, int64(limit-n)))
	if n == 0 {
		return rest, err
	}
	return append(b, rest...), err
}

func (f *recordFolder) source(spans []span) *records {
	src := &records{shape: f.first.shape, classes: f.classes}
	for _, s := range spans {
		src.list = append(src.list, s.file.records[s.from:s.to]...)
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
