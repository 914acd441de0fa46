"""Losses on inner tensors.

Their inputs:

    vectors        pooled vectors [4,6] of student and teacher
    maps           maps [2,3,2,2] and [2,4,2,2]
    sizes          three pairs of maps whose sizes differ: the teacher's smaller, in a ratio that is not whole; the student's
                   smaller; and one longer in H, the other in W
    alike          two pairs of maps of one shape
    wide           more channels than pixels
    levels         two pairs of maps, the teacher's first one larger and its second smaller than the student's
    with_vectors   "levels", and a pair of vectors
    warming        "levels", in the first epochs
    crossed        two pairs of maps of a batch of 8
    normed         three pairs of maps before their ReLU; "pair" is one
    moved          "alike", at another temperature
    equal          the teacher's maps are the student's
    zeros          the student's maps are 0
    batch_of_one   one image
"""
import math

import torch
import torch.nn.functional as F

from common import case, expect, maps, vectors, waves


def paired(*pairs):
    """Leaves of pairs (student, teacher)."""
    leaves = {}
    for i, (s, t) in enumerate(pairs):
        leaves[f"pairs.{i}.student"], leaves[f"pairs.{i}.teacher"] = s, t
    return leaves


def shaped(*shapes, size=1.0):
    """Leaves of pairs of maps without pattern, by their shapes."""
    return paired(*((size * waves(s, 2 * i), size * waves(t, 2 * i + 1)) for i, (s, t) in enumerate(shapes)))


def pairs(x):
    """The pairs of leaves."""
    n = sum(name.endswith(".student") for name in x)
    return [(x[f"pairs.{i}.student"], x[f"pairs.{i}.teacher"]) for i in range(n)]


SIZES = shaped(([2, 3, 5, 5], [2, 4, 3, 3]), ([2, 2, 3, 3], [2, 3, 6, 6]), ([2, 2, 5, 2], [2, 3, 2, 3]))
ALIKE = shaped(([3, 2, 3, 2], [3, 2, 3, 2]), ([3, 4, 1, 1], [3, 4, 1, 1]))
WIDE = shaped(([2, 5, 2, 2], [2, 6, 2, 2]), ([2, 3, 4, 4], [2, 8, 2, 2]))
EQUAL = paired((waves([2, 3, 2, 3]), waves([2, 3, 2, 3])))
ZEROS = paired((torch.zeros(2, 3, 2, 3, dtype=torch.float64), waves([2, 3, 2, 3])))
ONE = shaped(([1, 3, 4, 4], [1, 3, 4, 4]))


def to_smaller(s, t):
    h, w = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
    return F.adaptive_avg_pool2d(s, (h, w)), F.adaptive_avg_pool2d(t, (h, w))


def norm2(x, weight, bias):
    return F.batch_norm(x, None, None, weight, bias, training=True)


def fitnets(x):
    return sum(F.mse_loss(s, t) for s, t in pairs(x))


def attention(f, p):
    return F.normalize(f.abs().pow(p).mean(1).flatten(1))


def at(x, p=2):
    loss = 0
    for s, t in pairs(x):
        s, t = to_smaller(s, t)
        loss = loss + (attention(s, p) - attention(t, p)).pow(2).mean()
    return loss


def at_paper(x):
    loss = 0
    for s, t in pairs(x):
        s, t = to_smaller(s, t)
        maps = [F.normalize(f.pow(2).sum(1).flatten(1)) for f in (s, t)]
        loss = loss + (maps[0] - maps[1]).norm(dim=1).sum() / len(s)
    return loss


def nst(x):
    def kernel(a, b):
        return torch.einsum("nix,njx->nij", a, b).pow(2).mean()

    loss = 0
    for s, t in pairs(x):
        s, t = (F.normalize(f.flatten(2), dim=2) for f in to_smaller(s, t))
        loss = loss + kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)
    return loss


def vid(x):
    loss = 0
    for i, (s, t) in enumerate(pairs(x)):
        s, t = to_smaller(s, t)
        p = lambda layer: x[f"params.mean{i + 1}.{layer}.weight"]
        mean = F.conv2d(F.relu(F.conv2d(F.relu(F.conv2d(s, p(0))), p(2))), p(4))
        variance = (torch.log(1 + torch.exp(x[f"params.scale{i + 1}"])) + 1e-5).reshape(1, -1, 1, 1)
        loss = loss + (0.5 * ((mean - t) ** 2 / variance + torch.log(variance))).mean()
    return loss


