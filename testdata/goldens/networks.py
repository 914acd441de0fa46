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
    vit_token   torchvision's VisionTransformer on [4,3,8,8]: patch 4, width 12, depth 2, 2 heads, 24 hidden features
    vit_mean    the same without a class token: the mean of the patches' tokens is classified

Names are PyTorch's, those of the ResNets as in github.com/akamaster/pytorch_resnet_cifar10. No ReLU has an input within 1e-5
of 0 (of a ReLU6: of 0 or 6), and no window of a max pool holds a positive maximum that close to another element, so that an engine in float32 takes
the same branches.

Needs PyTorch 1.13 and torchvision 0.14 (Debian: python3-torch, python3-torchvision).
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import MobileNetV2, VisionTransformer
from torchvision.ops.misc import Conv2dNormActivation

CLASSES = 10
MARGIN = 1e-5  # from the kinks


def relu(x):
    assert x.abs().min() > MARGIN, "a ReLU is at its kink: choose other inputs"
    return F.relu(x)


def max_pool(x):
    windows = F.unfold(x.flatten(0, 1)[:, None], 2, stride=2)
    first, second = windows.topk(2, dim=1).values.unbind(1)
    # Windows of zeros, which a ReLU left, pass no gradient on: there the choice makes no difference.
    assert ((first - second)[first > 0] > MARGIN).all(), "a max pool has two maxima: choose other inputs"
    return F.max_pool2d(x, 2)


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
    x = inputs[0]
    assert not module.training or min(x.abs().min(), (x - 6).abs().min()) > MARGIN, "a ReLU6 is at its kink: choose other inputs"


def mobilenetv2():
    settings = [[1, 16, 1, 1], [3, 64, 2, 2]]
    net = MobileNetV2(CLASSES, width_mult=0.25, inverted_residual_setting=settings, dropout=0)
    net.features[-1] = Conv2dNormActivation(16, 16, kernel_size=1, activation_layer=nn.ReLU6)
    net.classifier[1] = nn.Linear(16, CLASSES)
    for m in net.modules():
        if isinstance(m, nn.ReLU6):
            m.register_forward_pre_hook(at_no_kink)
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
        "vit_token": golden(ViT("token"), [4, 3, 8, 8]),
        "vit_mean": golden(ViT("mean"), [4, 3, 8, 8]),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(g, allow_nan=False)}" for name, g in goldens.items()]
    pathlib.Path(__file__).with_name("networks.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
