#!/usr/bin/env python3
"""Writes losses/verify/goldens/FAMILY.json: the losses and their gradients, by PyTorch's autograd in float64.

    python3 testdata/goldens/losses/write.py [FAMILY…]

A family of losses is a module of this folder, whose function cases() gives the cases; without a name, all are written. Needs
PyTorch 1.13 (Debian: python3-torch).
"""
import importlib
import json
import pathlib
import sys

import torch

FOLDER = pathlib.Path(__file__).resolve().parent
GOLDENS = FOLDER.parents[2] / "losses" / "verify" / "goldens"


def main():
    torch.set_num_threads(1)
    families = sys.argv[1:] or sorted(f.stem for f in FOLDER.glob("*.py") if f.stem not in ("common", "write"))
    for family in families:
        lines = [json.dumps(c, allow_nan=False, separators=(",", ":")) for c in importlib.import_module(family).cases()]
        GOLDENS.joinpath(f"{family}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
