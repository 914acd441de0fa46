"""Losses on what a network classifies: last maps, pooled vectors, tokens, and the classifiers themselves.

Their inputs:

    sines      the vectors [4,6] and maps [2,3,2,2] and [2,4,2,2] of sines and cosines that common.py gives
    waves      other sizes without pattern
    equal      student and teacher agree, where the loss has no layers between them
    large      features of ±10³
    zeros      a student of zeros
    sizes      maps of student and teacher that differ in size, and sides that do not divide evenly
    pixels     cells of one pixel each
"""
import math

import torch
import torch.nn.functional as F

from common import case, maps, sines, standard, vectors, waves

CLASSES = 5


def normed(x, weight, bias):
    """Batch norm by the batch's own statistics."""
    axes = [0] + list(range(2, x.dim()))
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5) * weight.reshape(shape) + bias.reshape(shape)


def block(name, c_in, c_out, kernel, phase):
    """The parameters of a convolution without bias and its batch norm, as leaves."""
    return {
        f"params.{name}.conv.weight": 0.5 * waves((c_out, c_in, kernel, kernel), phase),
        f"params.{name}.bn.weight": 1 + 0.3 * waves((c_out,), phase + 1),
        f"params.{name}.bn.bias": 0.3 + 0.2 * waves((c_out,), phase + 2),
    }