def vid_params(inputs, variance=5.0):
    leaves = {}
    for i, (s, t) in enumerate(pairs(inputs)):
        c = t.shape[1]
        for layer, fan in ((0, s.shape[1]), (2, c), (4, c)):
            leaves[f"params.mean{i + 1}.{layer}.weight"] = waves([c, fan, 1, 1], 3 + layer + i)
        alpha = math.log(math.exp(variance - 1e-5) - 1)
        leaves[f"params.scale{i + 1}"] = torch.full([c], alpha, dtype=torch.float64) + 0.5 * waves([c], 4 + i)
    return leaves


def margins(gamma, beta):
    """By the published rule, one channel after another."""
    normal = torch.distributions.Normal(0.0, 1.0)
    out = []
    for s, m in zip(gamma.abs().tolist(), beta.tolist()):
        if s == 0:
            out.append(min(m, 0.0))
            continue
        below = normal.cdf(torch.tensor(-m / s, dtype=torch.float64)).item()
        if below > 0.001:
            out.append(-s * math.exp(-((m / s) ** 2) / 2) / math.sqrt(2 * math.pi) / below + m)
        else:
            out.append(-3 * s)
    return torch.tensor(out, dtype=torch.float64).reshape(1, -1, 1, 1)


def ofd(x):
    loss, n = 0, len(pairs(x))
    for i, (s, t) in enumerate(pairs(x)):
        p = lambda part: x[f"params.connector{i + 1}.{part}"]
        m = margins(x[f"pairs.{i}.gamma"], x[f"pairs.{i}.beta"])
        s = norm2(F.conv2d(s, p("conv.weight")), p("bn.weight"), p("bn.bias"))
        t = F.adaptive_avg_pool2d(t, s.shape[2:])
        far = (s - m) ** 2 * ((s > m) & (t <= m))
        near = (s - t) ** 2 * ((s > t) & (t > m) & (t <= 0))
        loss = loss + (far + near + (s - t) ** 2 * (t > 0)).mean(0).sum() / 2 ** (n - i - 1)
    return loss


# Of the four channels one is never negative, one has a scale of 0, and one a negative scale.
GAMMA = torch.tensor([0.35, 0.05, 0.0, -0.45], dtype=torch.float64)
BETA = torch.tensor([0.05, 0.25, -0.1, -0.15], dtype=torch.float64)


def ofd_inputs(inputs):
    leaves = dict(inputs)
    for i, (s, t) in enumerate(pairs(inputs)):
        c = t.shape[1]
        leaves[f"pairs.{i}.gamma"], leaves[f"pairs.{i}.beta"] = GAMMA[:c], BETA[:c]
        leaves[f"params.connector{i + 1}.conv.weight"] = 1 + 0.5 * waves([c, s.shape[1], 1, 1], 5 + i)
        leaves[f"params.connector{i + 1}.bn.weight"] = 0.4 + 0.1 * waves([c], 6 + i)
        leaves[f"params.connector{i + 1}.bn.bias"] = 0.1 * waves([c], 7 + i)
    return leaves


def hcl(s, t):
    loss, weight, total = F.mse_loss(s, t), 1.0, 1.0
    for cells in (4, 2, 1):
        if cells < s.shape[2]:
            weight /= 2
            total += weight
            loss = loss + weight * F.mse_loss(F.adaptive_avg_pool2d(s, cells), F.adaptive_avg_pool2d(t, cells))
    return loss / total


def levels(leaves, pooled):
    """Maps of student and teacher, the pooled vectors as maps of a pixel."""
    out = [(s[:, :, None, None], t[:, :, None, None]) if s.dim() == 2 else (s, t) for s, t in pairs(leaves)]
    s, t = out[-1]
    if pooled and s.shape[2] * s.shape[3] > 1:
        out.append((s.mean((2, 3), keepdim=True), t.mean((2, 3), keepdim=True)))
    return out


def reviewkd(x, pooled=True):
    loss, y = 0, None
    all = levels(x, pooled)
    for i in reversed(range(len(all))):
        s, t = all[i]
        p = lambda part: x[f"params.abf{i + 1}.{part}"]
        z = norm2(F.conv2d(s, p("conv1.weight")), p("bn1.weight"), p("bn1.bias"))
        if y is not None:
            y = F.interpolate(y, s.shape[2:], mode="nearest")
            a = torch.sigmoid(F.conv2d(torch.cat([z, y], 1), p("attention.weight"), p("attention.bias")))
            z = z * a[:, 0:1] + y * a[:, 1:2]
        y = F.interpolate(z, t.shape[2:], mode="nearest")
        loss = loss + hcl(norm2(F.conv2d(y, p("conv2.weight"), padding=1), p("bn2.weight"), p("bn2.bias")), t)
    return x.get("knobs.warmup", 1) * loss


