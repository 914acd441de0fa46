"""Losses on logits.

Their inputs:

    sines             student sin(0.7n + 1.3k), teacher 2·cos(0.5n + 0.9k), labels 0 1 2 3
    teacher_equal     the student of "sines" is its own teacher: KD and its gradient are 0
    batch_of_one      the first row of "sines"
    two_classes       the first two columns of "sines", labels 0 1 0 1
    large             logits of ±10⁴, student and teacher often opposed: probabilities of exactly 0, ties, losses of 10⁴

Losses that take more than logits and labels add to them: the logits of two stages (ofa), the rows of a classifier (wkd_l), a
parameter (ctkd). Where knobs are given they are as in the middle of a run, else at their defaults.
"""
import torch
import torch.nn.functional as F

from common import case, expect, sines, standard, waves


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


def but(z, labels):
    """The logits without the label's: [N,K] to [N,K-1]."""
    return torch.stack([torch.cat([row[:y], row[y + 1:]]) for row, y in zip(z, labels.tolist())])


def pick(z, labels):
    return z[torch.arange(len(labels)), labels]


def divergence(log_q, log_p):
    """KL of each row, for logarithms of probabilities."""
    return (log_q.exp() * (log_q - log_p)).sum(1)


def tckd(student, teacher, labels, temperature):
    def binary(z):
        z = z / temperature
        all_ = torch.logsumexp(z, 1)
        return torch.stack([pick(z, labels) - all_, torch.logsumexp(but(z, labels), 1) - all_], 1)
    return temperature**2 * divergence(binary(teacher), binary(student)).mean()


def nckd(student, teacher, labels, temperature):
    p, q = (F.log_softmax(but(z, labels) / temperature, 1) for z in (student, teacher))
    return temperature**2 * divergence(q, p).mean()


def dkd(student, teacher, labels, alpha=1.0, beta=8.0, temperature=4.0):
    return alpha * tckd(student, teacher, labels, temperature) + beta * nckd(student, teacher, labels, temperature)


def nkd(student, teacher, labels, gamma=1.5, temperature=1.0):
    target = pick(F.softmax(teacher, 1), labels) * pick(F.log_softmax(student, 1), labels)
    p = F.log_softmax(but(student, labels) / temperature, 1)
    q = F.softmax(but(teacher, labels) / temperature, 1)
    return -target.mean() - gamma * temperature**2 * (q * p).sum(1).mean()


def mlkd(student, teacher, temperatures):
    total = 0
    for temperature in temperatures:
        p, q = F.softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
        n, k = p.shape
        total = total + kd(student, teacher, temperature)
        total = total + (p.T @ p - q.T @ q).pow(2).sum() / k + (p @ p.T - q @ q.T).pow(2).sum() / n
    return total


def pearson(a, b):
    """Of each row."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)


def dist(student, teacher, beta=1.0, gamma=1.0, temperature=1.0):
    p, q = F.softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    inter, intra = 1 - pearson(p, q).mean(), 1 - pearson(p.T, q.T).mean()
    return temperature**2 * (beta * inter + gamma * intra)


class Reverse(torch.autograd.Function):
    """A gradient reversal layer: the gradient of x is multiplied by a number."""

    @staticmethod
    def forward(ctx, x, by):
        ctx.by = by
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return ctx.by * dy, None


def ctkd(student, teacher, theta, by=1.0, start=1.0, span=20.0):
    return kd(student, teacher, start + span * torch.sigmoid(Reverse.apply(theta, by)))


def ofa(student, teacher, labels, epsilon=1.0, temperature=1.0):
    one = F.one_hot(labels, student.shape[1]).double()
    weight = (F.softmax(teacher / temperature, 1) + one) ** epsilon - one
    return -(weight * F.log_softmax(student / temperature, 1)).sum(1).mean()


def wkd_l(student, teacher, labels, rows, gamma, temperature, lam=0.05, iterations=10, kappa=1.0):
    """With a matrix of costs for each sample, from which the label's row and column are cut."""
    n, k = student.shape
    unit = F.normalize(rows, dim=1)
    cost = F.relu(1 - torch.exp(-kappa * (1 - unit @ unit.T)))
    transport = 0
    for i in range(n):
        kept = [c for c in range(k) if c != labels[i].item()]
        w1 = F.softmax(student[i, kept] / temperature, 0)
        w2 = F.softmax(teacher[i, kept] / temperature, 0)
        c = cost[kept][:, kept]
        kernel = torch.exp(-c / lam)
        u = torch.full((k - 1,), 1 / (k - 1), dtype=torch.float64)
        for _ in range(iterations):
            v = w2 / (kernel.T @ u + 1e-8)
            u = w1 / (kernel @ v + 1e-8)
        transport = transport + (u[:, None] * kernel * v[None, :] * c).sum() / n
    target = pick(F.softmax(teacher, 1), labels) * pick(F.log_softmax(student, 1), labels)
    return -target.mean() + gamma * transport


