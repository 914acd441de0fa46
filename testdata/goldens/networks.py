#!/usr/bin/env python3
"""Writes networks.json beside itself: the first training step of whole small networks, by PyTorch's autograd in float64.

    python3 networks.py

The file maps a network's name to

    {"input": shape [N,C,H,W], "labels": [N], "teacher": [N·10 logits],
     "logits": [N·10], "loss": v,
     "parameters": [{"name": "…", "shape": […], "gradient": […]}, …], in the order of PyTorch's state_dict,
     "statistics": {"bn1.running_mean": […], "bn1.running_var": […], …}, after the step,
     "evaluated": [N·10 logits in inference mode, by these statistics and the parameters as before the step]}

with elements in row-major order. Everything that goes in is a function of an element's number i:

    input        sin(12.9898·(i+1))
    teacher      3·sin(2.3·i + 0.5)
    labels       3·n mod 10
    parameter    0.2·sin(0.7·i + k), and 1 more for the weight of a batch or layer norm; k numbers the parameters from 0, in the
                 order of the state_dict, running statistics not counted

The loss is 0.1·cross-entropy + 0.9·KD at T = 4 (T² times the mean over the batch of the divergence, Hinton et al. 2015,
arXiv:1503.02531). Batch norm has eps 1e-5 and momentum 0.1: a running variance takes up the unbiased variance of the batch.

    resnet8_a   CIFAR ResNet (He et al. 2015, arXiv:1512.03385, section 4.2) of one block a stage, 4, 8 and 16 wide, on
                [4,3,16,16]; shortcut A: every second pixel, the missing channels zero, as many before as after
    resnet8_b   the same with shortcut B: a 1x1 convolution of stride 2 without bias, and batch norm
    cnn         [4,3,12,12]: twice 3x3 convolution without bias, batch norm, ReLU, 2x2 max pool, 6 and 8 wide; global average
                pool; linear
    mlp         [4,1,6,6]: linear to 16, ReLU, linear to 12, ReLU, linear to 10
    mobilenetv2 torchvision's MobileNetV2 of width 0.25 on [4,3,16,16], with settings (1,16,1,1), (3,64,2,2), a last convolution
                of 16 channels instead of 1280, and no dropout
    resnet_basic       torchvision's ResNet of layers of one BasicBlock each, 8 and 16 wide, on [4,3,13,13]
    resnet_bottleneck  of layers of one Bottleneck each, 8 and 16 planes wide, on [3,3,11,11], with a 3x3 stem of stride 1 and no
                max pool
    wrn         wide ResNet (Zagoruyko and Komodakis 2016, arXiv:1605.07146) of depth 10 and widening 2, its stem 2 wide, on
                [4,3,16,16]
    vgg         torchvision's VGG of the stages 8, max pool, 8, max pool, with batch norm, 6 hidden features and no dropout, on
                [4,3,12,12]
    vgg_small   3x3 convolutions with bias, batch norm, ReLU: 8, max pool, 8, 16 and 16; global average pool; linear; on [4,3,8,8]
    shufflenetv2       torchvision's ShuffleNetV2 of 2 and 1 blocks of 8 and 12 channels, without a last stage, a stem of 8 and a
                last convolution of 16, on [3,3,9,9], with a stem of stride 1 and no max pool
    efficientnet       torchvision's EfficientNet with a stem of 8 channels and stride 1, settings (expand, channels, blocks, stride,
                kernel) (1,8,1,1,3), (2,16,1,2,5), a last convolution of 16, on [6,3,10,10], without dropout or stochastic depth
    convnext    torchvision's ConvNeXt of 1 and 2 blocks of 8 and 16 channels, with a stem of patch 2, on [4,3,8,8]
    vit_token   torchvision's VisionTransformer on [4,3,8,8]: patch 4, width 12, depth 2, 2 heads, 24 hidden features
    vit_mean    the same without a class token: the mean of the patches' tokens is classified

Names are PyTorch's, those of the CIFAR ResNets as in github.com/akamaster/pytorch_resnet_cifar10, those of the wide ResNet
as in github.com/xternalz/WideResNet-pytorch. No ReLU has an input within 1e-5 of 0 (of a ReLU6: of 0 or 6), and no window of
a max pool holds a positive maximum that close to another element, so that an engine in float32 takes the same branches.

Needs PyTorch 1.13 and torchvision 0.14 (Debian: python3-torch, python3-torchvision).
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import ConvNeXt, EfficientNet, MobileNetV2, ShuffleNetV2, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vgg import VGG, make_layers
from torchvision.ops.misc import Conv2dNormActivation

CLASSES = 10
MARGIN = 1e-5  # from the kinks


def relu(x):
    assert x.abs().min() > MARGIN, "a ReLU is at its kink: choose other inputs"
    return F.relu(x)


def max_pool(x, *window):
    """window is kernel, stride and padding."""
    window = window or (2, 2, 0)
    windows = F.unfold(x.flatten(0, 1)[:, None], window[0], stride=window[1], padding=window[2])
    first, second = windows.topk(2, dim=1).values.unbind(1)
    # Windows of zeros, which a ReLU left, pass no gradient on: there the choice makes no difference.
    assert ((first - second)[first > 0] > MARGIN).all(), "a max pool has two maxima: choose other inputs"
    return F.max_pool2d(x, *window)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, option):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pad = outputs // 4 if inputs != outputs else 0
        self.shortcut = nn.Sequential()
        if inputs != outputs and option == "B":
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if len(self.shortcut):
            x = self.shortcut(x)
        elif self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return relu(y + x)


class ResNet8(nn.Module):
    def __init__(self, option):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4, 4, 1, option))
        self.layer2 = nn.Sequential(Block(4, 8, 2, option))
        self.layer3 = nn.Sequential(Block(8, 16, 2, option))
        self.linear = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = max_pool(relu(self.bn1(self.conv1(x))))
        x = max_pool(relu(self.bn2(self.conv2(x))))
        return self.linear(x.mean((2, 3)))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(36, 16)
        self.fc2 = nn.Linear(16, 12)
        self.linear = nn.Linear(12, CLASSES)

    def forward(self, x):
        return self.linear(relu(self.fc2(relu(self.fc1(x.flatten(1))))))


def at_no_kink(module, inputs):
    """is called before a module that has a kink."""
    x = inputs[0]
    if not module.training:
        return
    if isinstance(module, nn.MaxPool2d):
        max_pool(x, module.kernel_size, module.stride, module.padding)
    else:
        kinks = [0, 6] if isinstance(module, nn.ReLU6) else [0]
        assert min((x - k).abs().min() for k in kinks) > MARGIN, "an activation is at its kink: choose other inputs"


def watched(net):
    for m in net.modules():
        if isinstance(m, (nn.ReLU, nn.ReLU6, nn.MaxPool2d)):
            m.register_forward_pre_hook(at_no_kink)
    return net


def mobilenetv2():
    settings = [[1, 16, 1, 1], [3, 64, 2, 2]]
    net = MobileNetV2(CLASSES, width_mult=0.25, inverted_residual_setting=settings, dropout=0)
    net.features[-1] = Conv2dNormActivation(16, 16, kernel_size=1, activation_layer=nn.ReLU6)
    net.classifier[1] = nn.Linear(16, CLASSES)
    return watched(net)


class ResNet(nn.Module):
    def __init__(self, block, small):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False) if small else nn.Conv2d(3, 8, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        out = [planes * block.expansion for planes in (8, 16)]
        self.layer1 = nn.Sequential(block(8, 8, 1, self.downsample(8, out[0], 1)))
        self.layer2 = nn.Sequential(block(out[0], 16, 2, self.downsample(out[0], out[1], 2)))
        self.fc = nn.Linear(out[1], CLASSES)

    @staticmethod
    def downsample(inputs, outputs, stride):
        if stride == 1 and inputs == outputs:
            return None
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        x = relu(self.bn1(x))
        return self.conv2(relu(self.bn2(self.conv1(x)))) + self.convShortcut(x)


class WideStage(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride))

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.block1 = WideStage(2, 4, 1)
        self.block2 = WideStage(4, 8, 2)
        self.block3 = WideStage(8, 16, 2)
        self.bn1 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(relu(self.bn1(x)).mean((2, 3)))


def vgg():
    net = VGG(make_layers([8, "M", 8, "M"], batch_norm=True), dropout=0)
    net.classifier[0], net.classifier[3], net.classifier[6] = nn.Linear(8 * 49, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
    return watched(net)


class SmallVGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = make_layers([8, "M", 8, 16, 16], batch_norm=True)
        self.classifier = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def shufflenetv2():
    net = ShuffleNetV2([2, 1, 1], [8, 8, 12, 12, 16], CLASSES)
    net.conv1[0].stride, net.maxpool, net.stage4 = (1, 1), nn.Identity(), nn.Identity()
    return watched(net)


def efficientnet():
    settings = [MBConvConfig(1, 3, 1, 8, 8, 1), MBConvConfig(2, 5, 2, 8, 16, 1)]
    net = EfficientNet(settings, dropout=0, stochastic_depth_prob=0, num_classes=CLASSES, last_channel=16)
    net.features[0][0].stride = (1, 1)
    return net


def convnext():
    net = ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)], num_classes=CLASSES)
    net.features[0][0] = nn.Conv2d(3, 8, 2, 2)
    return net


class ViT(VisionTransformer):
    def __init__(self, pool):
        super().__init__(8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=24, num_classes=CLASSES)
        self.pool = pool
        if pool == "mean":
            del self.class_token
            self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 4, 12))

    def forward(self, x):
        if self.pool == "token":
            return super().forward(x)
        return self.heads(self.encoder(self._process_input(x)).mean(1))


def filled(shape, value):
    """value gives element i."""
    return torch.tensor([value(i) for i in range(math.prod(shape))], dtype=torch.float64).reshape(shape)


def initialise(net):
    norms = {f"{name}.weight" for name, m in net.named_modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm))}
    for k, (name, p) in enumerate(net.named_parameters()):
        p.data = filled(p.shape, lambda i: 0.2 * math.sin(0.7 * i + k) + (name in norms))


def distillation(logits, teacher, labels, temperature=4):
    log_p, log_q = F.log_softmax(logits / temperature, 1), F.log_softmax(teacher / temperature, 1)
    kd = temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return 0.1 * F.cross_entropy(logits, labels) + 0.9 * kd


def flat(t):
    return t.detach().flatten().tolist()


def golden(net, shape):
    net.double().train()
    initialise(net)
    n = shape[0]
    x = filled(shape, lambda i: math.sin(12.9898 * (i + 1)))
    teacher = filled((n, CLASSES), lambda i: 3 * math.sin(2.3 * i + 0.5))
    labels = torch.tensor([3 * i % CLASSES for i in range(n)])
    logits = net(x)
    loss = distillation(logits, teacher, labels)
    loss.backward()
    net.eval()
    return {
        "input": shape, "labels": labels.tolist(), "teacher": flat(teacher),
        "logits": flat(logits), "loss": loss.item(),
        "parameters": [{"name": name, "shape": list(p.shape), "gradient": flat(p.grad)} for name, p in net.named_parameters()],
        "statistics": {name: flat(b) for name, b in net.named_buffers() if not name.endswith("num_batches_tracked")},
        "evaluated": flat(net(x)),
    }


def main():
    torch.set_num_threads(1)  # the order of sums, and so the last digits, depend on it
    goldens = {
        "resnet8_a": golden(ResNet8("A"), [4, 3, 16, 16]),
        "resnet8_b": golden(ResNet8("B"), [4, 3, 16, 16]),
        "cnn": golden(CNN(), [4, 3, 12, 12]),
        "mlp": golden(MLP(), [4, 1, 6, 6]),
        "mobilenetv2": golden(mobilenetv2(), [4, 3, 16, 16]),
        "resnet_basic": golden(watched(ResNet(BasicBlock, small=False)), [4, 3, 13, 13]),
        "resnet_bottleneck": golden(watched(ResNet(Bottleneck, small=True)), [3, 3, 11, 11]),
        "wrn": golden(WideResNet(), [4, 3, 16, 16]),
        "vgg": golden(vgg(), [4, 3, 12, 12]),
        "vgg_small": golden(watched(SmallVGG()), [4, 3, 8, 8]),
        "shufflenetv2": golden(shufflenetv2(), [3, 3, 9, 9]),
        "efficientnet": golden(efficientnet(), [6, 3, 10, 10]),
        "convnext": golden(convnext(), [4, 3, 8, 8]),
        "vit_token": golden(ViT("token"), [4, 3, 8, 8]),
        "vit_mean": golden(ViT("mean"), [4, 3, 8, 8]),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(g, allow_nan=False)}" for name, g in goldens.items()]
    pathlib.Path(__file__).with_name("networks.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
