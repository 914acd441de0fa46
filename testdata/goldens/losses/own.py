"""Losses that were first published here.

Their inputs:

    vectors           pooled student sin(0.3 + 0.9n + 0.4d), teacher cos(0.2 + 0.6n + 0.7d), [4,6]: of rank 3 at most
    stages            maps without pattern, two pairs: [3,2,2,3] and [3,2,4,4], [3,4,2,2] and the same
    tokens            student [2,3,5], teacher [2,4,5] (hda), or [2,3,5] (attention_hint)
    far               the student of "vectors" 3 times as large and moved by 1
    constant          a student that is 0.7 at every place and channel of "vectors"
    teacher_equal     the student of "vectors" is its own teacher
"""
import torch

from common import case, vectors, waves


def pairs(*of):
    leaves = {}
    for i, (student, teacher) in enumerate(of):
        leaves[f"pairs.{i}.student"], leaves[f"pairs.{i}.teacher"] = student, teacher
    return leaves


def inputs(loss):
    s, t = vectors()
    yield "vectors", pairs((s, t))
    other = (3, 4, 2, 2)
    hda = loss == "hda"
    yield "stages", pairs((waves((3, 2, 2, 3) if hda else (3, 2, 4, 4)), waves((3, 2, 4, 4), 1)), (waves(other, 2), 2 * waves(other, 3)))
    yield "tokens", pairs((waves((2, 3, 5)), waves((2, 4 if hda else 3, 5), 1)))
    yield "far", pairs((3 * s + 1, t))
    yield "constant", pairs((torch.full_like(s, 0.7), t))
    yield "teacher_equal", pairs((t, t))


def places(x):
    """[M,d] of vectors, tokens and maps."""
    return x.movedim(1, -1).reshape(-1, x.shape[1]) if x.dim() == 4 else x.reshape(-1, x.shape[-1])


def compared(x):
    n = sum(name.endswith(".student") for name in x)
    return [(places(x[f"pairs.{i}.student"]), places(x[f"pairs.{i}.teacher"])) for i in range(n)]


def power(a, exponent):
    values, vectors = torch.linalg.eigh(a)
    return vectors @ torch.diag(values**exponent) @ vectors.T


def hda(x, shrinkage, squared):
    loss = 0
    for s, t in compared(x):
        d = s.shape[1]
        spread = t.var(0, unbiased=False).mean()

        def cov(f):
            return (1 - shrinkage) * torch.cov(f.T, correction=0) + shrinkage * spread * torch.eye(d, dtype=f.dtype)

        whiten = power(cov(t), -0.5)
        a = whiten @ cov(s) @ whiten
        w2 = (whiten @ (s.mean(0) - t.mean(0))).square().sum() + (torch.linalg.eigvalsh(a).sqrt() - 1).square().sum()
        loss = loss + (w2 if squared else w2.sqrt()) / d
    return loss


def attention_hint(x):
    loss = 0
    for s, t in compared(x):
        loss = loss + (s - (t - t.mean(0)) / (t.var(0, unbiased=False) + 1e-5).sqrt()).square().mean()
    return loss


# By loss and variant: settings and the function.
VARIANTS = {
    ("hda", "default"): ("", lambda x: hda(x, 0.1, True)),
    ("hda", "shrunk"): ("shrinkage: 0.5", lambda x: hda(x, 0.5, True)),
    ("hda", "printed"): ("form: printed", lambda x: hda(x, 0.1, False)),
    ("attention_hint", "default"): ("", attention_hint),
}


def cases():
    for (loss, variant), (settings, f) in VARIANTS.items():
        for name, leaves in inputs(loss):
            if variant == "printed" and name == "teacher_equal":
                continue  # a root of 0
            yield case(loss, variant, name, f, settings, leaves=leaves)
