#!/usr/bin/env python3
"""Writes adapters.json beside itself: adapters between a student's tensor and a teacher's, by PyTorch's autograd in float64.

    python3 adapters.py

The file maps a case's name to

    {"adapter": "…", "settings": "{…}" (YAML), "student": shape, "teacher": shape,
     "output": [elements of what the adapter gives], "gradient": [elements, with respect to the student's tensor],
     "parameters": {"…": {"shape": […], "k": k, "gradient": […]}, …}, in training mode, named without the adapter's prefix}

with elements in row-major order. Everything that goes in is a function of an element's number i:

    student      sin(12.9898·(i+1))
    teacher      cos(2.3·i + 0.5)
    parameter    0.5·sin(0.7·i + k), and 1 more for the weight of a norm; k numbers the parameters of a case from 0

and what is differentiated is Σ y_i·sin(i+1) over the elements y_i of the output. The modules say what each adapter is. No ReLU
has an input within 1e-5 of 0.

Needs PyTorch 1.13 (Debian: python3-torch).
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn


def relu(x):
    assert x.abs().min() > 1e-5, "a ReLU is at its kink: choose other inputs"
    return F.relu(x)


def resized(x, size):
    """Shrinks by adaptive average pooling or grows by bilinear interpolation."""
    if x.shape[2] > size[0]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class Linear(nn.Linear):
    def __init__(self, student, teacher):
        super().__init__(student[-1], teacher[-1])

    def forward(self, student, teacher):
        return super().forward(student)


class Conv(nn.Conv2d):
    """1x1 convolution, then the teacher's size."""

    def __init__(self, student, teacher):
        super().__init__(student[1], teacher[1], 1)

    def forward(self, student, teacher):
        return resized(super().forward(student), teacher.shape[2:])


class ConvReg(nn.Module):
    """Regressor of FitNets as mdistiller and RepDistiller have it."""

    def __init__(self, student, teacher):
        super().__init__()
        c, d, hs, ht = student[1], teacher[1], student[2], teacher[2]
        if hs == 2 * ht:
            self.conv = nn.Conv2d(c, d, 3, stride=2, padding=1)
        elif 2 * hs == ht:
            self.conv = nn.ConvTranspose2d(c, d, 4, stride=2, padding=1)
        else:
            self.conv = nn.Conv2d(c, d, 1 + hs - ht)
        self.bn = nn.BatchNorm2d(d)

    def forward(self, student, teacher):
        return relu(self.bn(self.conv(student)))


def tokens_of(x):
    return x.flatten(2).transpose(1, 2) if x.dim() == 4 else x


class Attention(nn.Module):
    """Queries of the teacher, or of learnt places, keys and values of the student."""

    def __init__(self, student, teacher, places=False):
        super().__init__()
        (m, other), (l, d) = ((s[2] * s[3], s[1]) if len(s) == 4 else s[1:] for s in (student, teacher))
        if places:
            self.query = nn.Parameter(torch.empty(1, l, d))
            self.key = nn.Parameter(torch.empty(1, m, other))
        self.places = places
        self.conv = nn.Conv2d(d, d, 1)
        self.norm = nn.GroupNorm(4, d)
        self.attention = nn.MultiheadAttention(d, 4, kdim=other, vdim=other, batch_first=True)

    def forward(self, student, teacher):
        asked, values = tokens_of(teacher), tokens_of(student)
        keys = values
        if self.places:
            asked, keys = self.query.expand(len(student), -1, -1), values + self.key
        query = F.gelu(self.norm(self.conv(asked.transpose(1, 2)[..., None])))
        y, _ = self.attention(tokens_of(query), keys, values)
        return y.transpose(1, 2).reshape(teacher.shape) if teacher.dim() == 4 else y


class Places(Attention):
    def __init__(self, student, teacher):
        super().__init__(student, teacher, places=True)


