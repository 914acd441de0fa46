package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"distill/internal/hint"
)

// folder is a Source of image files, one folder per class, decoded when they are read.
type folder struct {
	classes []string
	files   []imageFile
	h, w    int
	fit     fit // brings images to h×w; nil: they have that size
}

type imageFile struct {
	path  string
	label int
}

func (f *folder) Len() int             { return len(f.files) }
func (f *folder) Shape() (c, h, w int) { return 3, f.h, f.w }
func (f *folder) Classes() []string    { return f.classes }
func (f *folder) with(files []imageFile) *folder {
	return &folder{f.classes, files, f.h, f.w, f.fit}
}

func (f *folder) Read(i int, dst []float32) (int, error) {
	file := f.files[i]
	m, err := openImage(file.path)
	if err != nil {
		return 0, fmt.Errorf("data: read %s: %w", file.path, err)
	}
	if err := f.checkSize(m.Bounds().Size()); err != nil { // the file may have changed since it was opened
		return 0, fmt.Errorf("data: read %s: %w", file.path, err)
	}
	if f.fit == nil {
		covered(dst, m, 3, f.h, f.w)
	} else {
		f.fit(dst, m, 3, f.h, f.w)
	}
	return file.label, nil
}

// checkSize refuses an image of another size than the first one, unless all are brought to one.
func (f *folder) checkSize(size image.Point) error {
	if f.fit != nil || size == image.Pt(f.w, f.h) {
		return nil
	}
	err := fmt.Errorf("the image is %dx%d, the first one is %dx%d (height x width)", size.Y, size.X, f.h, f.w)
	return hint.Wrap(err, "set data.size, for example [%d, %d]", f.h, f.w)
}

// checkHeaders reads the header of every file, several at a time, and reports the first that does not belong.
func (f *folder) checkHeaders() error {
	errs := make([]error, len(f.files))
	var next atomic.Int64
	var failed atomic.Bool
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			// Files are handed out in order: those before the first bad one are all looked at.
			for i := int(next.Add(1)) - 1; i < len(f.files) && !failed.Load(); i = int(next.Add(1)) - 1 {
				size, err := readSize(f.files[i].path)
				if err == nil {
					err = f.checkSize(size)
				}
				if err != nil {
					errs[i] = fmt.Errorf("read %s: %w", f.files[i].path, err)
					failed.Store(true)
				}
			}
		})
	}
	workers.Wait()
	return cmp.Or(errs...)
}

func openFolder(dir string, o Options) (Splits, error) {
	l, err := newLayout(dir, o)
	if err != nil {
		return Splits{}, err
	}
	if err := l.apart(); err != nil {
		return Splits{}, err
	}
	var files [3][]imageFile
	for i, name := range splitNames {
		if files[i], err = l.split(name); err != nil {
			return Splits{}, err
		}
	}
	f, err := l.source(slices.Concat(files[:]...), o)
	if err != nil {
		return Splits{}, err
	}
	return Splits{f.with(files[0]), f.with(files[1]), f.with(files[2])}, nil
}

func openFolderSplit(dir, split string, o Options) (Split, error) {
	l, err := newLayout(dir, o)
	if err != nil {
		return Split{}, err
	}
	switch {
	case split == "" && l.flat:
		split = everything
	case split == "":
		split = "test"
	}
	files, err := l.split(split)
	if err != nil {
		return Split{}, err
	}
	f, err := l.source(files, o)
	return Split{f, split}, err
}

// layout is how the images of a data set lie in its folder.
type layout struct {
	dir      string
	sub      [3]string // folders of the splits, under dir
	flat     bool      // class folders directly in dir: the splits are a rule, not folders
	valGiven bool      // the recipe asks for a val folder by name
	classes  []string
}

func newLayout(dir string, o Options) (*layout, error) {
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	l := &layout{dir: dir, sub: o.selectors(), flat: true, valGiven: o.Val != ""}
	for i, s := range l.sub {
		if s == "" {
			l.sub[i] = splitNames[i]
		}
		if !filepath.IsLocal(filepath.FromSlash(l.sub[i])) {
			return nil, fmt.Errorf("selector %q leaves the source's folder", s)
		}
		if s != "" || l.has(i) {
			l.flat = false
		}
	}
	root := dir
	if !l.flat {
		// The training folder, where there is one, names the classes: one without a test image keeps its number.
		for i := 2; i >= 0; i-- {
			if l.has(i) {
				root = l.path(i)
			}
		}
	}
	var err error
	if l.classes, err = subfolders(root); err != nil {
		return nil, err
	}
	if len(l.classes) == 0 {
		return nil, hint.Wrap(fmt.Errorf("%s has no class folders", root), "images lie in one folder per class, as in train/cat/1.png")
	}
	return l, nil
}

