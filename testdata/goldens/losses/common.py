"""The case writer that the modules of this folder share.

A case is a dictionary, one line of losses/verify/goldens/*.json; losses/verify/case.go says what its keys mean. `case` makes
one from a function that computes the loss from named leaves: it differentiates that function in float64 by PyTorch's autograd.

    def kd(x):
        p, q = F.log_softmax(x["student"] / 4, 1), F.log_softmax(x["teacher"] / 4, 1)
        return 16 * F.kl_div(p, q, reduction="batchmean", log_target=True)

    yield case("kd", "default", "sines", kd, student=zs, teacher=zt)

Leaves are tensors of float64 by these names, all but the integers and what is the teacher's differentiated:

    student, teacher            logits [N,K]
    labels, index               int64 [N]
    pairs.0.student, pairs.0.teacher, pairs.0.gamma, pairs.0.beta, pairs.1.student, …
    classifier.weight, classifier.bias      the teacher's
    head.weight, head.bias      the student's; its logits are those of the last pair's map, averaged, and there is no leaf "student"
    params.NAME, states.NAME, host.NAME, knobs.NAME
"""
import math

import torch


def trained(name):
    """Whether the leaf gets a gradient."""
    return name == "student" or name.startswith(("params.", "head.")) or name.startswith("pairs.") and name.endswith(".student")


def case(loss, variant, inputs, function, settings="", standardize=False, leaves=None, **named):
    """A case of a loss's variant of settings (YAML) on the inputs called `inputs`.

    Leaves come as keywords, or in the dictionary `leaves` where their names have dots."""
    leaves = {**(leaves or {}), **named}
    x = {name: torch.as_tensor(v).detach().clone() for name, v in leaves.items()}
    for name, v in x.items():
        if v.is_floating_point():
            assert v.dtype == torch.float64, f"{loss}: {name} is {v.dtype}"
        if trained(name):
            v.requires_grad_()
    value = function(dict(x))
    wrt = [name for name in x if trained(name)]
    gradients = torch.autograd.grad(value, [x[name] for name in wrt], allow_unused=True)
    out = {"loss": loss, "variant": variant, "settings": settings, "case": inputs, "standardize": standardize}
    pairs = {}
    for name, v in x.items():
        head, _, rest = name.partition(".")
        if name in ("student", "teacher"):
            out[name] = tensor(v)
        elif name in ("labels", "index"):
            out[name] = v.tolist()
        elif head == "pairs":
            i, _, part = rest.partition(".")
            pairs.setdefault(int(i), {})[part] = v.tolist() if part in ("gamma", "beta") else tensor(v)
        elif head == "knobs":
            out.setdefault(head, {})[rest] = v.item()
        elif head in ("classifier", "head", "params", "states", "host"):
            out.setdefault(head, {})[rest] = tensor(v)
        else:
            raise ValueError(f"{loss}: there is no leaf {name}")
    if pairs:
        out["pairs"] = [pairs[i] for i in range(len(pairs))]
    out["value"] = value.item()
    out["gradients"] = {n: g.flatten().tolist() for n, g in zip(wrt, gradients) if g is not None}
    return out


def tensor(v):
    return {"shape": list(v.shape), "data": v.detach().flatten().tolist()}


def array(shape, value):
    """A float64 tensor of value(i, j, …) at each index."""
    out = torch.empty(shape, dtype=torch.float64)
    for i in torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(-1, len(shape)).tolist():
        out[tuple(i)] = value(*i)
    return out


def waves(shape, phase=0.0):
    """A float64 tensor without pattern: sin(12.9898·(i+1) + phase) for element i."""
    i = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(12.9898 * i + phase).reshape(shape)


def sines():
    """Logits [4,5] of student and teacher, and labels."""
    student = array((4, 5), lambda i, j: math.sin(0.7 * i + 1.3 * j))
    teacher = array((4, 5), lambda i, j: 2 * math.cos(0.5 * i + 0.9 * j))
    return student, teacher, torch.tensor([0, 1, 2, 3])


def vectors():
    """Pooled vectors [4,6] of student and teacher."""
    return array((4, 6), lambda i, j: math.sin(0.3 + 0.9 * i + 0.4 * j)), array((4, 6), lambda i, j: math.cos(0.2 + 0.6 * i + 0.7 * j))


def maps():
    """Maps of student [2,3,2,2] and teacher [2,4,2,2]."""
    student = array((2, 3, 2, 2), lambda n, c, h, w: math.sin(0.5 * n + 0.8 * c + 0.3 * h + 0.6 * w))
    teacher = array((2, 4, 2, 2), lambda n, c, h, w: math.cos(0.4 * n + 0.7 * c + 0.2 * h + 0.9 * w))
    return student, teacher


def standard(z):
    """Logit standardisation (Sun et al. 2024, arXiv:2403.01427)."""
    return (z - z.mean(1, keepdim=True)) / (1e-7 + z.std(1, keepdim=True))


def expect(value, want, tolerance=1e-9):
    """Fails unless a value is as it was also computed by plain sums, without PyTorch, to the digits that were printed."""
    assert abs(value - want) <= tolerance, f"{value:.12f}, by plain sums {want}"
