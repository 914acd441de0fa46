#!/usr/bin/env python3
"""Writes optim.json beside itself: five steps of PyTorch's optimizers on a small dense layer, in float64.

    python3 optim.py

The file maps a case's name to

    {"method": "sgd" or "adamw", "settings": {"momentum": …, …} under the names a recipe gives them, "clip_norm": c, 0 for none,
     "norms": [the gradients' norm before clipping at each step], "weight": [w after each step], "bias": [b after each step]}

with w [4,3] and b [4] in row-major order. Step t, from 0, minimises

    mean((tanh(x·wᵀ + b) − y)²),  x [5,3], y [5,4]

with the learning rate 0.2/(t+1). Everything that goes in is a function of an element's number i:

    x       2·sin(12.9898·(i+1) + 78.233·t)
    y       cos(0.9·i + 0.4·t)
    w       sin(0.7·i)
    b       0.5·cos(1.1·i)

Needs PyTorch 1.13 (Debian: python3-torch).
"""
import json
import math
import pathlib

import torch

STEPS = 5


def filled(shape, value):
    """value gives element i."""
    return torch.tensor([value(i) for i in range(math.prod(shape))], dtype=torch.float64).reshape(shape)


def golden(method, clip_norm=0, **settings):
    w = filled((4, 3), lambda i: math.sin(0.7 * i)).requires_grad_()
    b = filled((4,), lambda i: 0.5 * math.cos(1.1 * i)).requires_grad_()
    if method == "sgd":
        optimizer = torch.optim.SGD([w, b], lr=1, **settings)
    else:
        optimizer = torch.optim.AdamW([w, b], lr=1, eps=settings["eps"], weight_decay=settings["weight_decay"],
                                      betas=(settings["beta1"], settings["beta2"]))
    out = {"method": method, "settings": settings, "clip_norm": clip_norm, "norms": [], "weight": [], "bias": []}
    for t in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.2 / (t + 1)
        x = filled((5, 3), lambda i: 2 * math.sin(12.9898 * (i + 1) + 78.233 * t))
        y = filled((5, 4), lambda i: math.cos(0.9 * i + 0.4 * t))
        optimizer.zero_grad()
        ((torch.tanh(x @ w.T + b) - y) ** 2).mean().backward()
        norm = torch.nn.utils.clip_grad_norm_([w, b], clip_norm or math.inf)
        optimizer.step()
        out["norms"].append(norm.item())
        out["weight"].append(w.detach().flatten().tolist())
        out["bias"].append(b.detach().flatten().tolist())
    return out


def main():
    adamw = dict(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01)
    goldens = {
        "sgd_plain": golden("sgd", momentum=0, nesterov=False, weight_decay=0),
        "sgd_momentum": golden("sgd", momentum=0.9, nesterov=False, weight_decay=0),
        "sgd_weight_decay": golden("sgd", momentum=0.9, nesterov=False, weight_decay=0.05),
        "sgd_nesterov": golden("sgd", momentum=0.8, nesterov=True, weight_decay=0.05),
        "sgd_clipped": golden("sgd", clip_norm=0.1, momentum=0.9, nesterov=False, weight_decay=0.05),
        "sgd_within_the_limit": golden("sgd", clip_norm=100, momentum=0.9, nesterov=False, weight_decay=0.05),
        "adamw": golden("adamw", **adamw),
        "adamw_settings": golden("adamw", beta1=0.7, beta2=0.9, eps=1e-3, weight_decay=0.3),
        "adamw_clipped": golden("adamw", clip_norm=0.1, **adamw),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(g, allow_nan=False)}" for name, g in goldens.items()]
    pathlib.Path(__file__).with_name("optim.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
