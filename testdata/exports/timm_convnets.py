"""ConvNeXt, EfficientNet, MobileNet and ResNet in the idioms of timm; see timm.py."""
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from timm_transformers import DropPath, Mlp


# --- ConvNeXt ------------------------------------------------------------------------------------------------------------

class LayerNorm2d(nn.LayerNorm):
    """Over the channels of [N,C,H,W]: as a LayerNorm between two permutations, or by hand."""

    def __init__(self, dim, by_hand=False):
        super().__init__(dim, eps=1e-6)
        self.by_hand = by_hand

    def forward(self, x):
        if not self.by_hand:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        u = x.mean(dim=1, keepdim=True)
        s = (x * x).mean(dim=1, keepdim=True) - u * u
        x = (x - u) * torch.rsqrt(s + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class HandLayerNorm(nn.LayerNorm):
    """ConvNeXt's own: x minus its mean over the root of its variance."""

    def forward(self, x):
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class GlobalResponseNorm(nn.Module):
    """ConvNeXt V2's, with the channels last."""

    def __init__(self, dim):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(dim) * 0.1), nn.Parameter(torch.randn(dim) * 0.1)

    def forward(self, x):
        g = x.norm(p=2, dim=(1, 2), keepdim=True)
        n = g / (g.mean(dim=-1, keepdim=True) + 1e-6)
        return x + torch.addcmul(self.bias.view(1, 1, 1, -1), self.weight.view(1, 1, 1, -1), x * n)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim, conv_mlp, v2):
        super().__init__()
        self.conv_mlp, self.gamma = conv_mlp, None if v2 else nn.Parameter(torch.full((dim,), 0.5))
        self.conv_dw = nn.Conv2d(dim, dim, 7, 1, 3, groups=dim)
        self.norm = HandLayerNorm(dim, eps=1e-6) if conv_mlp else nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 2 * dim, make=partial(nn.Conv2d, kernel_size=1) if conv_mlp else nn.Linear)
        if v2:
            self.mlp.drop = nn.Identity()
            self.mlp.act = nn.Sequential(nn.GELU(), GlobalResponseNorm(2 * dim))
        self.drop_path = DropPath()

    def forward(self, x):
        shortcut, x = x, self.conv_dw(x)
        if self.conv_mlp:
            x = self.mlp(self.norm(x))
        else:
            x = self.mlp(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        if self.gamma is not None:
            x = x.mul(self.gamma.reshape(1, -1, 1, 1))
        return self.drop_path(x) + shortcut


class ConvNeXt(nn.Module):
    def __init__(self, conv_mlp=False, v2=False, by_hand=False, dims=(8, 16)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), LayerNorm2d(dims[0], by_hand))
        self.stages = nn.Sequential(
            ConvNeXtBlock(dims[0], conv_mlp, v2), LayerNorm2d(dims[0], by_hand), nn.Conv2d(dims[0], dims[1], 2, 2),
            ConvNeXtBlock(dims[1], conv_mlp, v2))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), LayerNorm2d(dims[1], by_hand), nn.Flatten(1), nn.Dropout(0.1),
                                  nn.Linear(dims[1], 10))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


# --- EfficientNet, MobileNet ---------------------------------------------------------------------------------------------

def same_padding(x, k, s, traced):
    """What TensorFlow's SAME pads in all; traced: computed in the graph from the size that the image has there."""
    if traced:
        return ((torch.as_tensor(x).float() / s).ceil().long().sub(1).mul(s).add(k).sub(x)).clamp(min=0)
    return max((math.ceil(int(x) / s) - 1) * s + k - int(x), 0)


def pad_same(x, k, s, traced, value=0.0):
    ih, iw = x.size()[-2:]
    h, w = same_padding(ih, k, s, traced), same_padding(iw, k, s, traced)
    return F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2), value=value)


class Conv2dSame(nn.Conv2d):
    traced = True

    def forward(self, x):
        x = pad_same(x, self.kernel_size[0], self.stride[0], self.traced)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class MaxPool2dSame(nn.MaxPool2d):
    def forward(self, x):
        return F.max_pool2d(pad_same(x, self.kernel_size, self.stride, True, -float("inf")), self.kernel_size, self.stride)


class BatchNormAct2d(nn.BatchNorm2d):
    def __init__(self, dim, act=None):
        super().__init__(dim, eps=1e-3)
        self.drop, self.act = nn.Identity(), act() if act else nn.Identity()

    def forward(self, x):
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)
        return self.act(self.drop(x))


class Swish(nn.Module):
    def forward(self, x):
        return x.mul(x.sigmoid())


class HardSwishByHand(nn.Module):
    def forward(self, x):
        return x * (F.relu6(x + 3.0) / 6.0)


class HardSigmoidByHand(nn.Module):
    def forward(self, x):
        return F.relu6(x + 3.0) / 6.0


class SqueezeExcite(nn.Module):
    def __init__(self, dim, act, gate=nn.Sigmoid):
        super().__init__()
        self.conv_reduce, self.act1, self.conv_expand, self.gate = nn.Conv2d(dim, 4, 1), act(), nn.Conv2d(4, dim, 1), gate()

    def forward(self, x):
        s = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(s))))


class InvertedResidual(nn.Module):
    def __init__(self, cin, cout, k, stride, act, conv, se=None):
        super().__init__()
        mid = 2 * cin
        self.skip = stride == 1 and cin == cout
        self.conv_pw, self.bn1 = nn.Conv2d(cin, mid, 1, bias=False), BatchNormAct2d(mid, act)
        self.conv_dw, self.bn2 = conv(mid, mid, k, stride, groups=mid, bias=False), BatchNormAct2d(mid, act)
        self.se = se(mid) if se else nn.Identity()
        self.conv_pwl, self.bn3, self.drop_path = nn.Conv2d(mid, cout, 1, bias=False), BatchNormAct2d(cout), DropPath()

    def forward(self, x):
        y = self.bn3(self.conv_pwl(self.se(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x)))))))
        return self.drop_path(y) + x if self.skip else y


