"""Exports small networks of torchvision's architectures, with random weights, for the tests of lifting.

    /usr/bin/python3 export.py [FOLDER]        # Debian's python3-torch 1.13 and python3-torchvision

Without FOLDER it writes the files kept here: one opset each, narrow, 32x32 or 64x64 images, 10 classes. With FOLDER it writes
torchvision's own sizes at opsets 11, 14 and 17 there, which the tests read where DISTILL_TEACHERS names it.
"""
import sys
import warnings

import torch
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

warnings.filterwarnings("ignore")


def mobilenet_v3():
    def block(*a):
        return InvertedResidualConfig(*a, 1, 1.0)
    # in, kernel, expanded, out, squeeze-excitation, activation, stride
    return MobileNetV3([block(8, 3, 8, 8, True, "RE", 2), block(8, 3, 24, 12, False, "RE", 2), block(12, 5, 32, 12, True, "HS", 1)],
                       32, num_classes=10)


def efficientnet():
    return EfficientNet([MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0), MBConvConfig(4, 5, 2, 8, 12, 2, 1.0, 1.0)], 0.2, num_classes=10)


def convnext():
    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=10)


def vit():
    return VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=10)


def swin():
    return SwinTransformer([4, 4], 16, [2, 2], [1, 2], [4, 4], num_classes=10)


KEPT = {"mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=10, width_mult=0.1), 32, 13), "mobilenet_v3": (mobilenet_v3, 32, 14),
        "efficientnet": (efficientnet, 32, 17), "convnext": (convnext, 64, 15), "vit": (vit, 32, 11), "swin": (swin, 64, 16)}
WHOLE = {"resnet18": (lambda: models.resnet18(num_classes=10), 64), "mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=10), 64),
         "mobilenet_v3_small": (lambda: models.mobilenet_v3_small(num_classes=10), 64),
         "efficientnet_b0": (lambda: models.efficientnet_b0(num_classes=10), 64), "convnext": (convnext, 64), "vit": (vit, 32),
         "swin": (swin, 64)}


def export(make, size, opset, path):
    torch.manual_seed(0)
    net = make().eval()
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):  # statistics that folding cannot take for none
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
        if isinstance(m, torch.nn.Linear):  # torchvision starts a ViT's head at zero
            torch.nn.init.normal_(m.weight, 0, 0.1)
    torch.onnx.export(net, torch.randn(2, 3, size, size), path, opset_version=opset, input_names=["input"],
                      output_names=["logits"], dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


if len(sys.argv) > 1:
    for name, (make, size) in WHOLE.items():
        for opset in (11, 14, 17):
            export(make, size, opset, f"{sys.argv[1]}/{name}_{opset}.onnx")
else:
    for name, (make, size, opset) in KEPT.items():
        export(make, size, opset, f"{name}.onnx")
