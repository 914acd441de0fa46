#!/usr/bin/env python3
"""Writes ops.json beside itself: what PyTorch's autograd computes, in float64, for the examples of every operator.

    python3 ops.py

An example here names the same operator, attributes and input shapes as its fellow in op.Table of runtime/graph/op/table.go,
by the key "Operator/number". The test of that package fails where one has no fellow: after adding an example there, add it
here and run this. Input k holds, at its element i of n in row-major order,

    lo + (hi − lo)·(½ + ½·sin(12.9898·(i+1) + 78.233·(k+1))),    lo..hi being −2..2 unless the example says otherwise

and the cost that is differentiated is Σ y[i]·sin(i+1). The file maps each key to

    {"inputs": [shape, …], "shape": shape of y, "values": {"y": […], "cost": [c], "d0": […], …}}

with the elements in row-major order and a gradient "d<k>" for each input k that has one. Every operator is PyTorch's own:
the formula is that of the torch function called.

Needs PyTorch 1.13 (Debian: python3-torch).
"""
import functools
import json
import math
import pathlib

import torch
import torch.nn.functional as F


def table():
    """Maps an operator to its examples, each (function of the inputs, shapes, options)."""
    anywhere = [(), (5,), (2, 3), (2, 3, 2, 2)]
    pairs = [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 5)), ((), (2, 3)), ((1, 1), ())]
    positive = dict(lo=0.3, hi=3)
    wide = dict(lo=-5, hi=5)

    def on1(f, *shapes, **options):
        return [(f, [s], options) for s in shapes]

    def on2(f, **options):
        return [(f, p, options) for p in pairs]

    def on_many(f):
        return [(f, shapes, {}) for shapes in [[(2, 3), (2, 3)], [(2, 3, 4), (4,), (3, 1)], [(), (1, 5)]]]

    def reductions(f, **options):
        """f takes the input, the axes and whether to keep them."""
        return [
            (lambda x: f(x, (0, 1), False), [(3, 4)], options),
            (lambda x: f(x, (1,), True), [(3, 4)], options),
            (lambda x: f(x, (0, 2, 3), False), [(2, 3, 4, 5)], options),
            (lambda x: f(x, (0, 2, 3), True), [(2, 3, 4, 5)], options),
            (lambda x: f(x, (-1,), False), [(1, 2, 3)], options),
        ]

    def conv(x, w, bias=False, pads=(0, 0, 0, 0), stride=1, dilation=1, group=1):
        """Pads are top, left, bottom, right."""
        top, left, bottom, right = pads

        def f(x, w, b=None):
            return F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, stride, 0, dilation, group)

        return f, [x, w, w[:1]] if bias else [x, w], {}

    def batch_norm_training(x, gamma, beta):
        return F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5)

    def same(p):
        return p, p, p, p

    statistics = [(3, 2, 4, 3), (2,), (2,)]
    return {
        "Abs": on1(torch.abs, *anywhere),
        "Add": on2(torch.add),
        "And": on2(lambda a, b: ((a > b) & (a < 1)).double(), wrt=0),
        "AveragePool": [
            (lambda x: F.avg_pool2d(x, 2), [(2, 3, 6, 4)], {}),
            (lambda x: F.avg_pool2d(F.pad(x, (0, 1, 1, 1)), (3, 2), (2, 1)), [(1, 2, 7, 5)], {}),
            (lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), [(1, 2, 4, 5)], {}),
        ],
        "BatchNormalization": [
            (lambda x, g, b, m, v: F.batch_norm(x, m, v, g, b, training=False, eps=1e-5),
             [s] + [(3,)] * 4, dict(lo=0.3, hi=2, wrt=3)) for s in [(2, 3, 2, 2), (4, 3)]
        ],
        "BatchNormalizationTraining": [
            (batch_norm_training, statistics, {}),
            (batch_norm_training, [(6, 3), (3,), (3,)], {}),
            (lambda x, g, b: x.mean((0, 2, 3)), statistics, dict(wrt=0)),
            (lambda x, g, b: x.var((0, 2, 3), unbiased=False), statistics, dict(wrt=0)),
        ],
        "Cast": on1(torch.clone, (2, 3)),
        "Ceil": on1(torch.ceil, *anywhere),
        "Celu": on1(lambda x: F.celu(x, 1.5), *anywhere),
        "Clip": on1(lambda x: torch.clamp(x, -0.5, 1), *anywhere),
        "Concat": [
            (lambda *xs: torch.cat(xs, 1), [(2, 1, 3), (2, 4, 3), (2, 2, 3)], {}),
            (lambda *xs: torch.cat(xs, -1), [(2, 3), (2, 1)], {}),
        ],
        "Conv": [
            conv((2, 3, 5, 6), (4, 3, 3, 3), pads=same(1)),
            conv((2, 3, 5, 4), (2, 3, 1, 1), bias=True),
            conv((2, 2, 6, 7), (3, 2, 3, 3), bias=True, stride=2, pads=same(1)),
            conv((1, 2, 6, 5), (3, 2, 1, 1), stride=2),
            conv((1, 2, 5, 5), (2, 2, 3, 2), pads=(0, 1, 2, 0)),
            conv((1, 2, 6, 5), (2, 2, 3, 3), dilation=(2, 1), pads=(2, 1, 2, 1)),
            conv((2, 4, 4, 5), (6, 2, 3, 3), bias=True, group=2, pads=same(1)),
            conv((2, 4, 5, 4), (4, 1, 3, 3), group=4, pads=same(1)),
            conv((1, 4, 7, 7), (8, 1, 5, 5), group=4, stride=2, pads=same(2)),
            conv((2, 16, 5, 4), (16, 16, 3, 3), pads=same(1)),
            conv((1, 16, 6, 6), (32, 16, 3, 3), bias=True, stride=2, pads=same(1)),
            conv((1, 16, 4, 5), (16, 1, 3, 3), group=16, pads=same(1)),
            conv((2, 3, 5, 4), (16, 3, 3, 3), bias=True, pads=same(1)),
        ],
        "Cos": on1(torch.cos, *anywhere),
        "DepthToSpace": [
            (lambda x: F.pixel_shuffle(x, 2), [(2, 8, 3, 2)], {}),
            (lambda x: x.reshape(1, 3, 3, 1, 1, 2).permute(0, 3, 4, 1, 5, 2).reshape(1, 1, 3, 6), [(1, 9, 1, 2)], {}),
        ],
        "Div": on2(torch.div, **positive),
        "Dropout": on1(lambda x: F.dropout(x, training=False), (2, 3)),
        "Einsum": [(functools.partial(torch.einsum, equation), shapes, {}) for equation, shapes in [
            ("bhid,bhjd->bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]), ("nchw,oc->nohw", [(2, 3, 2, 4), (5, 3)]),
            ("ijk,jk->i", [(2, 3, 4), (3, 4)]), ("ij,kj", [(2, 3), (4, 3)]), ("ab,cd->da", [(2, 3), (4, 2)]),
            ("ij,ij->", [(2, 3), (2, 3)]), ("abc->ca", [(2, 3, 4)]),
        ]],
        "Elu": on1(lambda x: F.elu(x, 0.7), *anywhere),
        "Equal": on2(lambda a, b: (a == b).double(), wrt=0),
        "Erf": on1(torch.erf, *anywhere),
        "Exp": on1(torch.exp, *anywhere),
        "Expand": [
            (lambda x: x.expand(2, 3, 4), [(3, 1)], {}),
            (lambda x: x.expand(2, 2), [()], {}),
        ],
        "ExpandBatch": [
            (lambda x, like: x.expand(4, 3), [(1, 3), (4, 2)], dict(wrt=1)),
            (lambda x, like: x.expand(1, 2, 3), [(1, 2, 3), (1,)], dict(wrt=1)),
        ],
        "Flatten": on1(lambda x: x.reshape(x.shape[0], -1), (2, 3, 2), (3, 2), (4,)),
        "Floor": on1(torch.floor, *anywhere),
        "Gather": [
            (lambda x: x[:, 0], [(2, 4, 3)], {}),
            (lambda x: x[..., -1], [(1, 5)], {}),
            (lambda x: x[torch.tensor([[3, 0, 0], [1, -1, 3]])], [(4, 2)], {}),
            (lambda x: x[:, [2, 2, 0]], [(2, 3, 2)], {}),
            (lambda x: x[:, [1]], [(2, 3, 2)], {}),
        ],
        "Gelu": on1(F.gelu, *anywhere) + on1(lambda x: F.gelu(x, approximate="tanh"), *anywhere),
        "Gemm": [(F.linear, [(3, 4), (2, 4), (2,)], {}), (F.linear, [(1, 5), (3, 5), (3,)], {})],
        "GlobalAveragePool": on1(lambda x: F.adaptive_avg_pool2d(x, 1), (2, 3, 4, 5), (1, 2, 1, 1)),
        "GlobalMaxPool": on1(lambda x: F.adaptive_max_pool2d(x, 1), (2, 3, 4, 5), (1, 2, 1, 1)),
        "Greater": on2(lambda a, b: (a > b).double(), wrt=0),
        "GreaterOrEqual": on2(lambda a, b: (a >= b).double(), wrt=0),
        "GroupNormalization": [
            (lambda x, w, b: F.group_norm(x, 2, w, b, 1e-5), [(2, 4, 3, 2), (4,), (4,)], {}),
            (lambda x, w, b: F.group_norm(x, 1, w, b, 1e-5), [(1, 3, 5), (3,), (3,)], {}),
        ],
        # The derivative of F.hardsigmoid multiplies by 1/6 in float32, whatever the type.
        "HardSigmoid": on1(lambda x: torch.clamp(x / 6 + 0.5, 0, 1), *anywhere, **wide)
        + on1(lambda x: torch.clamp(0.2 * x + 0.4, 0, 1), *anywhere, **wide),
        "HardSwish": on1(F.hardswish, *anywhere, **wide),
        "Identity": on1(torch.clone, (2, 3)),
        "InstanceNormalization": [
            (lambda x, w, b: F.instance_norm(x, None, None, w, b, eps=1e-5), [(2, 3, 4, 3), (3,), (3,)], {}),
            (lambda x, w, b: F.instance_norm(x, None, None, w, b, eps=1e-3), [(1, 2, 7), (2,), (2,)], {}),
        ],
        "LayerNormGemm": [
            (lambda x, g, h, w, b: F.linear(F.layer_norm(x, (8,), g, h, 1e-5), w, b), [(3, 8), (8,), (8,), (5, 8), (5,)], {}),
            (lambda x, g, h, w, b: F.linear(F.layer_norm(x, (2,), g, h, 1e-2), w, b), [(1, 2), (2,), (2,), (3, 2), (3,)], {}),
            (lambda x, g, h, w, b: F.layer_norm(x, (8,), g, h, 1e-5) @ w + b, [(2, 3, 8), (8,), (8,), (8, 5), (5,)], {}),
        ],
        "LayerNormalization": [
            (lambda x, w, b: F.layer_norm(x, (8,), w, b, 1e-5), [(2, 3, 8), (8,), (8,)], {}),
            (lambda x, w, b: F.layer_norm(x, (3, 5), w, b, 1e-6), [(1, 2, 3, 5), (3, 5), (3, 5)], {}),
            (lambda x, w: F.layer_norm(x, (7,), w, None, 1e-5), [(3, 7), (7,)], {}),
            (lambda x: F.layer_norm(x, (2, 5)), [(2, 5)], {}),
        ],
        "LeakyRelu": on1(lambda x: F.leaky_relu(x, 0.1), *anywhere),
        "Less": on2(lambda a, b: (a < b).double(), wrt=0),
        "LessOrEqual": on2(lambda a, b: (a <= b).double(), wrt=0),
        "Log": on1(torch.log, *anywhere, **positive),
        "LogSoftmax": on1(lambda x: F.log_softmax(x, 1), (3, 5), (2, 4, 3)),
        "LpNormalization": on1(lambda x: F.normalize(x, 2, -1), (3, 4), (5,))
        + on1(lambda x: F.normalize(x, 1, 1), (2, 3, 4)),
        "MatMul": [
            (torch.matmul, [(3, 4), (4, 2)], {}),
            (torch.matmul, [(2, 3, 4), (4, 2)], {}),
            (torch.matmul, [(2, 1, 3, 4), (3, 4, 2)], {}),
            (lambda a, b: a @ b.mT, [(2, 3, 4), (2, 5, 4)], {}),
            (lambda a, b: a.mT @ b, [(4, 3), (4, 2)], {}),
            (lambda a, b: a.mT @ b.mT, [(4, 3), (2, 4)], {}),
        ],
        "Max": on_many(lambda *xs: functools.reduce(torch.maximum, xs)),
        "MaxPool": [
            (lambda x: F.max_pool2d(x, 2), [(2, 3, 4, 6)], {}),
            (lambda x: F.max_pool2d(x, 3, 2, 1), [(2, 2, 7, 6)], {}),
            (lambda x: F.max_pool2d(x, (2, 3), 1), [(1, 1, 4, 5)], {}),
        ],
        "Mean": on_many(lambda *xs: sum(xs) / len(xs)),
        "Min": on_many(lambda *xs: functools.reduce(torch.minimum, xs)),
        "Mish": on1(F.mish, *anywhere),
        "Mul": on2(torch.mul),
        "Neg": on1(torch.neg, *anywhere),
        "Not": on2(lambda a, b: (~(a < b)).double(), wrt=0),
        "Or": on2(lambda a, b: ((a > b) | (a < -1)).double(), wrt=0),
        "PRelu": [
            (lambda x, w: F.prelu(x, w.flatten()), [(2, 3, 2, 2), (3, 1, 1)], {}),
            (F.prelu, [(1, 5), (1,)], {}),
            (lambda x, w: torch.where(x > 0, x, w * x), [(2, 3), (2, 3)], {}),
        ],
        "Pad": on1(lambda x: F.pad(x, (1, 0, 0, 2)), (2, 3))
        + on1(lambda x: F.pad(x, (0, 2, 1, 0), value=-1.5), (2, 3))
        + [(lambda x, mode=mode: F.pad(x, (2, 0, 1, 2), mode), [(1, 2, 3, 4)], {}) for mode in ["reflect", "replicate", "circular"]],
        "Pow": on2(torch.pow, **positive)
        + on1(lambda x: x ** 2, *anywhere)
        + on1(lambda x: x ** 3, (2, 3))
        + on1(lambda x: x ** 1, (2, 3))
        + on1(lambda x: x ** 0, (2, 3))
        + on1(lambda x: x ** -0.5, (2, 3), **positive),
        "Reciprocal": on1(torch.reciprocal, *anywhere, **positive),
        "ReduceL1": reductions(lambda x, axes, keep: torch.linalg.vector_norm(x, 1, axes, keep)),
        "ReduceL2": reductions(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
        "ReduceLogSum": reductions(lambda x, axes, keep: x.sum(axes, keep).log(), **positive),
        "ReduceLogSumExp": reductions(torch.logsumexp),
        "ReduceMax": reductions(torch.amax),
        "ReduceMean": reductions(torch.mean),
        "ReduceMin": reductions(torch.amin),
        "ReduceSum": reductions(torch.sum),
        "ReduceSumSquare": reductions(lambda x, axes, keep: x.square().sum(axes, keep)),
        "Relu": on1(torch.relu, *anywhere),
        "Reshape": [
            (lambda x: x.reshape(2, -1), [(2, 3, 4)], {}),
            (lambda x: x.reshape(6, 4), [(2, 3, 4)], {}),
            (lambda x: x.reshape(()), [(1, 1)], {}),
        ],
        "Round": on1(torch.round, *anywhere),
        "Selu": on1(F.selu, *anywhere),
        "Sigmoid": on1(torch.sigmoid, *anywhere),
        "Sign": on1(torch.sign, *anywhere),
        "Sin": on1(torch.sin, *anywhere),
        "Slice": [
            (lambda x: x[:, 1:3], [(2, 4, 3)], {}),
            (lambda x: x[:, :, ::2, ::2], [(2, 2, 4, 5)], {}),
            (lambda x: x[..., 1:6:3], [(2, 7)], {}),
        ],
        "Softmax": on1(lambda x: F.softmax(x, -1), (3, 5), (2, 4, 3)),
        "Softplus": on1(lambda x: F.softplus(x, threshold=1e3), *anywhere),
        "Softsign": on1(F.softsign, *anywhere),
        "SpaceToDepth": on1(
            lambda x: x.reshape(2, 3, 2, 2, 1, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 12, 2, 1), (2, 3, 4, 2)),
        "Split": [
            (lambda x: torch.split(x, [1, 3], 1)[1], [(2, 4, 3)], {}),
            (lambda x: torch.split(x, 2, -1)[1], [(1, 5)], {}),
        ],
        "Sqrt": on1(torch.sqrt, *anywhere, **positive),
        "Squeeze": on1(lambda x: x.squeeze(3).squeeze(1), (2, 1, 3, 1)),
        "Sub": on2(torch.sub),
        "Sum": on_many(lambda *xs: sum(xs)),
        "Tanh": on1(torch.tanh, *anywhere),
        "Transpose": on1(lambda x: x.permute(2, 0, 1), (2, 3, 4)),
        "Unsqueeze": on1(lambda x: x.unsqueeze(1).unsqueeze(-1), (2, 3), (4,)) + on1(lambda x: x.unsqueeze(0), ()),
        "Where": [
            (lambda a, b: torch.where(torch.tensor([[True, False, False], [True, True, False]]), a, b), [(2, 3), (2, 3)], {}),
            (lambda a, b: torch.where(torch.tensor([[True], [False], [True]]), a, b), [(2, 1, 4), ()], {}),
            (lambda a, b: torch.where(a < b, a, b), [(1, 5), (5,)], {}),
        ],
    }


def tensor(shape, value):
    """value gives element i."""
    return torch.tensor([value(i) for i in range(math.prod(shape))], dtype=torch.float64).reshape(shape)


def golden(f, shapes, lo=-2.0, hi=2.0, wrt=None):
    """wrt is how many of the inputs, from the first, have a gradient; all of them where it is not given."""
    def element(k):
        return lambda i: lo + (hi - lo) * (0.5 + 0.5 * math.sin(12.9898 * (i + 1) + 78.233 * (k + 1)))

    inputs = [tensor(s, element(k)) for k, s in enumerate(shapes)]
    smooth = inputs[:wrt]
    for x in smooth:
        x.requires_grad_()
    y = f(*inputs)
    cost = (y * tensor(y.shape, lambda i: math.sin(i + 1))).sum()
    values = {"y": y, "cost": cost}
    if smooth:
        gradients = torch.autograd.grad(cost, smooth)
        values |= {f"d{k}": d for k, d in enumerate(gradients)}
    return {
        "inputs": shapes,
        "shape": list(y.shape),
        "values": {name: v.detach().flatten().tolist() for name, v in values.items()},
    }


def main():
    goldens = {f"{name}/{i}": golden(f, shapes, **options)
               for name, examples in table().items() for i, (f, shapes, options) in enumerate(examples)}
    lines = [f"{json.dumps(key)}: {json.dumps(g, allow_nan=False)}" for key, g in goldens.items()]
    pathlib.Path(__file__).with_name("ops.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