// path is the folder of the split with index i in splitNames.
func (l *layout) path(i int) string { return filepath.Join(l.dir, filepath.FromSlash(l.sub[i])) }

func (l *layout) has(i int) bool {
	info, err := os.Stat(l.path(i))
	return err == nil && info.IsDir()
}

// split lists the images of a split, or, of a flat layout, everything, class by class.
func (l *layout) split(name string) ([]imageFile, error) {
	i := slices.Index(splitNames[:], name)
	if l.flat {
		all, err := listImages(l.dir, l.classes)
		if name == everything {
			return all, err
		}
		return slices.DeleteFunc(all, func(f imageFile) bool { return hashSplit(f, l.classes) != name }), err
	}
	heldOut := name != "test" && !l.valGiven && !l.has(1)
	if heldOut {
		i = 0
	}
	if !l.has(i) {
		err := fmt.Errorf("there is no folder %s", l.path(i))
		return nil, hint.Wrap(err, "set data.%s, or put the class folders directly into %s to have them split 80/10/10", name, l.dir)
	}
	files, err := listImages(l.path(i), l.classes)
	if !heldOut || err != nil {
		return files, err
	}
	var part []imageFile
	for j, nth := 0, 0; j < len(files); j++ {
		if j > 0 && files[j].label != files[j-1].label {
			nth = 0
		}
		nth++
		if (nth%10 == 0) == (name == "val") {
			part = append(part, files[j])
		}
	}
	return part, nil
}

// hashSplit names the split of an image in a flat folder; it depends on nothing but the image's class and name, so that
// images added later move none.
func hashSplit(f imageFile, classes []string) string {
	sum := sha256.Sum256([]byte(classes[f.label] + "/" + filepath.Base(f.path)))
	switch binary.BigEndian.Uint64(sum[:]) % 10 {
	case 8:
		return "val"
	case 9:
		return "test"
	}
	return "train"
}

// source makes a Source of files that are images by their headers; without o.Size the first one's size is everyone's.
func (l *layout) source(files []imageFile, o Options) (*folder, error) {
	f := &folder{classes: l.classes, files: files}
	switch {
	case len(o.Size) == 2:
		f.h, f.w, f.fit = o.Size[0], o.Size[1], covered
		if o.Stretch {
			f.fit = stretched
		}
	case len(files) > 0:
		size, err := readSize(files[0].path)
		if err == nil {
			err = hint.Wrap(checkSize([]int{size.Y, size.X}), "set data.size, for example [224, 224]")
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", files[0].path, err)
		}
		f.h, f.w = size.Y, size.X
	}
	return f, f.checkHeaders()
}

// listImages lists the PNG and JPEG files of each class folder of root, sorted by class, then name.
func listImages(root string, classes []string) ([]imageFile, error) {
	present, err := subfolders(root)
	if err != nil {
		return nil, err
	}
	for _, name := range present {
		if !slices.Contains(classes, name) {
			err := fmt.Errorf("%s is not one of the %d classes of the training images", filepath.Join(root, name), len(classes))
			return nil, hint.Wrap(err, "every split has the same class folders")
		}
	}
	var files []imageFile
	for label, class := range classes {
		dir := filepath.Join(root, class)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			switch strings.ToLower(filepath.Ext(e.Name())) {
			case ".png", ".jpg", ".jpeg":
				files = append(files, imageFile{filepath.Join(dir, e.Name()), label})
			}
		}
	}
	return files, nil
}

// subfolders lists the folders in dir, sorted by name, hidden ones left out.
func subfolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		// Stat follows links: data sets are often assembled from them.
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err == nil && info.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// apart refuses class folders that two splits share, be it through a link.
func (l *layout) apart() error {
	if l.flat {
		return nil
	}
	splits := map[string]string{} // by the class folder's real path
	for i, split := range splitNames {
		for _, class := range l.classes {
			dir := filepath.Join(l.path(i), class)
			real, err := filepath.EvalSymlinks(dir)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if other, ok := splits[real]; ok {
				return hint.Wrap(fmt.Errorf("%s is in the splits %s and %s", dir, other, split), "give the splits different folders")
			}
			splits[real] = split
		}
	}
	return nil
}
