"""The peer: PyTorch's side of the comparison, which answers the lines that serve.go answers, and two more:

    export NETWORK FOLDER   writes a teacher as ONNX, batch norm folded
    tune                    times both memory formats, keeps the faster and says "LAYOUT contiguous_ms channels_last_ms"

Models have the parameter names of package student, so that weights load by name. Needs PyTorch 1.13 or newer and, for
some networks, torchvision.
"""
import collections
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TEMPERATURE = 4


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """The CIFAR network of He et al. 2015 (arXiv:1512.03385), section 4.2, with shortcut B."""

    def __init__(self, blocks, width, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage in range(3):
            layer = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(Block(inputs, width << stage, stride))
                inputs = width << stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def resnet18():
    import torchvision
    torch.manual_seed(0)  # the exported file and this process have the same weights
    return torchvision.models.resnet18()


class ViT(nn.Module):
    """torchvision's encoder without a class token: the mean of the patches is classified."""

    def __init__(self, patch, width, depth, heads, tokens, classes=10):
        super().__init__()
        from torchvision.models.vision_transformer import Encoder
        self.conv_proj = nn.Conv2d(3, width, patch, patch)
        self.encoder = Encoder(tokens, depth, heads, width, 4 * width, 0.0, 0.0)
        self.heads = nn.Sequential(collections.OrderedDict(head=nn.Linear(width, classes)))

    def forward(self, x):
        return self.heads(self.encoder(self.conv_proj(x).flatten(2).transpose(1, 2)).mean(1))


def mobilenetv2():
    """torchvision's for small images: a stem of stride 1, four stages and no last convolution."""
    from torchvision.models.mobilenetv2 import MobileNetV2
    from torchvision.ops.misc import Conv2dNormActivation
    stages = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 2, 2], [6, 64, 2, 2]]  # t, c, n, s
    model = MobileNetV2(inverted_residual_setting=stages, dropout=0.0, num_classes=10)
    model.features = model.features[:-1]
    model.features[0] = Conv2dNormActivation(3, 32, stride=1, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU6)
    model.classifier = nn.Sequential(nn.Identity(), nn.Linear(64, 10))
    return model


STUDENTS = {
    "resnet-20": lambda: ResNet(3, 16),
    "wide": lambda: ResNet(2, 64),
    "mobilenetv2": mobilenetv2,
    "vit": lambda: ViT(patch=4, width=192, depth=4, heads=3, tokens=64),
}
TEACHERS = {"resnet-18": (resnet18, (3, 224, 224))}


def read_tensors(path):
    """A safetensors file: 8 bytes of length, a JSON header, the tensors."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    types = {"F32": torch.float32, "I64": torch.int64}
    return {
        name: torch.frombuffer(bytearray(data[slice(*t["data_offsets"])]), dtype=types[t["dtype"]]).reshape(t["shape"])
        for name, t in header.items() if name != "__metadata__"
    }


def write_tensors(path, tensors):
    """Float32 tensors as a safetensors file."""
    header, blobs, at = {}, [], 0
    for name, t in tensors.items():
        blobs.append(t.detach().contiguous().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def arrange(workload, layout):
    workload.model.to(memory_format=LAYOUTS[layout])
    workload.images = workload.images.contiguous(memory_format=LAYOUTS[layout])


class Training:
    """A student's step: forward, backward and update, on one batch."""

    def __init__(self, name, start):
        self.model = STUDENTS[name]()
        self.images, self.labels = start.pop("images"), start.pop("labels")
        self.teacher = start.pop("teacher_logits")
        missing, left = self.model.load_state_dict(start, strict=False)
        missing = [m for m in missing if not m.endswith("num_batches_tracked")]
        if missing or left:
            raise ValueError(f"the file lacks {missing}, the model lacks {left}")

    def arrange(self, layout):
        arrange(self, layout)
        # Anew, since momenta would keep the layout that they were made in.
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def run(self):
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(self.images)
        kd = F.kl_div(F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(self.teacher / TEMPERATURE, 1),
                      reduction="batchmean", log_target=True) * TEMPERATURE ** 2
        loss = 0.9 * kd + 0.1 * F.cross_entropy(logits, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def first(self):
        self.run()
        state = self.optimizer.state
        return {f"{name}.momentum": state[p]["momentum_buffer"] for name, p in self.model.named_parameters()}


class Inference:
    """A teacher's forward pass on one batch."""

    def __init__(self, name, start):
        self.model, self.images = TEACHERS[name][0]().eval(), start["images"]

    def arrange(self, layout):
        arrange(self, layout)

    @torch.inference_mode()
    def run(self):
        self.logits = self.model(self.images)
        return 0.0

    def first(self):
        self.run()
        return {"logits": self.logits.clone()}


class Server:
    """Holds one network."""

    def load(self, name, batch, seed, threads, folder, layout):
        torch.set_num_threads(int(threads))
        kind = Training if name in STUDENTS else Inference
        self.workload = kind(name, read_tensors(os.path.join(folder, name + ".safetensors")))
        self.workload.arrange(layout)

    def export(self, name, folder):
        make, image = TEACHERS[name]
        torch.onnx.export(make().eval(), torch.randn(2, *image), os.path.join(folder, name + ".onnx"), opset_version=13,
                          input_names=["images"], output_names=["logits"], dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}})

    def first(self, path):
        write_tensors(path, self.workload.first())

    def times(self, n):
        times = []
        for _ in range(n + 1):
            start = time.perf_counter()
            loss = self.workload.run()
            times.append((time.perf_counter() - start) * 1e3)
            if loss != loss or abs(loss) == float("inf"):
                raise ValueError(f"the loss became {loss}")
        return times[1:]  # the first is untimed, as in serve.go

    def step(self, n):
        return " ".join(f"{t:.3f}" for t in self.times(int(n)))

    def tune(self):
        times = {layout: [] for layout in LAYOUTS}
        for _ in range(4):
            for layout in LAYOUTS:
                self.workload.arrange(layout)
                times[layout] += self.times(2)
        medians = {layout: statistics.median(t) for layout, t in times.items()}
        best = min(medians, key=medians.get)
        self.workload.arrange(best)
        return " ".join([best] + [f"{medians[layout]:.3f}" for layout in LAYOUTS])

    def memory(self):
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))


def main():
    replies, sys.stdout = sys.stdout, sys.stderr  # a library that prints does not disturb the protocol
    server = Server()
    for line in sys.stdin:
        command, *words = line.split()
        try:
            result = getattr(server, command)(*words)
            reply = "ok" if result is None else f"ok {result}"
        except Exception as e:
            reply = "error " + f"{type(e).__name__}: {e}".replace("\n", "; ")
        print(reply, file=replies, flush=True)


if __name__ == "__main__":
    main()
