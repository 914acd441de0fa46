"""ViT, DeiT and Swin in the idioms of timm; see timm.py."""
import torch
import torch.nn.functional as F
from torch import nn


# --- Vision transformers -------------------------------------------------------------------------------------------------

class Attention(nn.Module):
    """One product for queries, keys and values, told apart by unbind. The scale comes "before" the product or "after" it, or
    is "fused": its root on both sides, computed from the shape, as scaled_dot_product_attention is exported."""

    def __init__(self, dim, heads, scaled, qk_norm=False):
        super().__init__()
        self.heads, self.scale, self.scaled = heads, (dim // heads) ** -0.5, scaled
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.q_norm = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.scaled == "before":
            attn = (q * self.scale) @ k.transpose(-2, -1)
        elif self.scaled == "after":
            attn = (q @ k.transpose(-2, -1)) * self.scale
        else:
            root = (1 / torch.as_tensor(q.shape[-1]).to(q.dtype).sqrt()).sqrt()
            attn = (q * root) @ (k.transpose(-2, -1) * root)
        x = attn.softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(B, N, C))


class LayerScale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.3, 0.7, dim))

    def forward(self, x):
        return x * self.gamma


class DropPath(nn.Module):
    """Leaves out a sample's whole branch, in training alone."""

    def forward(self, x):
        if not self.training:
            return x
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(0.9) / 0.9


class Mlp(nn.Module):
    def __init__(self, dim, hidden, act=nn.GELU, make=nn.Linear):
        super().__init__()
        self.fc1, self.act, self.drop, self.fc2 = make(dim, hidden), act(), nn.Dropout(0.1), make(hidden, dim)

    def forward(self, x):
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(nn.Module):
    def __init__(self, dim, heads, scaled, qk_norm):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention(dim, heads, scaled, qk_norm)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), Mlp(dim, 2 * dim)
        self.ls1, self.ls2, self.drop_path = LayerScale(dim), LayerScale(dim), DropPath()

    def forward(self, x):
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class VisionTransformer(nn.Module):
    """pool: "token" is the class token, "avg" the mean of the others, normalised after it."""

    def __init__(self, dim=32, heads=2, depth=2, size=32, patch=8, pool="token", prefix=1, scaled="before", qk_norm=False):
        super().__init__()
        self.pool, self.prefix = pool, prefix
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        if prefix:
            self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, (size // patch) ** 2 + prefix, dim) * 0.1)
        self.blocks = nn.Sequential(*(Block(dim, heads, scaled, qk_norm) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6) if pool == "token" else nn.Identity()
        self.fc_norm = nn.LayerNorm(dim, eps=1e-6) if pool == "avg" else nn.Identity()
        self.head = nn.Linear(dim, 10)

    def tokens(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        if self.prefix:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.norm(self.blocks(x + self.pos_embed))

    def forward(self, x):
        x = self.tokens(x)
        x = x[:, 0] if self.pool == "token" else x[:, self.prefix:].mean(dim=1)
        return self.head(self.fc_norm(x))


class DistilledTransformer(VisionTransformer):
    """DeiT's: a class token, a distillation token, a head for each, and for inference the mean of both."""

    def __init__(self, dim=32, depth=2):
        super().__init__(dim=dim, depth=depth, prefix=2)
        self.dist_token = nn.Parameter(torch.randn(1, 1, dim))
        self.head_dist = nn.Linear(dim, 10)

    def tokens(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        B = x.shape[0]
        x = torch.cat((self.cls_token.expand(B, -1, -1), self.dist_token.expand(B, -1, -1), x), dim=1)
        return self.norm(self.blocks(x + self.pos_embed))

    def forward(self, x):
        x = self.tokens(x)
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


# --- Swin, with the channels last ----------------------------------------------------------------------------------------

def window_partition(x, w):
    B, H, W, C = x.shape
    return x.view(B, H // w, w, W // w, w, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, w, w, C)


def window_reverse(windows, w, H, W):
    C = windows.shape[-1]
    return windows.view(-1, H // w, W // w, w, w, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, H, W, C)


class WindowAttention(nn.Module):
    def __init__(self, dim, w, heads):
        super().__init__()
        self.w, self.heads, self.scale = w, heads, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * w - 1) ** 2, heads) * 0.1)
        at = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
        offset = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + w - 1
        self.register_buffer("relative_position_index", offset[..., 0] * (2 * w - 1) + offset[..., 1])

    def forward(self, x, mask=None):
        B_, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B_, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attn = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(N, N, -1)
        attn = attn + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            windows = mask.shape[0]
            attn = attn.view(-1, windows, self.heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.heads, N, N)
        x = attn.softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(B_, N, -1))


class SwinBlock(nn.Module):
    def __init__(self, dim, size, w, heads, shift):
        super().__init__()
        self.w, self.shift = w, shift
        self.norm1, self.attn = nn.LayerNorm(dim), WindowAttention(dim, w, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, 2 * dim)
        self.drop_path, mask = DropPath(), None
        if shift:
            regions = torch.zeros(1, size, size, 1)
            spans = [slice(0, -w), slice(-w, -shift), slice(-shift, None)]
            for i, (h, v) in enumerate((h, v) for h in spans for v in spans):
                regions[:, h, v] = i
            part = window_partition(regions, w).view(-1, w * w)
            mask = (part.unsqueeze(1) - part.unsqueeze(2)).ne(0) * -100.0
        self.register_buffer("attn_mask", mask)

    def attention(self, x):
        B, H, W, C = x.shape
        if self.shift:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        windows = window_partition(x, self.w).view(-1, self.w * self.w, C)
        x = window_reverse(self.attn(windows, self.attn_mask).view(-1, self.w, self.w, C), self.w, H, W)
        return torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2)) if self.shift else x

    def forward(self, x):
        B, H, W, C = x.shape
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x.reshape(B, -1, C)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.reshape(B, H, W, C)


class PatchMerging(nn.Module):
    """strided: four strided slices joined; otherwise one reshape and permutation, as timm does since 0.9."""

    def __init__(self, dim, strided):
        super().__init__()
        self.strided, self.norm, self.reduction = strided, nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        B, H, W, C = x.shape
        if self.strided:
            x = torch.cat([x[:, 0::2, 0::2, :], x[:, 1::2, 0::2, :], x[:, 0::2, 1::2, :], x[:, 1::2, 1::2, :]], -1)
        else:
            x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
            x = x.reshape(B, H // 2, 2, W // 2, 2, C).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    def __init__(self, strided, dim=16, size=32, patch=4, w=4):
        super().__init__()
        self.patch_embed, self.patch_norm = nn.Conv2d(3, dim, patch, patch), nn.LayerNorm(dim)
        self.layers = nn.Sequential(SwinBlock(dim, size // patch, w, 2, 0), SwinBlock(dim, size // patch, w, 2, w // 2),
                                    PatchMerging(dim, strided), SwinBlock(2 * dim, size // patch // 2, w, 2, 0))
        self.norm, self.fc = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 10)

    def forward(self, x):
        x = self.patch_norm(self.patch_embed(x).permute(0, 2, 3, 1))
        return self.fc(self.norm(self.layers(x)).mean((1, 2)))
