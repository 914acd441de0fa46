"""Losses on how samples relate.

Their inputs:

    vectors           pooled student sin(0.3 + 0.9n + 0.4d), teacher cos(0.2 + 0.6n + 0.7d), [4,6]
    maps              maps of student [2,3,2,2] and teacher [2,4,2,2], likewise
    widths            vectors without pattern, student [5,3] and teacher [5,7]
    far               the same, the student 30 times as large
    teacher_equal     the student of "widths" is its own teacher
    batch_of_two      two samples of "widths"
    first_batch       crd: "widths" as the first step of a run; z is 0
    later             crd: "widths" with z as a step before has left it
    small_set         crd: a set of 3 samples, of which the batch repeats some; two rows of negatives are not filled
"""
import math

import torch
import torch.nn.functional as F

from common import case, expect, maps, vectors, waves


def pair(student, teacher):
    return {"pairs.0.student": student, "pairs.0.teacher": teacher}


def inputs():
    yield "vectors", *vectors()
    yield "maps", *maps()
    widths = waves((5, 3)), waves((5, 7), 1)
    yield "widths", *widths
    yield "far", 30 * widths[0], widths[1]
    yield "teacher_equal", widths[0], widths[0]
    yield "batch_of_two", widths[0][:2], widths[1][:2]


def flat(f):
    return f.flatten(1)


def rkd(s, t, distance=25, angle=50):
    def distances(f):
        n = len(f)
        d = torch.stack([torch.stack([(f[i] - f[j]).norm() if i != j else f.new_zeros(()) for j in range(n)]) for i in range(n)])
        return d / d[d > 0].mean()

    def angles(f):
        n, e = len(f), [[F.normalize(f[j] - f[i], dim=0) for j in range(len(f))] for i in range(len(f))]
        return torch.stack([e[i][j] @ e[i][k] for i in range(n) for j in range(n) for k in range(n)])

    s, t = flat(s), flat(t)
    loss = 0
    if distance:
        loss = loss + distance * F.smooth_l1_loss(distances(s), distances(t))
    if angle:
        loss = loss + angle * F.smooth_l1_loss(angles(s), angles(t))
    return loss


def pkt(s, t):
    def p(f):
        f = f / (f.norm(dim=1, keepdim=True) + 1e-7)
        k = (f @ f.T + 1) / 2
        return k / k.sum(1, keepdim=True)

    s, t = p(flat(s)), p(flat(t))
    return (t * ((t + 1e-7) / (s + 1e-7)).log()).mean()


def sp(s, t, order):
    g = [F.normalize(flat(f) @ flat(f).T, p=order, dim=1) for f in (s, t)]
    return (g[0] - g[1]).square().sum() / len(s) ** 2


def cc(s, t):
    """RepDistiller's, of embeddings."""
    d = (s - t).abs()
    return (d[:-1] * d[1:]).sum(1).mean()


def cc_rbf(s, t, gamma, order):
    def kernel(f):
        x = flat(f) @ flat(f).T
        return math.exp(-2 * gamma) * sum((2 * gamma) ** p / math.factorial(p) * x**p for p in range(order + 1))

    return torch.dist(kernel(s), kernel(t)) / len(s) ** 2


# By loss and variant: settings and the function of student and teacher.
VARIANTS = {
    ("rkd", "default"): ("", rkd),
    ("rkd", "distance"): ("{distance: 1, angle: 0}", lambda s, t: rkd(s, t, 1, 0)),
    ("rkd", "angle"): ("{distance: 0, angle: 1}", lambda s, t: rkd(s, t, 0, 1)),
    ("pkt", "default"): ("", pkt),
    ("sp", "default"): ("", lambda s, t: sp(s, t, 2)),
    ("sp", "l1"): ("variant: l1", lambda s, t: sp(s, t, 1)),
    ("cc", "rbf"): ("variant: rbf", lambda s, t: cc_rbf(s, t, 0.4, 2)),
    ("cc", "rbf_of_order_3"): ("{variant: rbf, gamma: 0.2, order: 3}", lambda s, t: cc_rbf(s, t, 0.2, 3)),
}

# Values for "vectors" by a program of plain sums in float64, without PyTorch, to the ten digits it prints.
INDEPENDENT = {
    ("rkd", "default"): 0.4292592023,
    ("rkd", "distance"): 0.0022656438,
    ("rkd", "angle"): 0.0074523621,
    ("pkt", "default"): 0.0209906659,
    ("sp", "default"): 0.0566154903,
    ("sp", "l1"): 0.0172577733,
}


def short(x):
    """Four digits, which make a file of half the size."""
    return x.round(decimals=4)


def layers(s, t):
    """Dense layers to a width of 128 for both sides."""
    leaves = {}
    for i, (side, f) in enumerate((("student", s), ("teacher", t))):
        d = flat(f).shape[1]
        leaves[f"params.{side}.weight"] = short(waves((128, d), 2 + i) / d**0.5)
        leaves[f"params.{side}.bias"] = short(waves((128,), 4 + i) / 10)
    return leaves


