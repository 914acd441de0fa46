#!/usr/bin/env python3
"""Exports a CIFAR-10 ResNet of akamaster/pytorch_resnet_cifar10 from its checkpoint to ONNX.

    python3 export.py resnet56-4bfd9763.th cifar10_resnet56.onnx

The depth (6n+2) is read from the checkpoint. The network is that of He et al. 2015 (arXiv:1512.03385), section 4.2,
with parameter-free shortcuts (option A): every second pixel, the missing channels zero. Batch normalisation is folded into the
convolutions by the exporter. Input: "input", float32 [batch,3,32,32]; output: "logits", float32 [batch,10]; opset 13.

Needs PyTorch 1.13 (Debian: python3-torch). Run with --random DEPTH instead of a checkpoint to try it without one.
"""
import argparse
import collections

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut that has no parameters."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.grows = inputs != outputs
        self.pad = (outputs - inputs) // 2

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.grows:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet(nn.Module):
    """Three stages of n blocks, 16, 32 and 64 channels wide. Parameters are named as in the checkpoints."""

    def __init__(self, n):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(n, 16, 16, 1)
        self.layer2 = self.stage(n, 16, 32, 2)
        self.layer3 = self.stage(n, 32, 64, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def stage(n, inputs, outputs, stride):
        first = Block(inputs, outputs, stride)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(n - 1)))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.avg_pool2d(x, 8)  # all of the 8x8 map
        return self.linear(x.flatten(1))


def load(path):
    """Returns the checkpoint's network. The checkpoints were saved from nn.DataParallel, hence the prefix."""
    state = torch.load(path, map_location="cpu")["state_dict"]
    state = collections.OrderedDict((k.removeprefix("module."), v) for k, v in state.items())
    blocks = {k.split(".")[1] for k in state if k.startswith("layer1.")}
    net = ResNet(len(blocks))
    net.load_state_dict(state)
    return net


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("checkpoint", nargs="?", help="a .th file with a state_dict")
    source.add_argument("--random", type=int, metavar="DEPTH", help="random weights at this depth, 6n+2")
    parser.add_argument("output", help="the ONNX file to write")
    args = parser.parse_args()
    if args.checkpoint:
        net = load(args.checkpoint)
    else:
        if args.random < 8 or args.random % 6 != 2:
            parser.error(f"depth {args.random} is not 6n+2")
        torch.manual_seed(0)
        net = ResNet((args.random - 2) // 6)
    torch.onnx.export(
        net.eval(), torch.zeros(1, 3, 32, 32), args.output, opset_version=13,
        input_names=["input"], output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )


if __name__ == "__main__":
    main()
