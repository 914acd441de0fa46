// Package onnx reads, examines, changes and writes ONNX models.
//
//	m, err := onnx.Read("teacher.onnx")
//	taps, err := m.Glob("layer*/Relu*")
//	tapped, err := m.WithOutputs(taps...) // m and the file stay as they are
//	b, err := tapped.Marshal()            // for an ONNX Runtime session
package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// maxSize is protobuf's own limit in bytes: no reader takes a larger message.
const maxSize = math.MaxInt32

// maxDepth bounds the nesting of messages, and so of subgraphs, as protobuf's C++ reader does.
const maxDepth = 100

// Model is an ONNX model in memory. A Model that Read or Parse returned is well formed: every name that a node reads is
// defined before it, once, and every tensor has the data that its dimensions ask for. Methods are not safe for use
// concurrent with SetMetadata, SetInitializer and FoldBatchNorm, the only ones that change the model.
type Model struct {
	// proto's messages below the graph are shared between a model and its copies: replace them, do not change them.
	proto  *pb.ModelProto
	name   string // the file, for errors
	sha256 string // of the bytes it was parsed from

	laidOut  map[string]graph.Tensor
	winograd int
}

// Read loads a model file. Its errors name the file and what is wrong with it: not an ONNX file (and what it looks like
// instead), truncated, over 2 GiB, or not well formed. Weights kept in files of their own (external data) are not loaded.
func Read(path string) (*Model, error) {
	m, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("onnx: read %s: %w", path, err)
	}
	return m, nil
}

func read(path string) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bare(err)
	}
	if !info.Mode().IsRegular() { // a device or a pipe may have no end
		return nil, errors.New("not a regular file")
	}
	if info.Size() > maxSize {
		return nil, fmt.Errorf("the file has %d bytes, an ONNX model at most %d", info.Size(), maxSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, bare(err)
	}
	return parse(b, path)
}

// bare strips the path from a file error, where the message names it already.
func bare(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// Parse decodes a model from the bytes of a file. The name stands for the file in errors. The bytes are not kept.
func Parse(b []byte, name string) (*Model, error) {
	m, err := parse(b, name)
	if err != nil {
		return nil, fmt.Errorf("onnx: parse %s: %w", name, err)
	}
	return m, nil
}

func parse(b []byte, name string) (*Model, error) {
	if len(b) > maxSize {
		return nil, fmt.Errorf("%d bytes, an ONNX model has at most %d", len(b), maxSize)
	}
	var p pb.ModelProto
	err := proto.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(b, &p)
	// Protobuf takes many a stray file for a message of unknown fields: a graph is what makes it a model.
	if what := resembles(b); what != "" && (err != nil || p.Graph == nil) {
		return nil, hint.Wrap(fmt.Errorf("not an ONNX model: it looks like %s", what),
			"export the network to ONNX, for example with torch.onnx.export")
	}
	if err != nil {
		if cut := truncation(b); cut != nil {
			return nil, hint.Wrap(cut, "copy or export the file again")
		}
		return nil, hint.Wrap(fmt.Errorf("not an ONNX model, or a damaged one: %w", err), "copy or export the file again")
	}
	if err := check(&p); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return &Model{proto: &p, name: name, sha256: hex.EncodeToString(sum[:])}, nil
}

// SHA256 is that of the bytes that Read or Parse decoded, as 64 hexadecimal digits, whatever was changed in the model since;
// "" for a model that was not decoded, a copy with other outputs among them.
func (m *Model) SHA256() string { return m.sha256 }

// LaidOut are weights of convolutions that Lower was given and laid out for a target with blocks: inputs of the model, after all
// others and by name, which every run takes. As initializers ONNX Runtime would copy them several times.
func (m *Model) LaidOut() map[string]graph.Tensor { return m.laidOut }

// InBlocks reports whether Lower laid out images, or rows, in blocks of channels.
func (m *Model) InBlocks() bool {
	return slices.ContainsFunc(m.proto.Graph.Node, func(n *pb.NodeProto) bool { return n.GetDomain() == nchwcDomain })
}

// Winograd counts the convolutions that Lower wrote by Winograd's algorithm, for a target that has it; gradients do not count.
func (m *Model) Winograd() int { return m.winograd }

// truncation explains bytes that end inside a top-level field of a model; nil where they do not, or are no model.
func truncation(b []byte) error {
	fields := (&pb.ModelProto{}).ProtoReflect().Descriptor().Fields()
	for at := 0; at < len(b); {
		num, typ, n := protowire.ConsumeTag(b[at:])
		if n < 0 {
			return nil
		}
		field := fields.ByNumber(num)
		if field == nil {
			return nil
		}
		start := at + n
		n = protowire.ConsumeFieldValue(num, typ, b[start:])
		if n < 0 {
			if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
				return fmt.Errorf("truncated: the file ends at byte %d, inside the field %q that begins at byte %d",
					len(b), field.Name(), at)
			}
			return nil
		}
		at = start + n
	}
	return nil
}

// Marshal encodes the model, always to the same bytes. It fails on a model over 2 GiB.
func (m *Model) Marshal() ([]byte, error) {
	if n := proto.Size(m.proto); n > maxSize {
		return nil, fmt.Errorf("onnx: marshal %s: %d bytes, an ONNX model has at most %d", m.name, n, maxSize)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.proto)
	if err != nil {
		return nil, fmt.Errorf("onnx: marshal %s: %w", m.name, err)
	}
	return b, nil
}

// Write stores the model at path, whole or not at all: on an error nothing is left behind, and a file already there is
// as it was.
func (m *Model) Write(path string) error {
	b, err := m.Marshal()
	if err != nil {
		return err
	}
	err = atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	return nil
}