def embedded(x):
    return [F.linear(flat(x[f"pairs.0.{side}"]), x[f"params.{side}.weight"], x[f"params.{side}.bias"]) for side in ("student", "teacher")]


def plain_cases():
    for (loss, variant), (settings, f) in VARIANTS.items():
        for name, s, t in inputs():
            if (loss, variant) == ("cc", "rbf_of_order_3") and name == "far":
                continue  # sums of 10¹², past what float32 holds of the gradient
            if loss == "cc" and name == "teacher_equal":
                continue  # a root of 0, which PyTorch gives no gradient
            c = case(loss, variant, name, lambda x: f(x["pairs.0.student"], x["pairs.0.teacher"]), settings, leaves=pair(s, t))
            if name == "vectors" and (loss, variant) in INDEPENDENT:
                expect(c["value"], INDEPENDENT[loss, variant])
            yield c


def cc_cases():
    expect(cc(*vectors()).item(), 5.1112796871)
    for name, s, t in inputs():
        yield case("cc", "default", name, lambda x: cc(*embedded(x)), leaves={**pair(s, t), **layers(s, t)})


def crd(x, temperature, negatives, k, eps=0.0):
    """The paper's, sample by sample: `negatives` are for each the rows of host.*.negatives that it is told from, each as often as
    it counts. Without the eps of the published program the size of the set cancels, for Z is that times a mean."""
    loss, batch = 0, len(negatives)
    u = {side: F.normalize(f, dim=1) for side, f in zip(("student", "teacher"), embedded(x))}
    for i, (side, other) in enumerate((("student", "teacher"), ("teacher", "student"))):
        positive = [torch.exp(u[side][b] @ x[f"host.{other}.positives"][b] / temperature) for b in range(batch)]
        negative = [[(torch.exp(u[side][b] @ x[f"host.{other}.negatives"][j] / temperature), n) for j, n in negatives[b]]
                    for b in range(batch)]
        z = x["states.z"][i] if "states.z" in x else None
        if z is None:
            sums = sum(positive) + sum(n * e for row in negative for e, n in row)
            z = sums / (batch + sum(n for row in negatives for _, n in row))
        size = 50  # of the set: any will do
        for b in range(batch):
            o = positive[b] / (z * size)
            loss = loss - torch.log(o / (o + k / size + eps)) / batch
            for e, n in negative[b]:
                o = e / (z * size)
                loss = loss - n * torch.log((k / size) / (o + k / size + eps)) / batch
    return loss


def crd_case(variant, name, settings, temperature, n, k, drawn, negatives, z):
    """negatives: for each of n samples, rows and how often they count."""
    s, t = waves((n, 3)), waves((n, 7), 1)
    leaves = {**pair(s, t), **layers(s, t)}
    for i, side in enumerate(("student", "teacher")):
        leaves[f"host.{side}.positives"] = short(F.normalize(waves((n, 128), 6 + i), dim=1))
        memory = short(F.normalize(waves((k, 128), 8 + i), dim=1))
        memory[drawn:] = 0
        leaves[f"host.{side}.negatives"] = memory
    shares = torch.zeros(n, k, dtype=torch.float64)
    for b, row in enumerate(negatives):
        for j, count in row:
            shares[b, j] = count
    leaves["host.shares"] = shares
    leaves["host.drawn"] = torch.tensor([drawn], dtype=torch.float64)
    if z:
        leaves["states.z"] = torch.tensor(z, dtype=torch.float64)
    c = case("crd", variant, name, lambda x: crd(x, temperature, negatives, drawn), settings, leaves=leaves)
    expect(crd(leaves, temperature, negatives, drawn, 1e-7).item(), c["value"], 1e-4)
    return c


def crd_cases():
    """The default number of negatives, 16384, would fill a file of 100 MB: "default" has the others of the default settings."""
    few = [[(0, 1.5), (2, 1.5), (3, 1.5), (5, 1.5)], [(1, 2.0), (4, 2.0), (5, 2.0)], [(j, 1.2) for j in range(5)],
           [(j, 1.0) for j in range(6)], []]
    for name, z in (("first_batch", None), ("later", (2.2, 1.7))):
        yield crd_case("default", name, "nce_k: 6", 0.07, 5, 6, 6, few, z)
        yield crd_case("warm", name, "{nce_k: 6, temperature: 0.5}", 0.5, 5, 6, 6, few, z)
    small = [[(0, 1.5), (1, 1.5)], [(2, 3.0)], [(0, 1.5), (1, 1.5)], [(2, 3.0)]]
    yield crd_case("default", "small_set", "nce_k: 5", 0.07, 4, 5, 3, small, (2.2, 1.7))


def cases():
    yield from plain_cases()
    yield from cc_cases()
    yield from crd_cases()
