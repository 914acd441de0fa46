#!/usr/bin/env python3
"""Writes gradients.json beside itself: gradients through whole ONNX files, by PyTorch's autograd in float64.

    python3 gradients.py                             # of ../exports/*.onnx and ../../models/*.onnx
    python3 gradients.py --output FILE MODEL…        # of other files; the tests read FILE where DISTILL_GRADIENTS names it
    python3 gradients.py --resnet18 MODEL            # writes torchvision's resnet18 for 64x64 images, random weights, to MODEL

The file maps a model's path (relative to this folder for those kept here, absolute for others) to

    {"input": shape, "logits": [N·K],
     "gradient": {"norm": L2 norm, "stride": s, "values": [its elements 0, s, 2s, …]},
     "samples": [{"label": k, "weights": {name: {"square": sum of squares, "first": [up to 4 elements]}, …}}, …]}

Element i of the input is sin(0.37·i)·1.5, rounded to float32; N is 2, or what the file fixes. "gradient" is with respect to
the input, of Σ logits[n,k]·sin(n·K+k+1). "samples" has, for each image n, the gradient of log softmax(logits[n])[label] with
respect to each floating-point initializer of rank 1 or more that is no running statistic of a batch norm; the label is the
most likely class. Its square, summed over the weights, is the image's part in the trace of the Fisher information.

The interpreter below knows nothing of distill: each operator is the PyTorch function that ONNX describes it by.
Needs PyTorch 1.13 and onnx 1.12 (Debian: python3-torch, python3-onnx, python3-torchvision).
"""
import argparse
import json
import pathlib

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
KEPT = [path for folder in ("../exports", "../../models") for path in sorted((HERE / folder).glob("*.onnx"))]


def tensor(proto):
    """A TensorProto, with floating-point elements as float64."""
    value = torch.from_numpy(numpy_helper.to_array(proto).copy())
    return value.double() if value.is_floating_point() else value


def pads(x, attrs, fill=0.0):
    """x padded as the attributes of a convolution or a pool say, for a function that does not pad."""
    assert attrs.get("auto_pad", b"NOTSET") == b"NOTSET"
    n = x.dim() - 2
    p = attrs.get("pads", [0] * 2 * n)
    return F.pad(x, [p[i + side * n] for i in reversed(range(n)) for side in (0, 1)], value=fill)