def reviewkd_params(inputs, mid, pooled=True):
    leaves = {}
    all = levels(inputs, pooled)
    for i, (s, t) in enumerate(all):
        c = t.shape[1]
        shapes = {"conv1.weight": [mid, s.shape[1], 1, 1], "bn1.weight": [mid], "bn1.bias": [mid],
                  "conv2.weight": [c, mid, 3, 3], "bn2.weight": [c], "bn2.bias": [c]}
        if i < len(all) - 1:
            shapes.update({"attention.weight": [2, 2 * mid, 1, 1], "attention.bias": [2]})
        for k, (part, shape) in enumerate(shapes.items()):
            leaves[f"params.abf{i + 1}.{part}"] = waves(shape, i + 10 * k) + (1.5 if part.startswith("bn") and "weight" in part else 0)
    return leaves


def semckd(x, temperature=1.0):
    def embed(part, f):
        w = lambda k: (x[f"params.{part}.linear{k}.weight"], x[f"params.{part}.linear{k}.bias"])
        f = f.flatten(1)
        h = F.linear(F.relu(F.linear(f @ f.T, *w(1))), *w(2))
        return h / h.norm(dim=1, keepdim=True)

    students, teachers = zip(*pairs(x))
    query = torch.stack([embed(f"query{i + 1}", s) for i, s in enumerate(students)], 1)
    key = torch.stack([embed(f"key{j + 1}", t) for j, t in enumerate(teachers)], 2)
    share = F.softmax(torch.bmm(query, key) / temperature, -1)
    loss = 0
    for i, s in enumerate(students):
        for j, t in enumerate(teachers):
            p = lambda part: x[f"params.proj{i + 1}_{j + 1}.{part}"]
            f, to = to_smaller(s, t)
            f = F.relu(norm2(F.conv2d(f, p("1.conv.weight")), p("1.bn.weight"), p("1.bn.bias")))
            f = F.relu(norm2(F.conv2d(f, p("2.conv.weight"), padding=1), p("2.bn.weight"), p("2.bn.bias")))
            f = F.conv2d(f, p("3.weight"))
            loss = loss + (share[:, i, j] * (f - to).pow(2).mean((1, 2, 3))).sum()
    return loss / (len(query) * len(students))


def semckd_params(inputs, factor=4):
    students, teachers = zip(*pairs(inputs))
    n = len(students[0])
    d = n // factor
    shapes = {}
    for i in range(len(students)):
        for part in (f"query{i + 1}", f"key{i + 1}"):
            shapes.update({f"{part}.linear1.weight": [2 * d, n], f"{part}.linear1.bias": [2 * d],
                           f"{part}.linear2.weight": [d, 2 * d], f"{part}.linear2.bias": [d]})
    for i, s in enumerate(students):
        for j, t in enumerate(teachers):
            c, part = t.shape[1], f"proj{i + 1}_{j + 1}"
            shapes.update({f"{part}.1.conv.weight": [2 * c, s.shape[1], 1, 1], f"{part}.1.bn.weight": [2 * c], f"{part}.1.bn.bias": [2 * c],
                           f"{part}.2.conv.weight": [2 * c, 2 * c, 3, 3], f"{part}.2.bn.weight": [2 * c], f"{part}.2.bn.bias": [2 * c],
                           f"{part}.3.weight": [c, 2 * c, 1, 1]})
    return {f"params.{name}": 0.5 * waves(shape, k) + (1 if name.endswith("bn.weight") else 0)
            for k, (name, shape) in enumerate(shapes.items())}


def cwd(x):
    T, loss = x.get("knobs.temperature", 4.0), 0
    for s, t in pairs(x):
        n, c = s.shape[:2]
        q = F.softmax(t.reshape(n * c, -1) / T, 1)
        loss = loss + T**2 * (q * (q.log() - F.log_softmax(s.reshape(n * c, -1) / T, 1))).sum() / (n * c)
    return loss


def pkd(x):
    def standard(f):
        rows = f.transpose(0, 1).flatten(1)
        rows = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-6)
        return rows

    return sum(F.mse_loss(standard(s), standard(t)) / 2 for s, t in pairs(x))


