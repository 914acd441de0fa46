package models_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManifestHoldsEveryModelAndItsLicence(t *testing.T) {
	manifest, err := os.ReadFile("SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(manifest)) {
		want, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || !filepath.IsLocal(name) {
			t.Fatalf("bad line %q", line)
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		sum := sha256.Sum256(content)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s has SHA-256 %s, the manifest says %s", name, got, want)
		}
		listed[name] = true
	}
	models, err := filepath.Glob("*.onnx")
	if err != nil || len(models) == 0 {
		t.Fatalf("no models, error %v", err)
	}
	for _, model := range models {
		licence := strings.TrimSuffix(model, ".onnx") + ".LICENSE"
		if !listed[model] || !listed[licence] {
			t.Errorf("the manifest lacks %s or %s", model, licence)
		}
	}
}
