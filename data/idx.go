package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"distill/internal/hint"
)

// What one IDX file may hold, and what a small gzip file may grow to: 1 GiB, and so many images or labels. EMNIST's largest
// file has 697,932 images in 547 MB.
const (
	idxLimit   = 1 << 30
	idxRecords = 4_000_000
)

// mnistClasses is the file that names the classes.
const mnistClasses = "classes.txt"

// mnist is the layout of MNIST, Fashion-MNIST and KMNIST: grey images in one IDX file and their labels in another,
// whose name has "labels" for "images".
var mnist = recordFormat{
	name:      "MNIST",
	selectors: [3]string{"train-images?idx3-ubyte*", "val*-images?idx3-ubyte*", "t10k-images?idx3-ubyte*"},
	sample:    "t10k-images-idx3-ubyte",
	classFile: mnistClasses,
	classes:   []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
	read:      readMNIST,
}

func readMNIST(file io.Reader, path string, classes int) ([]record, [3]int, error) {
	pixels, dims, err := decodeIDX(file, 3, idxLimit)
	if err != nil {
		return nil, [3]int{}, err
	}
	n, h, w := dims[0], dims[1], dims[2]
	if h > maxSide || w > maxSide {
		return nil, [3]int{}, fmt.Errorf("images of %dx%d: a side is %d at most", h, w, maxSide)
	}
	labels, err := readLabels(path, n, classes)
	if err != nil {
		return nil, [3]int{}, err
	}
	list := make([]record, n)
	for i := range list {
		list[i] = record{pixels: pixels[i*h*w:][:h*w], label: labels[i]}
	}
	return list, [3]int{1, h, w}, nil
}

// readLabels reads the labels of the n images in the file at path, each of 0..classes-1.
func readLabels(path string, n, classes int) ([]byte, error) {
	file, err := openLabels(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	labels, dims, err := decodeIDX(file, 1, idxLimit)
	if err != nil {
		return nil, fmt.Errorf("labels %s: %w", file.Name(), err)
	}
	if dims[0] != n {
		err := fmt.Errorf("labels %s: %d labels for %d images", file.Name(), dims[0], n)
		return nil, hint.Wrap(err, "both files must be of one data set")
	}
	for i, label := range labels {
		if int(label) >= classes {
			err := fmt.Errorf("labels %s: label %d of image %d is not 0..%d", file.Name(), label, i, classes-1)
			return nil, hint.Wrap(err, "name the classes, one a line, in a file %s beside it", mnistClasses)
		}
	}
	return labels, nil
}

// openLabels opens the labels beside a file of images: train-labels-idx1-ubyte beside train-images-idx3-ubyte. Either
// may be gzipped.
func openLabels(images string) (*os.File, error) {
	dir, name := filepath.Split(images)
	at := strings.LastIndex(name, "images")
	if at < 0 {
		err := errors.New(`its labels are in a file named with "labels" for "images", and its own name has no "images"`)
		return nil, hint.Wrap(err, "name the files as in train-images-idx3-ubyte and train-labels-idx1-ubyte")
	}
	name = name[:at] + "labels" + strings.ReplaceAll(name[at+len("images"):], "idx3", "idx1")
	other, zipped := strings.CutSuffix(name, ".gz")
	if !zipped {
		other += ".gz"
	}
	file, _, err := openRegular(dir + name)
	if errors.Is(err, fs.ErrNotExist) {
		if file, _, err = openRegular(dir + other); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there are no labels: neither %s nor %s", dir+name, filepath.Base(other))
		}
	}
	return file, err
}

// decodeIDX reads a file of unsigned bytes in so many dimensions, gzipped or not: at most limit bytes, and nothing behind
// them. The format is that of MNIST's page: two zero bytes, the type 8, the number of dimensions, the size of each as four
// bytes, highest first, and then the elements.
func decodeIDX(r io.Reader, dims, limit int) (b []byte, shape []int, err error) {
	r, onDisk, err := unzipped(r)
	if err != nil {
		return nil, nil, err
	}
	header := make([]byte, 4+4*dims)
	n, err := io.ReadFull(r, header)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it ends in the header, after %d bytes of %d", n, len(header))
	}
	if err != nil {
		return nil, nil, err
	}
	if want := [4]byte{0, 0, 8, byte(dims)}; [4]byte(header) != want {
		err := fmt.Errorf("it starts with % x, not with % x, as unsigned bytes in %d dimensions do", header[:4], want, dims)
		return nil, nil, hint.Wrap(err, "images are IDX files of 3 dimensions, such as train-images-idx3-ubyte, and labels of 1, beside them")
	}
	size := 1
	for i := range dims {
		d := int64(binary.BigEndian.Uint32(header[4+4*i:]))
		if d == 0 || d > int64(limit/size) || i == 0 && d > idxRecords {
			return nil, nil, fmt.Errorf("its header claims %d in dimension %d: want 1 or more, %d bytes at most in all, in %d images",
				d, i, limit, idxRecords)
		}
		shape = append(shape, int(d))
		size *= int(d)
	}
	// The header may lie: room is made for what the file has or, compressed, for what comes, not for what it claims.
	b, err = readUpTo(r, size+1, onDisk)
	switch {
	case err != nil:
		err = fmt.Errorf("after %d bytes: %w", len(header)+len(b), err)
	case len(b) < size:
		err = fmt.Errorf("it ends after %d bytes of the %d that its header claims", len(header)+len(b), len(header)+size)
	case len(b) > size:
		err = fmt.Errorf("something follows the %d bytes that its header claims", len(header)+size)
	}
	if err != nil {
		return nil, nil, err
	}
	return b, shape, nil
}
