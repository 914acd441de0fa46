package student

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// ViT is the vision transformer of Dosovitskiy et al. 2021 (arXiv:2010.11929), with torchvision's parameter names: patches
// of the image become tokens, which blocks of attention and of a multilayer perceptron change, each after a layer norm. Its
// positions are learnt for one size of image, in patches.
type ViT struct {
	Patch    int `yaml:"patch"`     // side of a patch in pixels, which divides the image's height and width; default 16
	Width    int `yaml:"width"`     // features of a token; vit_tiny 192, vit_small 384
	Depth    int `yaml:"depth"`     // blocks; default 12
	Heads    int `yaml:"heads"`     // of attention; they share the width; vit_tiny 3, vit_small 6
	MLPRatio int `yaml:"mlp_ratio"` // hidden features of a perceptron over width; default 4
	// Pool is what is classified: "token", a token of its own that attends to the others, or "mean", the mean of the patches'
	// tokens. Default "token".
	Pool string `yaml:"pool"`
}

// vit is a member of the family of ViT with 64 features a head.
func vit(patch, heads int) *ViT {
	if patch == 0 {
		patch = 16
	}
	return &ViT{Patch: patch, Width: 64 * heads, Depth: 12, Heads: heads, MLPRatio: 4, Pool: "token"}
}

// lnEps is what torchvision's ViT adds to a variance.
const lnEps = 1e-6

// Validate wants sizes that can be built, heads that share the width, and a known pool.
func (v *ViT) Validate() error {
	for _, s := range []struct {
		key       string
		size, max int
	}{{"patch", v.Patch, 256}, {"width", v.Width, 8192}, {"depth", v.Depth, 256}, {"heads", v.Heads, 256}, {"mlp_ratio", v.MLPRatio, 16}} {
		if s.size < 1 || s.size > s.max {
			return fmt.Errorf("%s must be in 1..%d, not %d", s.key, s.max, s.size)
		}
	}
	switch {
	case v.Width%v.Heads != 0:
		return fmt.Errorf("heads must divide the width of %d, which %d does not", v.Width, v.Heads)
	case v.Pool != "token" && v.Pool != "mean":
		return fmt.Errorf("pool must be token or mean, not %q", v.Pool)
	}
	return nil
}

// Build describes the network; its taps are block1, block2, … [N,L,D], L tokens of which the class's, if any, is the first,
// and pool [N,D].
func (v *ViT) Build(g *graph.Graph, x *G.Node, classes int) Model {
	s := graph.ShapeOf(x)
	if s[2]%v.Patch != 0 || s[3]%v.Patch != 0 {
		graph.Fail("vit", []graph.Shape{s}, "patches of %[1]dx%[1]d pixels do not cover the image; set student.patch or preprocess.size", v.Patch)
	}
	var class *G.Node
	if v.Pool == "token" {
		class = g.Param("class_token", graph.Shape{1, 1, v.Width}, graph.Constant(0))
	}
	x = nn.PatchEmbed{Name: "conv_proj", In: s[1], Out: v.Width, Patch: v.Patch}.Apply(g, x)
	if class != nil {
		x = op.Concat(1, op.ExpandBatch(class, x), x)
	}
	tokens := graph.ShapeOf(x)[1]
	x = op.Add(x, g.Param("encoder.pos_embedding", graph.Shape{1, tokens, v.Width}, nn.Normal(0.02)))
	var taps []Tap
	for i := range v.Depth {
		x = v.block(g, fmt.Sprintf("encoder.layers.encoder_layer_%d", i), x)
		taps = append(taps, Tap{fmt.Sprintf("block%d", i+1), x})
	}
	x = nn.LayerNorm{Name: "encoder.ln", Features: v.Width, Eps: lnEps}.Apply(g, x)
	var pooled *G.Node
	if class != nil {
		pooled = op.Index(x, 1, 0)
	} else {
		pooled = op.ReduceMean(x, []int{1}, false)
	}
	taps = append(taps, Tap{"pool", pooled})
	head := nn.Linear{Name: "heads.head", In: v.Width, Out: classes, Init: graph.Constant(0)}
	return Model{Logits: head.Apply(g, pooled), Taps: taps}
}

func (v *ViT) block(g *graph.Graph, name string, x *G.Node) *G.Node {
	y := nn.LayerNorm{Name: name + ".ln_1", Features: v.Width, Eps: lnEps}.Apply(g, x)
	x = op.Add(x, nn.Attention{Name: name + ".self_attention", Width: v.Width, Heads: v.Heads}.Apply(g, y))
	y = nn.LayerNorm{Name: name + ".ln_2", Features: v.Width, Eps: lnEps}.Apply(g, x)
	// The biases start at 0, where torchvision draws them from N(0, 1e-12).
	hidden := v.MLPRatio * v.Width
	y = op.Gelu(nn.Linear{Name: name + ".mlp.0", In: v.Width, Out: hidden, Init: nn.XavierUniform}.Apply(g, y))
	return op.Add(x, nn.Linear{Name: name + ".mlp.3", In: hidden, Out: v.Width, Init: nn.XavierUniform}.Apply(g, y))
}