LEVELS = shaped(([3, 2, 5, 5], [3, 2, 7, 7]), ([3, 3, 4, 4], [3, 3, 2, 2]))
VECTORS = {**LEVELS, **{f"pairs.2.{who}": v for who, v in zip(("student", "teacher"), (waves([3, 3], 8), waves([3, 4], 9)))}}
CALIBRATED = shaped(([8, 2, 3, 3], [8, 2, 2, 2]), ([8, 3, 1, 1], [8, 1, 3, 3]), size=0.5)
NORMED = shaped(([3, 2, 3, 3], [3, 4, 3, 3]), ([3, 3, 2, 2], [3, 4, 4, 4]), ([3, 2, 4, 4], [3, 3, 2, 2]), size=0.5)

# By loss and variant: the settings, the function, and the inputs by name.
CASES = {
    ("fitnets", "default"): ("", fitnets, {"vectors": paired(vectors()), "alike": ALIKE, "equal": EQUAL}),
    ("at", "default"): ("", at, {"maps": paired(maps()), "sizes": SIZES, "equal": EQUAL, "zeros": ZEROS, "batch_of_one": ONE}),
    ("at", "paper"): ("variant: paper", at_paper, {"maps": paired(maps()), "sizes": SIZES, "equal": EQUAL, "zeros": ZEROS}),
    ("at", "p1"): ("p: 1", lambda x: at(x, 1), {"sizes": SIZES}),
    ("at", "p3"): ("p: 3", lambda x: at(x, 3), {"sizes": SIZES}),
    ("nst", "default"): ("", nst, {"maps": paired(maps()), "sizes": SIZES, "wide": WIDE, "equal": EQUAL, "zeros": ZEROS,
                                   "batch_of_one": ONE}),
    ("vid", "default"): ("", vid, {name: {**leaves, **vid_params(leaves)} for name, leaves in
                                   {"maps": paired(maps()), "sizes": SIZES, "zeros": ZEROS, "batch_of_one": ONE}.items()}),
    ("vid", "narrow"): ("variance: 0.1", vid, {"maps": {**paired(maps()), **vid_params(paired(maps()), 0.1)}}),
    ("ofd", "default"): ("", ofd, {"pair": ofd_inputs(shaped(([4, 3, 2, 2], [4, 4, 2, 2]), size=0.5)), "normed": ofd_inputs(NORMED)}),
    ("reviewkd", "default"): ("", reviewkd, {
        "levels": {**LEVELS, **reviewkd_params(LEVELS, 3)}, "with_vectors": {**VECTORS, **reviewkd_params(VECTORS, 3)},
        "warming": {**LEVELS, **reviewkd_params(LEVELS, 3), "knobs.warmup": torch.tensor(0.05, dtype=torch.float64)}}),
    ("reviewkd", "tapped"): ("{pooled: false, mid: 2}", lambda x: reviewkd(x, False), {
        "levels": {**LEVELS, **reviewkd_params(LEVELS, 2, False)}}),
    ("semckd", "default"): ("", semckd, {"crossed": {**CALIBRATED, **semckd_params(CALIBRATED)}}),
    ("semckd", "sharp"): ("{temperature: 0.5, factor: 2}", lambda x: semckd(x, 0.5), {
        "crossed": {**CALIBRATED, **semckd_params(CALIBRATED, 2)}}),
    ("cwd", "default"): ("", cwd, {"alike": ALIKE, "equal": EQUAL, "zeros": ZEROS,
                                   "moved": {**ALIKE, "knobs.temperature": torch.tensor(2.0, dtype=torch.float64)}}),
    ("pkd", "default"): ("", pkd, {"alike": ALIKE, "equal": EQUAL, "batch_of_one": ONE}),
}

# Values by a program of plain sums in float64, without PyTorch, to the ten digits it prints.
INDEPENDENT = {
    ("fitnets", "default", "vectors"): 1.1452863899,
    ("at", "default", "maps"): 0.0038746134,
    ("at", "paper", "maps"): 0.1229352789,
    ("nst", "default", "maps"): 0.1721854013,
}


def cases():
    for (loss, variant), (settings, f, inputs) in CASES.items():
        for name, leaves in inputs.items():
            c = case(loss, variant, name, f, settings, leaves=leaves)
            if (loss, variant, name) in INDEPENDENT:
                expect(c["value"], INDEPENDENT[loss, variant, name])
            yield c
