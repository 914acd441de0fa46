package data

import (
	"fmt"
	"io"

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

var cifar = recordFormat{
	name:      "CIFAR-10",
	selectors: [3]string{"data_batch_*.bin*", "val*.bin*", "test_batch*.bin*"},
	sample:    "test_batch.bin",
	classFile: "batches.meta.txt",
	classes:   cifarClasses,
	fixed:     true,
	read:      readCIFAR,
}

func readCIFAR(file io.Reader, _ string, _ int) ([]record, [3]int, error) {
	b, err := decodeCIFAR(file, cifarLimit)
	if err != nil {
		return nil, [3]int{}, err
	}
	list := make([]record, len(b)/cifarRecord)
	for i := range list {
		r := b[i*cifarRecord:][:cifarRecord]
		list[i] = record{pixels: r[1:], label: r[0]}
	}
	return list, [3]int{3, cifarSide, cifarSide}, nil
}

// decodeCIFAR reads records, gzipped or not, at most limit of them, and checks their labels.
func decodeCIFAR(r io.Reader, limit int) ([]byte, error) {
	r, onDisk, err := unzipped(r) // no label is as large as the first byte of a gzip file
	if err != nil {
		return nil, err
	}
	size := limit * cifarRecord
	b, err := readUpTo(r, size+1, onDisk)
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