def apply(x, name, h):
    w = x[f"params.{name}.conv.weight"]
    y = F.conv2d(h, w, padding=w.shape[-1] // 2)
    return F.relu(normed(y, x[f"params.{name}.bn.weight"], x[f"params.{name}.bn.bias"]))


def pair(student, teacher, i=0):
    return {f"pairs.{i}.student": student, f"pairs.{i}.teacher": teacher}


def classifier(d, phase=7):
    return {"classifier.weight": 0.5 * waves((CLASSES, d), phase), "classifier.bias": 0.1 * waves((CLASSES,), phase + 1)}


# SRRL

def srrl(alpha=1, beta=1, standardized=False):
    def f(x):
        s, t = x["pairs.0.student"], x["pairs.0.teacher"]
        u = apply(x, "connector", s[:, :, None, None])[:, :, 0, 0]
        z, zt = u @ x["classifier.weight"].T + x["classifier.bias"], x["teacher"]
        if standardized:
            z, zt = standard(z), standard(zt)
        return alpha * ((u - t) ** 2).mean() + beta * ((z - zt) ** 2).mean()
    return f


def srrl_cases():
    def leaves(s, t):
        n, d = t.shape
        return {**pair(s, t), **classifier(d), **block("connector", s.shape[1], d, 1, 3), "teacher": 2 * waves((n, CLASSES), 5)}
    s, t = vectors()
    yield case("srrl", "default", "sines", srrl(), leaves=leaves(s, t))
    yield case("srrl", "default", "waves", srrl(), leaves=leaves(waves((3, 4)), waves((3, 7), 1)))
    yield case("srrl", "default", "large", srrl(), leaves=leaves(1e3 * s, t))
    yield case("srrl", "default", "zeros", srrl(), leaves=leaves(0 * s, t))
    yield case("srrl", "weighted", "sines", srrl(0.5, 3), settings="{features: 0.5, logits: 3}", leaves=leaves(s, t))
    yield case("srrl", "standardized", "sines", srrl(standardized=True), standardize=True, leaves=leaves(s, t))


# SimKD

def simkd(x):
    s, t = x["pairs.0.student"], x["pairs.0.teacher"]
    if s.shape[2] > t.shape[2]:
        s = F.adaptive_avg_pool2d(s, t.shape[2:])
    else:
        t = F.adaptive_avg_pool2d(t, s.shape[2:])
    u = s
    for i in (1, 2, 3):
        u = apply(x, f"projector.{i}", u)
    return F.mse_loss(u, t)


def simkd_cases():
    def leaves(s, t, factor=2):
        c, inside = t.shape[1], t.shape[1] // factor
        return {**pair(s, t), **classifier(c), **block("projector.1", s.shape[1], inside, 1, 1),
                **block("projector.2", inside, inside, 3, 2), **block("projector.3", inside, c, 1, 3)}
    s, t = maps()
    yield case("simkd", "default", "sines", simkd, leaves=leaves(s, t))
    yield case("simkd", "default", "waves", simkd, leaves=leaves(waves((3, 2, 4, 4)), waves((3, 6, 4, 4), 1).relu()))
    yield case("simkd", "default", "sizes", simkd, leaves=leaves(waves((2, 3, 7, 7)), waves((2, 4, 3, 3), 1)))
    yield case("simkd", "default", "smaller", simkd, leaves=leaves(waves((2, 3, 2, 2)), waves((2, 4, 3, 3), 1)))
    yield case("simkd", "wide", "sines", simkd, settings="factor: 1", leaves=leaves(s, t, 1))


# CAT-KD

def catkd(size=2, normalize=True):
    def attention(f, w):
        a = F.adaptive_avg_pool2d(F.conv2d(f, w[:, :, None, None]), size)
        return F.normalize(a, dim=(2, 3)) if normalize else a

    def f(x):
        s = attention(x["pairs.0.student"], x["head.weight"])
        return F.mse_loss(s, attention(x["pairs.0.teacher"], x["classifier.weight"]))
    return f


def catkd_cases():
    def leaves(s, t, head=9):
        c = s.shape[1]
        return {**pair(s, t), **classifier(t.shape[1]), "head.weight": 0.5 * waves((CLASSES, c), head), "head.bias": 0.1 * waves((CLASSES,), 4)}
    s, t = maps()
    for name, inputs in {
        "sines": leaves(s, t),
        "waves": leaves(waves((3, 2, 6, 6)), waves((3, 6, 6, 6), 1)),
        "sizes": leaves(waves((2, 3, 8, 8)), waves((2, 4, 7, 5), 1)),
        "zeros": leaves(0 * s, t),
        "equal": leaves(t, t, head=7),
        "large": leaves(1e3 * s, 1e3 * t),
    }.items():
        yield case("catkd", "default", name, catkd(), leaves=inputs)
        if name != "large":  # 10⁶ of a squared difference
            yield case("catkd", "unnormalized", name, catkd(normalize=False), settings="normalize: false", leaves=inputs)
    yield case("catkd", "fine", "waves", catkd(3), settings="size: 3", leaves=leaves(waves((3, 2, 6, 6)), waves((3, 6, 6, 6), 1)))


# SRD

def srd(alpha=4, temperature=1):
    def bn(x):
        return F.batch_norm(x, None, None, training=True, eps=1e-4)

    def f(x):
        away = (bn(x["pairs.0.student"]) - bn(x["pairs.0.teacher"])).abs()
        kl = F.kl_div(F.log_softmax(x["student"] / temperature, 1), F.softmax(x["teacher"] / temperature, 1), reduction="batchmean")
        return 2 * torch.log((away**alpha).sum().clamp(min=1e-12)) + kl
    return f


def srd_cases():
    zs, zt, _ = sines()
    s, t = vectors()
    for name, a, b in (("sines", s, t), ("waves", waves((4, 6)), 3 * waves((4, 6), 1)), ("equal", s, s), ("large", 1e3 * s, 1e3 * t), ("zeros", 0 * s, t)):
        yield case("srd", "default", name, srd(), student=zs, teacher=zt, leaves=pair(a, b))
    yield case("srd", "softer", "sines", srd(2.5, 4), settings="{alpha: 2.5, temperature: 4}", student=zs, teacher=zt, leaves=pair(s, t))


# WKD-F

def cell_moments(x, g):
    """Means and deviations [N,C,g,g] of the cells of adaptive pooling, one by one."""
    h, w = x.shape[2:]
    means, deviations = [], []
    for i in range(g):
        for j in range(g):
            cell = x[:, :, math.floor(i * h / g):math.ceil((i + 1) * h / g), math.floor(j * w / g):math.ceil((j + 1) * w / g)].flatten(2)
            n = cell.shape[2]
            var = cell.var(2) if n > 1 else cell.sum(2) * 0
            means.append(cell.mean(2))
            deviations.append(torch.sqrt(var + 1e-5))
    return torch.stack(means, 2), torch.stack(deviations, 2)


def wkd_f(g=4, r=2):
    def f(x):
        u = x["pairs.0.student"]
        for i, pad in ((1, 0), (2, 1), (3, 0)):
            u = F.conv2d(u, x[f"params.projector.{i}.weight"], x.get(f"params.projector.{i}.bias"), padding=pad)
        u = F.relu(normed(u, x["params.projector.bn.weight"], x["params.projector.bn.bias"]))
        (ms, ds), (mt, dt) = cell_moments(u, g), cell_moments(x["pairs.0.teacher"], g)
        n = u.shape[0] * g * g
        return x.get("knobs.decay", 1) * (r * F.mse_loss(ms, mt, reduction="sum") + F.mse_loss(ds, dt, reduction="sum")) / n
    return f


def wkd_f_cases():
    def leaves(s, t, hidden=None):
        c_in, c = s.shape[1], t.shape[1]
        hidden = hidden or c
        out = pair(s, t)
        for i, (a, b, k) in enumerate(((c_in, hidden, 1), (hidden, hidden, 3), (hidden, c, 1)), 1):
            out[f"params.projector.{i}.weight"] = 0.5 * waves((b, a, k, k), i)
        out["params.projector.1.bias"] = 0.1 * waves((hidden,), 5)
        out["params.projector.bn.weight"] = 1 + 0.3 * waves((c,), 8)
        out["params.projector.bn.bias"] = 0.3 + 0.2 * waves((c,), 9)
        return out
    eight = leaves(waves((2, 3, 8, 8)), waves((2, 4, 8, 8), 1).relu())
    decay = {"knobs.decay": torch.tensor(0.25, dtype=torch.float64)}
    yield case("wkd_f", "default", "pixels", wkd_f(), leaves=leaves(waves((3, 3, 4, 4)), waves((3, 4, 4, 4), 1)))
    yield case("wkd_f", "default", "waves", wkd_f(), leaves=eight)
    yield case("wkd_f", "default", "sizes", wkd_f(), leaves=leaves(waves((3, 3, 7, 7)), waves((3, 4, 6, 9), 1)))
    yield case("wkd_f", "default", "decayed", wkd_f(), leaves={**eight, **decay})
    yield case("wkd_f", "whole", "waves", wkd_f(1, 0.5), settings="{grid: 1, mean: 0.5}", leaves=eight)
    yield case("wkd_f", "narrow", "waves", wkd_f(), settings="hidden: 2", leaves=leaves(waves((2, 3, 8, 8)), waves((2, 4, 8, 8), 1), 2))


# ViTKD

def vitkd(pairs, alpha=3e-5, beta=3e-6, share=0.5):
    def f(x):
        def patches(name):
            tokens = x[name]
            side = math.isqrt(tokens.shape[1])
            return tokens[:, tokens.shape[1] - side * side:]
        loss = 0
        for i in range(pairs - 1):
            loss = loss + alpha * F.mse_loss(patches(f"pairs.{i}.student"), patches(f"pairs.{i}.teacher"), reduction="sum")
        s, t = patches(f"pairs.{pairs - 1}.student"), patches(f"pairs.{pairs - 1}.teacher")
        n, places, d = s.shape
        hidden = (x["host.mask"].reshape(n, places, 1) == 0).double()
        y = torch.where(hidden.bool(), x["params.token"].reshape(1, 1, d), s)
        side = math.isqrt(places)
        y = y.reshape(n, side, side, d).permute(0, 3, 1, 2)
        for i in (1, 2):
            y = F.conv2d(y, x[f"params.generation.{i}.weight"], x[f"params.generation.{i}.bias"], padding=1)
            y = y.relu() if i == 1 else y
        y = y.flatten(2).transpose(1, 2)
        return (loss + beta / share * F.mse_loss(y * hidden, t * hidden, reduction="sum")) / n
    return f


def vitkd_cases():
    def leaves(pairs, n, tokens, d, share=0.5, student=None):
        out = {}
        for i in range(pairs):
            out |= pair(waves((n, tokens, d), i) if student is None else student, 2 * waves((n, tokens, d), i + 5), i)
        side = math.isqrt(tokens)
        hidden = waves((n, 1, side, side), 3) < 2 * share - 1
        out["host.mask"] = torch.where(hidden, 0.0, 1 / (1 - share)).double()
        out["params.token"] = 0.3 * waves((1, d, 1, 1), 2)
        for i in (1, 2):
            out[f"params.generation.{i}.weight"] = 0.5 * waves((d, d, 3, 3), i)
            out[f"params.generation.{i}.bias"] = 0.1 * waves((d,), i + 2)
        return out
    yield case("vitkd", "default", "three blocks", vitkd(3), leaves=leaves(3, 2, 10, 4))  # the class's token and 3x3 patches
    yield case("vitkd", "default", "last block", vitkd(1), leaves=leaves(1, 3, 4, 3))
    yield case("vitkd", "default", "zeros", vitkd(2), leaves=leaves(2, 2, 5, 3, student=torch.zeros(2, 5, 3, dtype=torch.float64)))
    loud = "{alpha: 1, beta: 2, lambda: 0.75}"  # so that the tolerance, which is absolute below 1, bites
    yield case("vitkd", "weighted", "three blocks", vitkd(3, 1, 2, 0.75), settings=loud, leaves=leaves(3, 2, 10, 4, 0.75))


def cases():
    for family in (srrl_cases, simkd_cases, catkd_cases, srd_cases, wkd_f_cases, vitkd_cases):
        yield from family()