class Tokens(nn.Linear):
    """A map as tokens, or tokens on another grid; each has its class token or not."""

    def __init__(self, student, teacher):
        super().__init__(student[1] if len(student) == 4 else student[2], teacher[2])

    def forward(self, student, teacher):
        x, c = student, None
        if x.dim() == 3:
            side = math.isqrt(x.shape[1])
            if side**2 != x.shape[1]:
                c, x = x[:, :1], x[:, 1:]
            x = x.transpose(1, 2).unflatten(2, (side, side))
        if c is None:
            c = x.mean((2, 3))[:, None]
        side = math.isqrt(teacher.shape[1])
        y = resized(x, (side, side)).flatten(2).transpose(1, 2)
        if side**2 != teacher.shape[1]:
            y = torch.cat([c, y], 1)
        return super().forward(y)


class Map(nn.Conv2d):
    """Tokens as a map."""

    def __init__(self, student, teacher):
        super().__init__(student[2], teacher[1], 1)

    def forward(self, student, teacher):
        side = math.isqrt(student.shape[1])
        x = student[:, student.shape[1] - side**2:].transpose(1, 2).unflatten(2, (side, side))
        return resized(super().forward(x), teacher.shape[2:])


class Separable(nn.Module):
    def __init__(self, c, d):
        super().__init__()
        self.dw1 = nn.Conv2d(c, c, 3, stride=2, padding=1, groups=c, bias=False)
        self.pw1 = nn.Conv2d(c, c, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.dw2 = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
        self.pw2 = nn.Conv2d(c, d, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(d)

    def forward(self, x):
        x = relu(self.bn1(self.pw1(self.dw1(x))))
        return relu(self.bn2(self.pw2(self.dw2(x))))


class OFAMaps(nn.Module):
    def __init__(self, student, teacher, stage, width):
        super().__init__()
        c = student[1]
        if stage == 4:
            self.conv = nn.Conv2d(c, width, 1)
        else:
            for i in range(4 - stage):
                setattr(self, f"sep{i + 1}", Separable(c, width if i == 3 - stage else 2 * c))
                c *= 2
        self.head = nn.Linear(width, teacher[1])

    def forward(self, student, teacher):
        x = student
        for part in list(self.children())[:-1]:
            x = part(x)
        return self.head(x.mean((2, 3)))


class Merge(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm = nn.LayerNorm(4 * d)
        self.reduction = nn.Linear(4 * d, d, bias=False)

    def forward(self, x):
        side = math.isqrt(x.shape[1])
        x = x.unflatten(1, (side, side))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.reduction(self.norm(x.flatten(1, 2)))


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(d)
        self.self_attention = nn.MultiheadAttention(d, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Identity(), nn.Linear(4 * d, d))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y)[0]
        return x + self.mlp(self.ln_2(x))


class OFATokens(nn.Module):
    def __init__(self, student, teacher, stage, heads):
        super().__init__()
        d = student[2]
        self.merges = max(int(math.log2(math.isqrt(student[1]) / 7)), 0)
        for i in range(self.merges):
            setattr(self, f"merge{i + 1}", Merge(d))
        self.blocks = max(4 - stage, 1)
        for i in range(self.blocks):
            setattr(self, f"block{i + 1}", Block(d, heads))
        self.head = nn.Linear(d, teacher[1])

    def forward(self, student, teacher):
        c = student.shape[1] - math.isqrt(student.shape[1]) ** 2
        x = student[:, c:]
        for i in range(self.merges):
            x = getattr(self, f"merge{i + 1}")(x)
            if i == 0 or i < self.merges - 1:
                x = F.gelu(x)
        x = torch.cat([student[:, :c], x], 1)
        for i in range(self.blocks):
            x = getattr(self, f"block{i + 1}")(x)
        return self.head(x[:, 0] if c else x.mean(1))


def filled(shape, value):
    """value gives element i."""
    return torch.tensor([value(i) for i in range(math.prod(shape))], dtype=torch.float64).reshape(shape)


def flat(t):
    return t.detach().flatten().tolist()


def golden(adapter, module, student, teacher, settings="{}"):
    module.double().train()
    norms = {f"{name}.weight" for name, m in module.named_modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm))}
    for k, (name, p) in enumerate(module.named_parameters()):
        p.data = filled(p.shape, lambda i: 0.5 * math.sin(0.7 * i + k) + (name in norms))
    s = filled(student, lambda i: math.sin(12.9898 * (i + 1))).requires_grad_()
    y = module(s, filled(teacher, lambda i: math.cos(2.3 * i + 0.5)))
    assert list(y.shape) == teacher, "it does not have the teacher's shape"
    (y * filled(y.shape, lambda i: math.sin(i + 1))).sum().backward()
    return {
        "adapter": adapter, "settings": settings, "student": student, "teacher": teacher,
        "output": flat(y), "gradient": flat(s.grad),
        "parameters": {name: {"shape": list(p.shape), "k": k, "gradient": flat(p.grad)}
                       for k, (name, p) in enumerate(module.named_parameters())},
    }


