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

    convnext_atto  ConvNeXt of 2, 2, 6 and 2 blocks of 40, 80, 160 and 320 channels (timm's size atto) on [1,3,224,224]
    efficientnet_b0, mobilenet_v2, resnet18, resnet50, shufflenet_v2_x0_5, shufflenet_v2_x1_0 on [1,3,224,224]
    resnet18_small  resnet18 with a 3x3 conv1 of stride 1 and no max pool, on [1,3,32,32]
    vgg11_narrow, vgg11_bn_narrow  vgg11 and vgg11_bn with an eighth of their channels and 64 hidden features on [1,3,100,140],
                  whose last image of 3x4 pixels is brought to 7x7
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


def resnet18_small():
    net = torchvision.models.resnet18()
    net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    return net


def vgg11_narrow(batch_norm):
    layers = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    net = torchvision.models.VGG(torchvision.models.vgg.make_layers(layers, batch_norm))
    net.classifier[0], net.classifier[3], net.classifier[6] = (torch.nn.Linear(*io) for io in ((64 * 49, 64), (64, 64), (64, 1000)))
    return net


def convnext_atto():
    blocks = [torchvision.models.convnext.CNBlockConfig(*b) for b in ((40, 80, 2), (80, 160, 2), (160, 320, 6), (320, None, 2))]
    return torchvision.models.ConvNeXt(blocks)


def main():
    torch.set_num_threads(1)  # the order of sums, and so the last digits, depend on it
    vit_tiny = torchvision.models.VisionTransformer(224, 16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768)
    goldens = {
        name: golden(torchvision.models.get_model(name), [1, 3, 224, 224])
        for name in ("efficientnet_b0", "mobilenet_v2", "resnet18", "resnet50", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0")
    } | {
        "convnext_atto": golden(convnext_atto(), [1, 3, 224, 224]),
        "resnet18_small": golden(resnet18_small(), [1, 3, 32, 32]),
        "vgg11_narrow": golden(vgg11_narrow(batch_norm=False), [1, 3, 100, 140]),
        "vgg11_bn_narrow": golden(vgg11_narrow(batch_norm=True), [1, 3, 100, 140]),
        "vit_tiny_16": golden(vit_tiny, [1, 3, 224, 224]),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(g, allow_nan=False)}" for name, g in goldens.items()]
    pathlib.Path(__file__).with_name("imagenet.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
