#!/usr/bin/env python3
"""Writes imagenet.json beside itself: the logits of whole torchvision networks in inference mode, by PyTorch in float64.

    python3 imagenet.py

The file maps a network's name to {"input": shape [1,3,H,W], "parameters": how many, "logits": [1000]}. Inputs, weights and
statistics are float32 numbers that follow from a tensor's name and an element's number i in row-major order. With

    h = FNV-1a of the name (32 bits) + i;  h ^= h >> 16;  h *= 2246822519;  h ^= h >> 13;  h *= 3266489917;  h ^= h >> 16

modulo 2³² (xxHash's last steps) and v = h/2³¹ − 1, an element is

    v                 of the images, called input
    v·sqrt(6/fan_in)  of a tensor of rank 2 or more; fan_in is the product of all sizes but the first
    1 + v/2           of a …weight or …running_var of rank 1
    v/10              of any other tensor of rank 1

    mobilenet_v2  [1,3,224,224]
    vit_tiny_16   VisionTransformer on [1,3,224,224]: patch 16, width 192, depth 12, 3 heads, 768 hidden features

Needs PyTorch 1.13 and torchvision 0.14 (Debian: python3-torch, python3-torchvision).
"""
import json
import math
import pathlib

import numpy
import torch
import torchvision


def values(name, shape):
    h = 2166136261
    for byte in name.encode():
        h = (h ^ byte) * 16777619 % 2**32
    h = (numpy.arange(math.prod(shape), dtype=numpy.uint32) + numpy.uint32(h)).astype(numpy.uint32)
    h ^= h >> 16
    h *= numpy.uint32(2246822519)
    h ^= h >> 13
    h *= numpy.uint32(3266489917)
    h ^= h >> 16
    return torch.from_numpy(h / 2.0**31 - 1).reshape(shape)


def tensor(name, shape):
    v = values(name, shape)
    if len(shape) > 1:
        v *= math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith(("weight", "running_var")):
        v = 1 + v / 2
    else:
        v = v / 10
    return v.float().double()


def golden(net, shape):
    net.double().eval()
    state = {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    net.load_state_dict({name: tensor(name, t.shape) for name, t in state.items()}, strict=False)
    logits = net(values("input", shape).float().double())
    return {"input": shape, "parameters": sum(p.numel() for p in net.parameters()), "logits": logits.flatten().tolist()}


def main():
    torch.set_num_threads(1)  # the order of sums, and so the last digits, depend on it
    vit_tiny = torchvision.models.VisionTransformer(224, 16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768)
    goldens = {
        "mobilenet_v2": golden(torchvision.models.mobilenet_v2(), [1, 3, 224, 224]),
        "vit_tiny_16": golden(vit_tiny, [1, 3, 224, 224]),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(g, allow_nan=False)}" for name, g in goldens.items()]
    pathlib.Path(__file__).with_name("imagenet.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
