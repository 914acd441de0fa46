"""Exports small networks written as timm writes them, with random weights, for the tests of lifting.

    /usr/bin/python3 timm.py [FOLDER]          # Debian's python3-torch 1.13

timm (PyTorch Image Models) is not needed: the modules in timm_transformers.py and timm_convnets.py are this project's, and
follow the idioms by which timm's networks differ from torchvision's in an ONNX file. Without FOLDER it writes the files kept
here. With FOLDER it writes each network at opsets 11, 14 and 17 for any batch, at 17 for a batch of 2, and as newer.py
rewrites it for opsets 18 to 21; the tests read them where DISTILL_TEACHERS names it.
"""
import sys
import warnings
from functools import partial

import onnx
import torch
from torch import nn

from newer import rewrite
from timm_convnets import (BlurPool2d, ConvNeXt, EfficientChannelAttention, EfficientNet, EvoNormS0, GroupNormAct,
                           HardSigmoidByHand, HardSwishByHand, MaxPool2dSame, ResNetD, SqueezeExcite, efficientnet_same)
from timm_transformers import DistilledTransformer, Swin, VisionTransformer

warnings.filterwarnings("ignore")

NETWORKS = {
    "vit": VisionTransformer,
    "vit_avg": partial(VisionTransformer, pool="avg", scaled="after", qk_norm=True),
    "vit_fused": partial(VisionTransformer, scaled="fused"),
    "vit_no_token": partial(VisionTransformer, pool="avg", prefix=0),
    "deit_distilled": DistilledTransformer,
    "swin": partial(Swin, True),
    "swin_reshape": partial(Swin, False),
    "convnext": ConvNeXt,
    "convnext_conv_mlp": partial(ConvNeXt, conv_mlp=True, by_hand=True),
    "convnext_v2": partial(ConvNeXt, v2=True),
    "efficientnet": partial(EfficientNet, nn.SiLU, se=partial(SqueezeExcite, act=nn.SiLU)),
    "efficientnet_same": partial(efficientnet_same, False),
    "efficientnet_same_traced": partial(efficientnet_same, True),
    "efficientnet_same_pool": lambda: efficientnet_same(True, MaxPool2dSame(3, 2)),
    "mobilenet_v2": partial(EfficientNet, nn.ReLU6),
    "mobilenet_v3": partial(EfficientNet, nn.Hardswish, late=True, se=partial(SqueezeExcite, act=nn.ReLU, gate=nn.Hardsigmoid)),
    "mobilenet_v3_by_hand": partial(EfficientNet, HardSwishByHand, late=True,
                                    se=partial(SqueezeExcite, act=nn.ReLU, gate=HardSigmoidByHand)),
    "resnet_d": ResNetD,
    "resnet_d_odd": ResNetD,
    "resnet_eca": partial(ResNetD, attn=EfficientChannelAttention, pool="fast"),
    "resnet_se": partial(ResNetD, attn=partial(SqueezeExcite, act=nn.ReLU), pool="avgmax"),
    "resnet_blur": partial(ResNetD, aa=BlurPool2d, pool="max"),
    "resnet_group_norm": partial(ResNetD, norm=GroupNormAct, pool="catavgmax"),
    "resnet_evo_norm": partial(ResNetD, norm=EvoNormS0, pool="fastmax"),
    "resnet_mish": partial(EfficientNet, nn.Mish),
}


KEPT = {  # by file: the network, and the opset it is exported or rewritten at
    "deit": (partial(DistilledTransformer, 24, 1), 20),
    "efficientnet_same": (lambda: efficientnet_same(True, MaxPool2dSame(3, 2)), 14),
    "resnet_d": (partial(ResNetD, norm=GroupNormAct, attn=EfficientChannelAttention, aa=BlurPool2d, pool="catavgmax"), 21),
}


def export(make, opset, path, size=32, batch=None):
    torch.manual_seed(0)
    net = make().eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):  # statistics that folding cannot take for none
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    x = torch.randn(batch or 2, 3, size, size)
    with torch.no_grad():
        scale = net(x).std()
        for m in net.modules():
            if isinstance(m, nn.Linear) and m.out_features == 10:  # logits of the size that trained ones have
                m.weight.div_(scale)
    dynamic = {"input": {0: "batch"}, "logits": {0: "batch"}} if batch is None else {}
    # To be rewritten it keeps its batch norm, which the older exporter folds away for inference.
    mode = torch.onnx.TrainingMode.PRESERVE if opset > 17 else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(net, x, path, opset_version=min(opset, 17), input_names=["input"], output_names=["logits"],
                      dynamic_axes=dynamic, training=mode)
    if opset > 17:
        onnx.save(rewrite(onnx.load(path), opset), path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for name, make in NETWORKS.items():
            stem, size = f"{sys.argv[1]}/{name}", 36 if name == "resnet_d_odd" else 32
            for opset in (11, 14, 17, 18, 19, 20, 21):
                export(make, opset, f"{stem}_{opset}.onnx", size)
            export(make, 17, f"{stem}_17_batch2.onnx", size, 2)
    else:
        for name, (make, opset) in KEPT.items():
            export(make, opset, f"{name}.onnx")