# By loss and variant: settings, whether logits are standardised, and the function of (student, teacher, labels).
VARIANTS = {
    ("ce", "default"): ("", False, lambda s, t, y: F.cross_entropy(s, y)),
    ("ce", "smoothed"): ("label_smoothing: 0.1", False, lambda s, t, y: F.cross_entropy(s, y, label_smoothing=0.1)),
    ("ce", "soft"): ("targets: teacher", False, lambda s, t, y: F.cross_entropy(s, F.softmax(t, 1))),
    ("kd", "default"): ("", False, lambda s, t, y: kd(s, t, 4)),
    ("kd", "t1"): ("temperature: 1", False, lambda s, t, y: kd(s, t, 1)),
    ("kd", "standardized"): ("temperature: 2", True, lambda s, t, y: kd(standard(s), standard(t), 2)),
    ("dkd", "default"): ("", False, dkd),
    ("dkd", "target"): ("{alpha: 1, beta: 0}", False, lambda s, t, y: tckd(s, t, y, 4)),
    ("dkd", "others"): ("{alpha: 0, beta: 1}", False, lambda s, t, y: nckd(s, t, y, 4)),
    ("dkd", "imagenet"): ("{alpha: 0.5, beta: 0.5, temperature: 1, warmup: 0}", False, lambda s, t, y: dkd(s, t, y, 0.5, 0.5, 1)),
    ("dkd", "standardized"): ("temperature: 2", True, lambda s, t, y: dkd(standard(s), standard(t), y, temperature=2)),
    ("nkd", "default"): ("", False, nkd),
    ("nkd", "t2"): ("{gamma: 0.5, temperature: 2}", False, lambda s, t, y: nkd(s, t, y, 0.5, 2)),
    ("nkd", "standardized"): ("", True, lambda s, t, y: nkd(standard(s), standard(t), y)),
    ("mlkd", "default"): ("", False, lambda s, t, y: mlkd(s, t, (2, 3, 4, 5, 6))),
    ("mlkd", "one"): ("temperatures: [1.5]", False, lambda s, t, y: mlkd(s, t, [1.5])),
    ("mlkd", "standardized"): ("", True, lambda s, t, y: mlkd(standard(s), standard(t), (2, 3, 4, 5, 6))),
    ("dist", "default"): ("", False, lambda s, t, y: dist(s, t)),
    ("dist", "inter"): ("gamma: 0", False, lambda s, t, y: dist(s, t, gamma=0)),
    ("dist", "intra"): ("beta: 0", False, lambda s, t, y: dist(s, t, beta=0)),
    ("dist", "t4"): ("{beta: 2, gamma: 0.5, temperature: 4}", False, lambda s, t, y: dist(s, t, 2, 0.5, 4)),
    ("dist", "standardized"): ("", True, lambda s, t, y: dist(standard(s), standard(t))),
}

# Values for "sines" by a program of plain sums in float64, without PyTorch, to the ten digits it prints.
INDEPENDENT = {
    ("ce", "default"): 1.8878516708,
    ("kd", "default"): 0.3462889038,
    ("kd", "t1"): 0.2981864452,
    ("kd", "standardized"): 0.1286961483,
    ("dkd", "default"): 2.0086742452,
    ("dkd", "target"): 0.1700997170,
    ("dkd", "others"): 0.2298218160,
    ("nkd", "default"): 1.8298579696,
    ("dist", "inter"): 0.3313302407,
    ("dist", "intra"): 0.3164694663,
}


