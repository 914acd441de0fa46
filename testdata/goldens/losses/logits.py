"""Losses on logits.

Their inputs:

    sines             student sin(0.7n + 1.3k), teacher 2·cos(0.5n + 0.9k), labels 0 1 2 3
    teacher_equal     the student of "sines" is its own teacher: KD and its gradient are 0
    batch_of_one      the first row of "sines"
    two_classes       the first two columns of "sines", labels 0 1 0 1
    large             logits of ±10⁴, student and teacher often opposed: probabilities of exactly 0, ties, losses of 10⁴
"""
import torch
import torch.nn.functional as F

from common import case, expect, sines, standard


def signs(*rows):
    return torch.tensor([[1e4 if c == "+" else -1e4 for c in row] for row in rows], dtype=torch.float64)


def inputs():
    student, teacher, labels = sines()
    yield "sines", student, teacher, labels
    yield "teacher_equal", student, student, labels
    yield "batch_of_one", student[:1], teacher[:1], labels[:1]
    yield "two_classes", student[:, :2], teacher[:, :2], torch.tensor([0, 1, 0, 1])
    yield "large", signs("+--", "-++", "+++", "--+"), signs("+--", "+--", "--+", "-++"), torch.tensor([0, 0, 1, 2])


def kd(student, teacher, temperature):
    log_p = F.log_softmax(student / temperature, 1)
    log_q = F.log_softmax(teacher / temperature, 1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


# By loss and variant: settings, whether logits are standardised, and the function of (student, teacher, labels).
VARIANTS = {
    ("ce", "default"): ("", False, lambda s, t, y: F.cross_entropy(s, y)),
    ("ce", "smoothed"): ("label_smoothing: 0.1", False, lambda s, t, y: F.cross_entropy(s, y, label_smoothing=0.1)),
    ("ce", "soft"): ("targets: teacher", False, lambda s, t, y: F.cross_entropy(s, F.softmax(t, 1))),
    ("kd", "default"): ("", False, lambda s, t, y: kd(s, t, 4)),
    ("kd", "t1"): ("temperature: 1", False, lambda s, t, y: kd(s, t, 1)),
    ("kd", "standardized"): ("temperature: 2", True, lambda s, t, y: kd(standard(s), standard(t), 2)),
}

# Values for "sines" by a program of plain sums in float64, without PyTorch, to the ten digits it prints.
INDEPENDENT = {
    ("ce", "default"): 1.8878516708,
    ("kd", "default"): 0.3462889038,
    ("kd", "t1"): 0.2981864452,
    ("kd", "standardized"): 0.1286961483,
}


def cases():
    for (loss, variant), (settings, standardize, f) in VARIANTS.items():
        for name, student, teacher, labels in inputs():
            c = case(loss, variant, name, lambda x: f(x["student"], x["teacher"], x["labels"]), settings, standardize,
                     student=student, teacher=teacher, labels=labels)
            if name == "sines" and (loss, variant) in INDEPENDENT:
                expect(c["value"], INDEPENDENT[loss, variant])
            yield c