def main():
    torch.set_num_threads(1)  # the order of sums, and so the last digits, depend on it
    goldens = {}
    for name, adapter, make, student, teacher in [
        ("linear of vectors", "linear", Linear, [3, 4], [3, 5]),
        ("linear of tokens", "linear", Linear, [2, 5, 4], [2, 5, 3]),
        ("conv of the same size", "conv", Conv, [2, 3, 4, 3], [2, 4, 4, 3]),
        ("conv of a larger map", "conv", Conv, [2, 3, 8, 6], [2, 4, 4, 3]),
        ("conv of a map larger by no whole number", "conv", Conv, [2, 3, 7, 5], [2, 4, 3, 2]),
        ("conv of a smaller map", "conv", Conv, [2, 3, 3, 2], [2, 4, 6, 5]),
        ("convreg of the same size", "convreg", ConvReg, [2, 3, 4, 4], [2, 4, 4, 4]),
        ("convreg of twice the size", "convreg", ConvReg, [2, 3, 6, 8], [2, 4, 3, 4]),
        ("convreg of half the size", "convreg", ConvReg, [2, 3, 3, 2], [2, 4, 6, 4]),
        ("convreg of two pixels more", "convreg", ConvReg, [2, 3, 6, 5], [2, 4, 4, 3]),
        ("tokens of a map", "tokens", Tokens, [2, 3, 6, 6], [2, 9, 4]),
        ("tokens of a map, with a class", "tokens", Tokens, [2, 3, 2, 2], [2, 10, 4]),
        ("tokens of tokens, both with a class", "tokens", Tokens, [2, 17, 3], [2, 5, 4]),
        ("tokens of tokens, without the class", "tokens", Tokens, [2, 17, 3], [2, 4, 4]),
        ("map of tokens", "map", Map, [2, 4, 3], [2, 4, 4, 4]),
        ("map of tokens with a class", "map", Map, [2, 17, 3], [2, 4, 2, 2]),
    ]:
        goldens[name] = golden(adapter, make(student, teacher), student, teacher)
    for name, s, t in [("maps", [2, 3, 3, 2], [2, 8, 2, 3]), ("tokens", [2, 5, 6], [2, 4, 8]),
                       ("a map for tokens", [2, 3, 2, 2], [2, 5, 4]), ("tokens for a map", [2, 3, 6], [2, 4, 2, 2])]:
        goldens[f"attention of {name}"] = golden("attention", Places(s, t), s, t)
        goldens[f"attention of {name}, asked by the teacher"] = golden("attention", Attention(s, t), s, t, "{query: teacher}")
    for stage in 2, 3, 4:
        s, t = [4, 4, 6, 5], [4, 3]
        goldens[f"ofa of a map of stage {stage}"] = golden(
            "ofa", OFAMaps(s, t, stage, 6), s, t, f"{{stage: {stage}, width: 6}}")
    for name, s, stage, heads in [("14x14 tokens", [1, 196, 4], 4, 4), ("28x28 tokens with a class", [1, 785, 2], 3, 2),
                                  ("2x2 tokens with a class", [2, 5, 8], 2, 4)]:
        t = [s[0], 3]
        goldens[f"ofa of {name}"] = golden("ofa", OFATokens(s, t, stage, heads), s, t, f"{{stage: {stage}}}")
    lines = [f"{json.dumps(name)}: {json.dumps(g, allow_nan=False)}" for name, g in goldens.items()]
    pathlib.Path(__file__).with_name("adapters.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
