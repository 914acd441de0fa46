#!/usr/bin/env python3
"""Writes losses.json beside itself: losses on logits and their gradients, by PyTorch's autograd in float64.

    python3 losses.py

The file is a list of cases, each

    {"name": "…", "batch": N, "classes": K,
     "student": [N·K logits, row-major], "teacher": [N·K], "labels": [N class indices],
     "losses": {"ce": {"value": v, "gradient": [N·K, with respect to the student's logits]}, …}}

Every case has the same losses, all in nats and means over the batch:

    ce              cross-entropy with the labels
    ce_smoothed     cross-entropy with the labels smoothed by 0.1: 0.9 on the label and 0.1/K on every class
    ce_soft         cross-entropy with the teacher's probabilities, softmax(teacher), as soft labels
    kd_t1, kd_t4    T²·KL(softmax(teacher/T) ‖ softmax(student/T)) at T = 1 and T = 4 (Hinton et al. 2015, arXiv:1503.02531)
    ce_kd           0.1·ce + 0.9·kd_t4

The cases:

    sines             student sin(0.7n + 1.3k), teacher 2·cos(0.5n + 0.9k), labels 0 1 2 3; its values were also computed
                      without PyTorch, by plain sums, and must agree
    teacher_equal     the student of "sines" is its own teacher: KD and its gradient are 0
    batch_of_one      the first row of "sines"
    two_classes       the first two columns of "sines", labels 0 1 0 1
    large             logits of ±10⁴, student and teacher often opposed: probabilities of exactly 0, ties, losses of 10⁴

Needs PyTorch 1.13 (Debian: python3-torch).
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F

# From a program of plain sums in float64, without PyTorch, to the ten digits it prints.
INDEPENDENT = {
    "ce": 1.8878516708,
    "kd_t4": 0.3462889038,
    "kd_t1": 0.2981864452,
    "ce_kd": 0.5004451805,
}


def kd(student, teacher, temperature):
    log_p = F.log_softmax(student / temperature, 1)
    log_q = F.log_softmax(teacher / temperature, 1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def losses(student, teacher, labels):
    ce = F.cross_entropy(student, labels)
    kd_t4 = kd(student, teacher, 4)
    return {
        "ce": ce,
        "ce_smoothed": F.cross_entropy(student, labels, label_smoothing=0.1),
        "ce_soft": F.cross_entropy(student, F.softmax(teacher, 1)),
        "kd_t1": kd(student, teacher, 1),
        "kd_t4": kd_t4,
        "ce_kd": 0.1 * ce + 0.9 * kd_t4,
    }


def case(name, student, teacher, labels):
    n, k = student.shape
    student = student.clone().requires_grad_()
    labels = torch.tensor(labels)
    results = {}
    for loss, value in losses(student, teacher, labels).items():
        (gradient,) = torch.autograd.grad(value, student, retain_graph=True)
        results[loss] = {"value": value.item(), "gradient": gradient.flatten().tolist()}
    return {
        "name": name, "batch": n, "classes": k,
        "student": student.detach().flatten().tolist(), "teacher": teacher.flatten().tolist(),
        "labels": labels.tolist(), "losses": results,
    }


def logits(n, k, value):
    return torch.tensor([[value(i, j) for j in range(k)] for i in range(n)], dtype=torch.float64)


def signs(*rows):
    return torch.tensor([[1e4 if c == "+" else -1e4 for c in row] for row in rows], dtype=torch.float64)


def main():
    student = logits(4, 5, lambda i, j: math.sin(0.7 * i + 1.3 * j))
    teacher = logits(4, 5, lambda i, j: 2 * math.cos(0.5 * i + 0.9 * j))
    labels = [0, 1, 2, 3]
    large_student = signs("+--", "-++", "+++", "--+")
    large_teacher = signs("+--", "+--", "--+", "-++")
    cases = [
        case("sines", student, teacher, labels),
        case("teacher_equal", student, student, labels),
        case("batch_of_one", student[:1], teacher[:1], labels[:1]),
        case("two_classes", student[:, :2], teacher[:, :2], [0, 1, 0, 1]),
        case("large", large_student, large_teacher, [0, 0, 1, 2]),
    ]
    for loss, value in INDEPENDENT.items():
        got = cases[0]["losses"][loss]["value"]
        assert abs(got - value) <= 1e-9, f"{loss} is {got:.12f}, by plain sums {value}"
    lines = [json.dumps(c, allow_nan=False) for c in cases]
    pathlib.Path(__file__).with_name("losses.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
