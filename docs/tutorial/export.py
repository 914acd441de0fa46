#!/usr/bin/env python3
"""Writes the tutorial's student, an untrained PyTorch network for 32x32 images, as an ONNX file that distill can train.

    python3 export.py net.onnx

Needs PyTorch 1.13 and the onnx package (Debian: python3-torch, python3-onnx).
"""
import sys

import onnx
import torch
from torch import nn


def conv(inputs, outputs, size, stride=1, groups=1):
    """A convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, with a shortcut where the shape stays."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.depthwise = conv(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = conv(inputs, outputs, 1)
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x):
        y = self.pointwise(self.depthwise(x))
        return x + y if self.shortcut else y


class Net(nn.Module):
    """38,314 parameters. The names of its parts are what `freeze` matches later."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = conv(3, 32, 3)
        self.blocks = nn.Sequential(
            Separable(32, 32),
            Separable(32, 64, stride=2),
            Separable(64, 64),
            Separable(64, 128, stride=2),
            Separable(128, 128),
        )
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(128, classes)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.head(self.dropout(x.mean((2, 3))))


def export(net, path):
    """Writes net to path with its batch norm and dropout layers, for training; ../tutorial.md says why each line is there."""
    net.train()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    torch.onnx.export(
        net, torch.zeros(1, 3, 32, 32), path, opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        input_names=["input"], output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    onnx.checker.check_model(onnx.load(path), full_check=True)


if __name__ == "__main__":
    torch.manual_seed(1)
    export(Net(), sys.argv[1])