def padded(cin, cout, k, stride, **options):
    return nn.Conv2d(cin, cout, k, stride, k // 2, **options)


class SelectAdaptivePool2d(nn.Module):
    def __init__(self, kind="avg"):
        super().__init__()
        self.kind, self.flatten = kind, nn.Flatten(1)

    def forward(self, x):
        kinds = {
            "fast": lambda: x.mean((2, 3), keepdim=True),
            "fastmax": lambda: x.amax((2, 3), keepdim=True),
            "avg": lambda: F.adaptive_avg_pool2d(x, 1),
            "max": lambda: F.adaptive_max_pool2d(x, 1),
            "avgmax": lambda: 0.5 * (F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1)),
            "catavgmax": lambda: torch.cat((F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)), 1),
        }
        return self.flatten(kinds[self.kind]())


class EfficientNet(nn.Module):
    """late: MobileNetV3 has its last convolution after the pool."""

    def __init__(self, act, conv=padded, se=None, late=False, pool=None):
        super().__init__()
        self.conv_stem, self.bn1, self.pool = conv(3, 8, 3, 2, bias=False), BatchNormAct2d(8, act), pool or nn.Identity()
        self.blocks = nn.Sequential(InvertedResidual(8, 8, 3, 1, act, conv, se),
                                    InvertedResidual(8, 12, 5, 2, act, conv, se))
        self.conv_head, self.late = nn.Conv2d(12, 24, 1, bias=late), late
        self.bn2 = act() if late else BatchNormAct2d(24, act)
        self.global_pool, self.classifier = SelectAdaptivePool2d(), nn.Linear(24, 10)

    def forward(self, x):
        x = self.blocks(self.pool(self.bn1(self.conv_stem(x))))
        if self.late:
            x = self.bn2(self.conv_head(F.adaptive_avg_pool2d(x, 1))).flatten(1)
        else:
            x = self.global_pool(self.bn2(self.conv_head(x)))
        return self.classifier(F.dropout(x, 0.2, self.training))


def efficientnet_same(traced, pool=None):
    class Same(Conv2dSame):
        pass
    Same.traced = traced
    return EfficientNet(Swish, Same, partial(SqueezeExcite, act=Swish), pool=pool)


# --- ResNet --------------------------------------------------------------------------------------------------------------

class EfficientChannelAttention(nn.Module):
    """ECA: a convolution along the channels."""

    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv(x.mean((2, 3)).view(x.shape[0], 1, -1))
        return x * y.sigmoid().view(x.shape[0], -1, 1, 1).expand_as(x)


class BlurPool2d(nn.Module):
    """Anti-aliasing (Zhang 2019): a fixed binomial filter of each channel after a reflection at the edges."""

    def __init__(self, dim):
        super().__init__()
        self.dim, line = dim, torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", (line[:, None] * line)[None, None].repeat(dim, 1, 1, 1))

    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=self.dim)


class EvoNormS0(nn.Module):
    """x·sigmoid(v·x) over the deviation of its group."""

    def __init__(self, dim, groups=2):
        super().__init__()
        self.groups, self.v = groups, nn.Parameter(torch.ones(dim))
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        B, C, H, W = x.shape
        g = x.reshape(B, self.groups, -1)
        std = g.var(dim=2, unbiased=False, keepdim=True).add(1e-5).sqrt().expand(g.shape).reshape(x.shape)
        at = (1, -1, 1, 1)
        return x * (x * self.v.view(at)).sigmoid() / std * self.weight.view(at) + self.bias.view(at)


class GroupNormAct(nn.GroupNorm):
    def __init__(self, dim):
        super().__init__(2, dim)

    def forward(self, x):
        return F.relu(F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps), inplace=True)


def batch_norm(dim):
    return nn.Sequential(nn.BatchNorm2d(dim), nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, norm, attn, aa, size):
        super().__init__()
        down = cin != cout
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, 2 if down and not aa else 1, 1, bias=False), norm(cout)
        self.aa = aa(cout) if aa and down else nn.Identity()
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.se, self.downsample = attn(cout) if attn else nn.Identity(), nn.Identity()
        if down:
            pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
            self.downsample = nn.Sequential(pool, nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        return F.relu(self.se(self.bn2(self.conv2(self.aa(self.bn1(self.conv1(x)))))) + self.downsample(x))


class ResNetD(nn.Module):
    """A deep stem, and shortcuts that pool before they project (He et al. 2019, arXiv:1812.01187)."""

    def __init__(self, norm=batch_norm, attn=None, aa=None, pool="avg", size=32):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), batch_norm(6), nn.Conv2d(6, 8, 3, 1, 1, bias=False))
        self.bn1 = batch_norm(8)
        self.maxpool = nn.Sequential(nn.MaxPool2d(3, 1, 1), aa(8)) if aa else nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(BasicBlock(8, 8, norm, attn, aa, size), BasicBlock(8, 16, norm, attn, aa, size))
        self.global_pool = SelectAdaptivePool2d(pool)
        self.fc = nn.Linear(32 if pool == "catavgmax" else 16, 10)

    def forward(self, x):
        return self.fc(self.global_pool(self.layers(self.maxpool(self.bn1(self.conv1(x))))))