def conv(a, x, w, b=None):
    if a.get("auto_pad", b"NOTSET") == b"SAME_UPPER":  # of stride 1 alone
        assert all(s == 1 for s in a["strides"])
        before = [(k - 1) * d // 2 for k, d in zip(a["kernel_shape"], a.get("dilations", [1, 1]))]
        after = [(k - 1) * d - p for k, d, p in zip(a["kernel_shape"], a.get("dilations", [1, 1]), before)]
        a = {**a, "auto_pad": b"NOTSET", "pads": before + after}
    convolve = F.conv1d if x.dim() == 3 else F.conv2d
    return convolve(pads(x, a), w, b, a.get("strides", 1), 0, a.get("dilations", 1), a.get("group", 1))


def max_pool(a, x):
    assert all(d == 1 for d in a.get("dilations", [1]))
    return F.max_pool2d(pads(x, a, -np.inf), a["kernel_shape"], a.get("strides", 1), ceil_mode=bool(a.get("ceil_mode")))


def average_pool(a, x):
    assert all(d == 1 for d in a.get("dilations", [1]))
    count, ceil = bool(a.get("count_include_pad", 0)), bool(a.get("ceil_mode"))
    assert not any(a.get("pads", [0])) or count and not ceil
    return F.avg_pool2d(pads(x, a), a["kernel_shape"], a.get("strides", 1), ceil_mode=ceil)


def gemm(a, x, w, b=0.0):
    x, w = (x.T if a.get("transA") else x), (w.T if a.get("transB") else w)
    return a.get("alpha", 1.0) * (x @ w) + a.get("beta", 1.0) * b


def clip(a, x, low=None, high=None):
    return x.clamp(a.get("min") if low is None else low, a.get("max") if high is None else high)


def ints(attr, value):
    """An axes list, by attribute in older opsets and by input in newer ones."""
    return attr if value is None else value.tolist()


def unsqueeze(a, x, axes=None):
    axes = ints(a.get("axes"), axes)
    for axis in sorted(i % (x.dim() + len(axes)) for i in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(a, x, axes=None):
    for axis in sorted((i % x.dim() for i in ints(a.get("axes"), axes)), reverse=True):
        x = x.squeeze(axis)
    return x


def reduction(f):
    """Of a function of the input, the axes and whether to keep them."""
    def reduce(a, x, axes=None):
        assert not a.get("noop_with_empty_axes", 0)
        return f(x, ints(a.get("axes", list(range(x.dim()))), axes), bool(a.get("keepdims", 1)))
    return reduce


def reshape(a, x, shape):
    assert not a.get("allowzero", 0) or 0 not in shape
    return x.reshape([x.shape[i] if s == 0 else s for i, s in enumerate(shape.tolist())])


def split(a, x, sizes=None):
    sizes = a.get("split") if sizes is None else sizes.tolist()
    return x.split(sizes or -(-x.shape[a.get("axis", 0)] // a["num_outputs"]), a.get("axis", 0))


def slices(a, x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes.tolist()
    steps = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps):
        at = range(x.shape[axis])[start:max(end, -x.shape[axis] - 1) if step < 0 else end:step]
        x = x.index_select(axis, torch.tensor(list(at), dtype=torch.int64))
    return x


def pad(a, x, p, value=None, axes=None):
    around = [[0, 0] for _ in range(x.dim())]
    p = p.reshape(2, -1).tolist()
    for i, axis in enumerate(range(x.dim()) if axes is None else axes.tolist()):
        around[axis] = [p[0][i], p[1][i]]
    flat = [n for pair in reversed(around) for n in pair]
    mode = a.get("mode", b"constant").decode()
    if mode == "constant":
        return F.pad(x, flat, value=0.0 if value is None else value.item())
    assert not any(flat[4:])
    return F.pad(x, flat[:4], {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}[mode])


def gather(a, x, at):
    axis = a.get("axis", 0) % x.dim()
    taken = x.index_select(axis, at.reshape(-1) % x.shape[axis])
    return taken.reshape([*x.shape[:axis], *at.shape, *x.shape[axis + 1:]])


def scatter_nd(a, x, at, updates):
    return x.index_put(tuple(at.unbind(-1)), updates)


def cast(a, x):
    types = {1: torch.float64, 11: torch.float64, 6: torch.int32, 7: torch.int64, 9: torch.bool}
    return x.to(types[a["to"]])


def constant_of_shape(a, shape):
    value = tensor(a["value"]) if "value" in a else torch.zeros(1, dtype=torch.float64)
    return value.expand(shape.tolist())


def layer_norm(a, x, weight, bias=None):
    assert a.get("axis", -1) % x.dim() == x.dim() - 1
    return F.layer_norm(x, x.shape[-1:], weight, bias, a.get("epsilon", 1e-5))


def batch_norm(a, x, weight, bias, mean, var):
    return F.batch_norm(x, mean, var, weight, bias, eps=a.get("epsilon", 1e-5))


def group_norm(a, x, weight, bias):
    groups = a["num_groups"]
    if len(weight) == groups:  # before opset 21, by group
        weight, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (weight, bias))
    return F.group_norm(x, groups, weight, bias, a.get("epsilon", 1e-5))


def divide(a, x, y):
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


OPS = {
    "Add": lambda a, x, y: x + y,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Ceil": lambda a, x: torch.ceil(x),
    "Clip": clip,
    "Concat": lambda a, *x: torch.cat(x, a["axis"]),
    "Constant": lambda a: tensor(a["value"]),
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "Div": divide,
    "Dropout": lambda a, x, *_: x,
    "Einsum": lambda a, *x: torch.einsum(a["equation"].decode(), *x),
    "Equal": lambda a, x, y: x == y,
    "Erf": lambda a, x: torch.erf(x),
    "Expand": lambda a, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "Gather": gather,
    "Gemm": gemm,
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "GlobalAveragePool": lambda a, x: x.mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda a, x: F.adaptive_max_pool2d(x, 1),
    "GroupNormalization": group_norm,
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda a, x: F.hardswish(x),
    "Identity": lambda a, x: x,
    "InstanceNormalization": lambda a, x, w, b: F.instance_norm(x, weight=w, bias=b, eps=a.get("epsilon", 1e-5)),
    "LayerNormalization": layer_norm,
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": max_pool,
    "Mish": lambda a, x: F.mish(x),
    "Mod": lambda a, x, y: torch.fmod(x, y) if a.get("fmod") else torch.remainder(x, y),
    "Mul": lambda a, x, y: x * y,
    "Not": lambda a, x: ~x,
    "Pad": pad,
    "Pow": lambda a, x, y: x ** y,
    "Range": lambda a, start, limit, delta: torch.arange(start.item(), limit.item(), delta.item()),
    "Reciprocal": lambda a, x: x.reciprocal(),
    "ReduceL2": reduction(lambda x, axes, keep: x.norm(2, axes, keep)),
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean),
    "Relu": lambda a, x: F.relu(x),
    "Reshape": reshape,
    "ScatterND": scatter_nd,
    "Shape": lambda a, x: torch.tensor(x.shape[a.get("start", 0):a.get("end")]),
    "Sigmoid": lambda a, x: torch.sigmoid(x),
    "Slice": slices,
    "Softmax": lambda a, x: F.softmax(x, a["axis"]),
    "Softplus": lambda a, x: F.softplus(x, threshold=1e9),
    "Split": split,
    "Sqrt": lambda a, x: torch.sqrt(x),
    "Squeeze": squeeze,
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: torch.tanh(x),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(reversed(range(x.dim()))))),
    "Unsqueeze": unsqueeze,
    "Where": lambda a, c, x, y: torch.where(c, x, y),
}


