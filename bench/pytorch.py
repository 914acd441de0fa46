"""The peer: PyTorch's side of the comparison, which answers the lines that serve.go answers, and two more:

    export NETWORK FOLDER   writes a teacher as ONNX, batch norm folded
    logits FILE             what the epoch's teacher makes of the first images, unvaried

Models have the parameter names of package student, so that weights load by name. Needs PyTorch 1.13 or newer and, for
some networks, torchvision.
"""
import collections
import glob
import gzip
import json
import os
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


class FoldedBlock(nn.Module):
    """A block whose batch norms are folded into its convolutions, with shortcut A."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = self.conv2(F.relu(self.conv1(x), inplace=True))
        if self.pad:
            x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.pad, self.pad))
        y += x
        return F.relu(y, inplace=True)


class FoldedResNet(nn.Module):
    """ResNet for inference, as an export leaves it."""

    def __init__(self, blocks, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        for stage in range(3):
            layer = [FoldedBlock(8 << stage if stage else 16, 16 << stage, 2 if stage else 1)]
            layer += [FoldedBlock(16 << stage, 16 << stage, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.conv1(x), inplace=True)
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


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


def update(model, optimizer, images, labels, teacher):
    """Forward, backward and update; returns the loss, which must be finite."""
    optimizer.zero_grad(set_to_none=True)
    logits = model(images)
    kd = F.kl_div(F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(teacher / TEMPERATURE, 1),
                  reduction="batchmean", log_target=True) * TEMPERATURE ** 2
    loss = 0.9 * kd + 0.1 * F.cross_entropy(logits, labels)
    loss.backward()
    optimizer.step()
    value = loss.item()
    if value != value or abs(value) == float("inf"):
        raise ValueError(f"the loss became {value}")
    return value


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
        return update(self.model, self.optimizer, self.images, self.labels, self.teacher)

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

    def first(self):
        self.run()
        return {"logits": self.logits.clone()}


BATCH = 64
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255


def read_cifar(folder, n):
    """The first n images, uint8 [n,3,32,32], and their labels."""
    data = bytearray()
    for path in sorted(glob.glob(os.path.join(folder, "data_batch_*.bin*"))):
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
            data += f.read()
    records = torch.frombuffer(data, dtype=torch.uint8).view(-1, 1 + 3 * 32 * 32)[:n]
    return records[:, 1:].reshape(-1, 3, 32, 32).contiguous(), records[:, 0].long()


def augment(images, pad=4):
    """Crops [N,C,H,W] at random out of a black frame and mirrors every second one, all of a batch at once."""
    n, c, h, w = images.shape
    rows = torch.arange(h) + torch.randint(2 * pad + 1, (n, 1))
    columns = torch.arange(w).expand(n, w)
    columns = torch.where(torch.rand(n, 1) < 0.5, w - 1 - columns, columns) + torch.randint(2 * pad + 1, (n, 1))
    return F.pad(images, (pad,) * 4)[
        torch.arange(n).view(n, 1, 1, 1), torch.arange(c).view(1, c, 1, 1), rows.view(n, 1, h, 1), columns.view(n, 1, 1, w)]


def normalised(images):
    return (images - MEAN) / STD


class Epoch:
    """A plain training loop, the teacher live."""

    def __init__(self, images, folder, layout):
        self.images, self.labels = read_cifar(os.path.join(folder, "data"), images)
        self.layout = LAYOUTS[layout]
        self.teacher = FoldedResNet(9).eval()
        self.teacher.load_state_dict(read_tensors(os.path.join(folder, "teacher.safetensors")))
        self.teacher.to(memory_format=self.layout)
        self.student = STUDENTS["resnet-20"]().to(memory_format=self.layout)
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.batches = self.shuffled()

    def shuffled(self):
        """Batches without end, in another order each epoch, without the last ones that are not full."""
        while True:
            yield from (i for i in torch.randperm(len(self.images)).split(BATCH) if len(i) == BATCH)

    @torch.no_grad()
    def ask(self, x):
        return self.teacher(x.contiguous(memory_format=self.layout))

    def step(self):
        i = next(self.batches)
        x = normalised(augment(self.images[i])).contiguous(memory_format=self.layout)
        update(self.student, self.optimizer, x, self.labels[i], self.ask(x))


class Server:
    """Holds one network, or one epoch."""

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
            self.workload.run()
            times.append((time.perf_counter() - start) * 1e3)
        return times[1:]  # the first is untimed, as in serve.go

    def step(self, n):
        return " ".join(f"{t:.3f}" for t in self.times(int(n)))

    def open(self, images, threads, folder, layout):
        torch.set_num_threads(int(threads))
        self.epoch = Epoch(int(images), folder, layout)
        self.epoch.step()

    def logits(self, path):
        write_tensors(path, {"logits": self.epoch.ask(normalised(self.epoch.images[:BATCH]))})

    def train(self, settle, n):
        for _ in range(int(settle)):
            self.epoch.step()
        start = time.perf_counter()
        for _ in range(int(n)):
            self.epoch.step()
        return f"{(time.perf_counter() - start) * 1e3:.3f} 0"

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
