// Package checkpoint keeps a training run on disk: every tensor of a store and the trainer's own state, in one file.
//
//	err := checkpoint.Save("run/last.ckpt", store, trainerState)
//	store, err := checkpoint.Load("run/last.ckpt", &trainerState)
package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/internal/safetensors"
	"distill/runtime/graph"
)

// A checkpoint is a safetensors file. A tensor is named for its kind and itself, as "param/conv1.weight"; the metadata holds
// these keys. The checksum is the SHA-256 of the very file without its checksum, so that it covers names, shapes and state too.
const (
	versionKey  = "distill.checkpoint"
	stateKey    = "state"
	checksumKey = "sha256"

	version = "1"
)

// Save writes store and state, in JSON, to path, replacing the checkpoint there. Whatever happens meanwhile, a kill or a full
// disk, path holds the old checkpoint or the new one, whole. Temporary files that a killed Save of this path left behind are
// removed first; only one process at a time may save to a path.
func Save(path string, store *graph.Store, state any) error {
	if err := save(path, store, state); err != nil {
		return fmt.Errorf("checkpoint: save %s: %w", path, err)
	}
	return nil
}

func save(path string, store *graph.Store, state any) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	tensors := map[string]graph.Tensor{}
	for _, name := range store.Names() {
		t, _ := store.Tensor(name)
		tensors[store.Kind(name).String()+"/"+name] = t
	}
	meta := map[string]string{versionKey: version, stateKey: string(text)}
	sum, err := checksum(tensors, meta)
	if err != nil {
		return err
	}
	meta[checksumKey] = sum
	if err := removeStale(path); err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error { return safetensors.Write(w, tensors, meta) })
}

func removeStale(path string) error {
	stale, err := filepath.Glob(atomicfile.Pattern(path))
	for _, name := range stale {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// checksum is the SHA-256, in hexadecimal, of the file that tensors and meta would make.
func checksum(tensors map[string]graph.Tensor, meta map[string]string) (string, error) {
	h := sha256.New()
	err := safetensors.Write(h, tensors, meta)
	return hex.EncodeToString(h.Sum(nil)), err
}

// Load reads a checkpoint: its tensors into a new store, and its state, by encoding/json, into what state points to, where
// every field of the file must exist. The error names the file and what is wrong with it: no checkpoint, another version,
// truncated, a checksum that does not match, or another state; state is then as it was unless the last is the cause.
func Load(path string, state any) (*graph.Store, error) {
	store, err := load(path, state)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: load %s: %w", path, err)
	}
	return store, nil
}

func load(path string, state any) (*graph.Store, error) {
	file, err := safetensors.ReadFile(path)
	if err != nil {
		return nil, err
	}
	switch v, ok := file.Meta[versionKey]; {
	case !ok:
		return nil, hint.Wrap(errors.New("a safetensors file, but not a checkpoint"), "give the last or best checkpoint of a run folder")
	case v != version:
		return nil, hint.Wrap(fmt.Errorf("checkpoint version %q, this program reads %q", v, version), "use the version of distill that wrote it")
	}
	want := file.Meta[checksumKey]
	delete(file.Meta, checksumKey)
	switch got, err := checksum(file.Tensors, file.Meta); {
	case err != nil:
		return nil, err
	case got != want:
		return nil, hint.Wrap(fmt.Errorf("damaged: its checksum is %.12s…, not %.12s…", got, want), "take another checkpoint of the run")
	}
	store := &graph.Store{}
	for key, t := range file.Tensors {
		prefix, name, _ := strings.Cut(key, "/")
		kind, ok := kinds[prefix]
		if !ok {
			return nil, fmt.Errorf("tensor %q is of no known kind", key)
		}
		store.Set(name, kind, t)
	}
	d := json.NewDecoder(bytes.NewReader([]byte(file.Meta[stateKey])))
	d.DisallowUnknownFields()
	if err := d.Decode(state); err != nil {
		return nil, fmt.Errorf("its state does not fit: %w", err)
	}
	return store, nil
}

var kinds = map[string]graph.Kind{
	graph.Param.String():  graph.Param,
	graph.State.String():  graph.State,
	graph.Moment.String(): graph.Moment,
}