def run(graph, values):
    for node in graph.node:
        attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        result = OPS[node.op_type](attrs, *(values[i] if i else None for i in node.input))
        values.update(zip(node.output, result if isinstance(result, tuple) else [result]))
    return values[graph.output[0].name]


def digits(values):
    """Enough for a float64 that was summed."""
    return [float(f"{v:.12g}") for v in values]


def gradients(path):
    graph = onnx.load(str(path)).graph
    values = {t.name: tensor(t) for t in graph.initializer}
    # PyTorch writes equal tensors once and joins the others to them by Identity: they are tensors of their own.
    for n in [n for n in graph.node if n.op_type == "Identity" and n.input[0] in values]:
        values[n.output[0]] = values[n.input[0]].clone()
        graph.node.remove(n)
    statistics = {i for n in graph.node if n.op_type == "BatchNormalization" for i in n.input[3:]}
    weights = {n: v for n, v in values.items() if v.is_floating_point() and v.dim() and n not in statistics}
    for v in weights.values():
        v.requires_grad_()
    (image,) = (i for i in graph.input if i.name not in values)
    batch, *shape = (d.dim_value for d in image.type.tensor_type.shape.dim)
    shape = [batch or 2, *shape]
    wave = np.sin(np.arange(np.prod(shape)) * 0.37) * 1.5
    x = torch.from_numpy(wave.astype(np.float32)).double().reshape(shape).requires_grad_()
    values[image.name] = x
    logits = run(graph, values)

    cost = (logits * torch.arange(1, logits.numel() + 1, dtype=torch.float64).sin().reshape(logits.shape)).sum()
    (g,) = torch.autograd.grad(cost, x, retain_graph=True)
    g = g.flatten()
    stride = -(-g.numel() // 64)
    if stride % 2 == 0:  # else it keeps to a few columns
        stride += 1
    samples = []
    for row in F.log_softmax(logits, 1):
        label = int(row.argmax())
        parts = torch.autograd.grad(row[label], list(weights.values()), retain_graph=True, allow_unused=True)
        samples.append({"label": label, "weights": {
            name: {"square": digits([(p * p).sum()])[0], "first": digits(p.flatten()[:4])}
            for name, p in zip(weights, parts) if p is not None}})
    return {"input": shape, "logits": digits(logits.flatten()),
            "gradient": {"norm": digits([g.norm()])[0], "stride": stride, "values": digits(g[::stride])},
            "samples": samples}


def resnet18(path):
    from torchvision import models
    torch.manual_seed(0)
    net = models.resnet18().eval()
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):  # statistics that folding cannot take for none
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    torch.onnx.export(net, torch.randn(2, 3, 64, 64), path, opset_version=17, input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default=HERE / "gradients.json")
    parser.add_argument("--resnet18")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    if args.resnet18:
        resnet18(args.resnet18)
    else:
        cases = {}
        for path in args.models or KEPT:
            kept = path in KEPT
            name = str(path).removeprefix(f"{HERE}/") if kept else str(path.resolve())
            cases[name] = gradients(path)
        with open(args.output, "w") as f:
            f.write("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(c)}" for n, c in cases.items()) + "\n}\n")