def cases():
    for (loss, variant), (settings, standardize, f) in VARIANTS.items():
        for name, student, teacher, labels in inputs():
            if loss == "dist" and no_correlation(name, standardize):
                continue
            if loss == "dist" and name == "large":
                student = signs("+--", "-++", "++-", "--+")  # for the same reason without a row that is all equal
            c = case(loss, variant, name, lambda x: f(x["student"], x["teacher"], x["labels"]), settings, standardize,
                     student=student, teacher=teacher, labels=labels)
            if name == "sines" and (loss, variant) in INDEPENDENT:
                expect(c["value"], INDEPENDENT[loss, variant])
            yield c
    yield from warming()
    for name, student, teacher, labels in inputs():
        yield from with_temperature(name, student, teacher, labels)
        yield from with_stages(name, student, teacher, labels)
        yield from with_classifier(name, student, teacher, labels)


def no_correlation(name, standardize):
    """One sample has none with others, nor have two classes once they are standardised: then all samples are alike, up to a sign."""
    return name == "batch_of_one" or name == "two_classes" and standardize


def warming():
    """DKD in its fifth epoch of 240."""
    student, teacher, labels = sines()
    yield case("dkd", "default", "warming", lambda x: 0.25 * dkd(x["student"], x["teacher"], x["labels"]),
               leaves={"student": student, "teacher": teacher, "labels": labels, "knobs.warmup": torch.tensor(0.25).double()})


def with_temperature(name, student, teacher, labels):
    """With the gradient of the parameter plain, stopped and reversed, at temperatures of 2 to 4: at 15, where it starts, the
    divergence of these logits is 1e-3, of which float32 leaves four digits. For the large logits the gradient is stopped: what
    it is made of cancels."""
    for variant, settings, start, span, theta, by in (
            ("default", "", 1, 20, -2.5, 1), ("default", "", 1, 20, -2, 0), ("default", "", 1, 20, -2.5, -0.75),
            ("narrow", "{start: 2, span: 3, warmup: 0}", 2, 3, 0.5, -1)):
        if name == "large" and by != 0:
            continue
        yield case("ctkd", variant, name if by == 1 else f"{name}_lambda_{by}",
                   lambda x: ctkd(x["student"], x["teacher"], x["params.theta"], x["knobs.lambda"], start, span).squeeze(), settings,
                   leaves={"student": student, "teacher": teacher, "params.theta": torch.tensor([float(theta)]).double(),
                           "knobs.lambda": torch.tensor(float(by)).double()})


def with_stages(name, student, teacher, labels):
    if name == "sines":
        expect(ofa(student, teacher, labels).item(), 1.3108305549)
        expect(ofa(student, teacher, labels, 1.5).item(), 1.2125395821)
    stages = [waves(student.shape, 1), 3 * waves(student.shape, 2)]
    for variant, settings, epsilon, weight, temperature, standardize in (
            ("default", "", 1, 1, 1, False), ("cifar", "{epsilon: 1.5, stage_weight: 0.1}", 1.5, 0.1, 1, False),
            ("final", "{stage_weight: 0, temperature: 2}", 1, 0, 2, False), ("standardized", "", 1, 1, 1, True)):
        def f(x):
            z = (lambda name: standard(x[name])) if standardize else x.get
            final, *others = (ofa(z(s), z("teacher"), x["labels"], epsilon, temperature)
                              for s in ("student", "pairs.0.student", "pairs.1.student"))
            return final + weight * sum(others)
        yield case("ofa", variant, name, f, settings, standardize, leaves={
            "student": student, "teacher": teacher, "labels": labels, "pairs.0.student": stages[0], "pairs.0.teacher": teacher,
            "pairs.1.student": stages[1], "pairs.1.teacher": teacher})


def with_classifier(name, student, teacher, labels):
    rows = waves((student.shape[1], 6), 3)
    for variant, settings, gamma, temperature, more, standardize in (
            ("default", "", 800, 8, {}, False), ("t4", "{gamma: 1, temperature: 4}", 1, 4, {}, False),
            ("smooth", "{gamma: 2, temperature: 2, lambda: 0.5, iterations: 3, kappa: 2}", 2, 2,
             {"lam": 0.5, "iterations": 3, "kappa": 2}, False),
            ("standardized", "", 800, 8, {}, True)):
        def f(x):
            s, t = (standard(x[z]) if standardize else x[z] for z in ("student", "teacher"))
            return wkd_l(s, t, x["labels"], x["classifier.weight"], gamma, temperature, **more)
        yield case("wkd_l", variant, name, f, settings, standardize, leaves={
            "student": student, "teacher": teacher, "labels": labels, "classifier.weight": rows,
            "classifier.bias": torch.zeros(len(rows)).double()})
