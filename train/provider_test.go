package train

import (
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/runtime"
)

func TestRecipeNamesTheProviderOfTheStudentsStep(t *testing.T) {
	for _, c := range []struct {
		text string
		want runtime.Provider
	}{
		{"", runtime.Provider{Name: "cpu"}},
		{"engine: gorgonia\nprovider: cpu\n", runtime.Provider{Name: "cpu"}},
		{"provider: webgpu\n", runtime.Provider{Name: "webgpu"}},
		{"provider: cuda\nprovider_options: {device_id: \"1\", gpu_mem_limit: \"1000000000\"}\n",
			runtime.Provider{Name: "cuda", Options: map[string]string{"device_id": "1", "gpu_mem_limit": "1000000000"}}},
	} {
		r := parsed(t, someData+c.text)
		whole, err := r.Text()
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []*Recipe{r, parsed(t, whole)} {
			if p := got.provider(); p.Name != c.want.Name || len(p.Options) != len(c.want.Options) || p.Options["device_id"] != c.want.Options["device_id"] {
				t.Errorf("%q: provider %+v, want %+v", c.text, p, c.want)
			}
		}
	}
}

func TestRecipeRefusesAProviderEarly(t *testing.T) {
	for _, c := range []struct{ text, cause, hint string }{
		{"provider: tpu", `provider "tpu" is unknown`, "cpu, cuda, webgpu"},
		{"provider: cuda\nprovider_options: {tf32: \"1\"}", `there is no option "tf32"`, "use_tf32"},
		{"provider_options: {device_id: \"1\"}", `provider cpu: there is no option "device_id"`, "no options"},
		{"engine: gorgonia\nprovider: webgpu", "engine gorgonia knows the CPU alone, not provider webgpu", "engine: onnxruntime"},
	} {
		_, err := ParseRecipe([]byte(someData+c.text+"\n"), "recipe.yaml", nil)
		if err == nil || !strings.Contains(err.Error(), c.cause) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%s: error %v, hint %q", c.text, err, hint.Of(err))
		}
	}
}
