"""How good frozen features are: kNN, linear probe, and the paper's low-shot protocol.

    pictures -> features, once -> kNN | linear probe | a few labels a class -> Report

The low-shot protocol is that of MSN (arXiv 2204.07141, section 5, and its original code): each row of features is
centered on its own mean and scaled to length 1, then a multinomial logistic regression without intercept is fitted with
the penalty lambda / n, lambda = .0025. The original takes the CLS token before the final LayerNorm; users of
transformers take it after. Both are offered, by name, and raw pixels to compare with.

Letters: N training rows, M test rows, D features, C classes. Accuracies are shares, 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vitmsn.data import DataSet, Record
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError, InputError
from vitmsn.image import Picture, batches

Array = NDArray[Any]
Progress = Callable[[str, int, int], object]  # (what, done, total)

FEATURES = ("post-layernorm", "pre-layernorm", "raw-pixels")
RAW_SIDE = 16  # side of the raw pixels; finer ones are no better and cost the square
PENALTY = 0.0025  # lambda of the original code
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of the linear probe, on standardized features and the mean loss
HELD_OUT = 0.05  # share of the training rows that chooses the penalty
BLOCK = 4096  # rows of one matrix product


# --- features ------------------------------------------------------------------------------------------------------


class Extracted(NamedTuple):
    """Features of a data set: ``X`` (N, D) float32, ``y`` (N,) labels, and the pictures left out, with reasons."""

    X: Array
    y: Array
    skipped: list[str]


def extract(
    encoder: Encoder, dataset: DataSet, features: str = "post-layernorm", progress: Progress | None = None
) -> Extracted:
    """Encode a data set once, a batch at a time. Pictures without a label or that cannot be decoded are left out.

    Args:
        features: CLS after ("post-layernorm") or before ("pre-layernorm") the final LayerNorm, or the normalized pixels
            of the model's view of the picture, at 16 x 16 ("raw-pixels").

    Raises:
        DataError: nothing is labelled, or nothing can be decoded.
    """
    if features not in FEATURES:
        raise InputError(f"There are no features {features!r}; choose one of {', '.join(FEATURES)}.")

    def encode(pictures: list[Picture]) -> Array:
        if features != "raw-pixels":
            return encoder.embed(pictures, layernorm=features == "post-layernorm")
        pixels: Array = encoder.processor(pictures, size=RAW_SIDE, return_tensors="np")["pixel_values"]
        return pixels.reshape(len(pictures), -1)

    found: list[Array] = []
    labels: list[int] = []
    skipped: list[str] = []
    read = 0

    def labeled() -> Iterator[tuple[Record, bytes]]:
        nonlocal read
        for record in dataset:
            read += 1
            if record.label is None:
                skipped.append(f"{record.id}: no label")
            else:
                yield record, record.data

    for batch in batches(labeled(), lambda record, error: skipped.append(f"{record.id}: {error}")):
        if batch.pictures:
            found.append(encode(batch.pictures))
            labels.extend(record.label for record in batch.keys if record.label is not None)
        if progress is not None:
            progress(f"{dataset.name}, {features}", read, len(dataset))
    if not found:
        reason = f" ({skipped[0]})" if skipped else ""
        raise DataError(f"{dataset.name} has no labelled picture that can be decoded{reason}.")
    return Extracted(np.concatenate(found), np.array(labels), skipped)


# --- rows and labels -----------------------------------------------------------------------------------------------


def _rows(X: ArrayLike, y: ArrayLike, which: str) -> tuple[Tensor, Array]:
    rows, labels = np.asarray(X, np.float32), np.asarray(y)
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or not len(rows):
        raise InputError(
            f"The {which} rows are {rows.shape} and their labels {labels.shape}; (rows, features) and (rows,) are "
            "needed, with at least one row."
        )
    if not np.isfinite(rows).all():
        raise InputError(f"The {which} rows hold values that are not finite; look at the model that made them.")
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy()), labels


def _codes(train_y: Array, test_y: Array) -> tuple[Array, Tensor, Tensor]:
    """(classes (C,), training codes (N,), test codes (M,)); every test label must have been trained on."""
    classes, train = np.unique(train_y, return_inverse=True)
    strange = np.setdiff1d(test_y, classes)
    if len(strange):
        names = ", ".join(str(label) for label in strange[:5])
        raise DataError(
            f"The test pictures have classes that no training picture has ({names}); give examples of each."
        )
    return classes, torch.from_numpy(train), torch.from_numpy(np.searchsorted(classes, test_y))


def _both(
    train_X: ArrayLike, train_y: ArrayLike, test_X: ArrayLike, test_y: ArrayLike
) -> tuple[Tensor, Tensor, Tensor, Tensor, Array]:
    rows, labels = _rows(train_X, train_y, "training")
    queries, wanted = _rows(test_X, test_y, "test")
    if rows.shape[1] != queries.shape[1]:
        raise InputError(
            f"Training rows have {rows.shape[1]} features and test rows {queries.shape[1]}; take both from one model."
        )
    classes, codes, wanted_codes = _codes(labels, wanted)
    return rows, codes, queries, wanted_codes, classes


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def _blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _right(logits: Tensor, wanted: Tensor, k: int) -> int:
    """How many of ``wanted`` (M,) are among the k largest logits (M, C) of their row."""
    return int((logits.topk(min(k, logits.shape[1]), dim=1).indices == wanted.unsqueeze(1)).sum())


# --- k nearest neighbors ------------------------------------------------------------------------------------------


@torch.inference_mode()
def knn_accuracy(
    train_X: ArrayLike,
    train_y: ArrayLike,
    test_X: ArrayLike,
    test_y: ArrayLike,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy of a vote of the ``k`` nearest training rows, each with weight exp(cosine / temperature).

    Rows are centered on the training mean and scaled to length 1. Computed in blocks: 100,000 x 5,000 rows take some
    100 MB beside the rows themselves.
    """
    if k < 1 or not temperature > 0:
        raise InputError(f"k is {k} and temperature {temperature}; k must be at least 1 and temperature above 0.")
    rows, codes, queries, wanted, classes = _both(train_X, train_y, test_X, test_y)
    mean = rows.mean(0)
    rows, queries = _unit(rows - mean), _unit(queries - mean)
    right = 0
    for query in _blocks(len(queries), 512):
        nearest, voters = torch.empty(len(queries[query]), 0), torch.empty(len(queries[query]), 0, dtype=torch.int64)
        for block in _blocks(len(rows), 8 * BLOCK):
            cosine = queries[query] @ rows[block].T
            best = cosine.topk(min(k, cosine.shape[1]), dim=1, sorted=False)
            nearest = torch.cat([nearest, best.values], 1)
            voters = torch.cat([voters, codes[block][best.indices]], 1)
        best = nearest.topk(min(k, nearest.shape[1]), dim=1)
        votes = torch.zeros(len(nearest), len(classes))
        weight = ((best.values - best.values[:, :1]) / temperature).exp()
        votes.scatter_add_(1, voters.gather(1, best.indices), weight)
        right += _right(votes, wanted[query], 1)
    return right / len(queries)


# --- logistic regression -------------------------------------------------------------------------------------------


def _objective(weight: Tensor, X: Tensor, codes: Tensor, penalty: float, intercept: bool) -> tuple[float, Tensor]:
    """Mean cross-entropy + penalty / 2 * |weight|^2 and its gradient (C, D); an intercept's column is not penalized."""
    gradient, total = torch.zeros_like(weight), 0.0
    for block in _blocks(len(X)):
        logits = X[block] @ weight.T  # (b, C)
        log_sum = logits.logsumexp(1, keepdim=True)
        total += float((log_sum - logits.gather(1, codes[block, None])).sum(dtype=torch.float64))
        residual = logits.sub_(log_sum).exp_()
        residual[torch.arange(len(residual)), codes[block]] -= 1
        gradient.addmm_(residual.T, X[block])
    shrunk = weight.clone()
    if intercept:
        shrunk[:, -1] = 0
    return total / len(X) + penalty / 2 * float(shrunk.square().sum()), gradient.div_(len(X)).add_(
        shrunk, alpha=penalty
    )


def _logistic(
    X: Tensor, codes: Tensor, n_classes: int, penalty: float, *, intercept: bool = False, start: Tensor | None = None,
    spread: tuple[Tensor, Tensor] | None = None, iterations: int = 300, tolerance: float = 1e-7,
) -> Tensor:  # fmt: skip
    """Weights (C, D) of a multinomial logistic regression, by L-BFGS over all rows.

    Features are correlated, which slows L-BFGS down. Given their ``spread`` (see :func:`_spread`) it optimizes in
    coordinates ``weight = moved @ root`` in which the curvature, some covariance / C + penalty, is round. The optimum
    is the same.

    intercept: the last column of ``X`` is ones, and its weights are not penalized.
    """
    moved = torch.zeros(n_classes, X.shape[1]) if start is None else start.clone()
    root = None
    if spread is not None:
        curvature, vectors = spread[0] / n_classes + penalty, spread[1]
        root = (vectors * curvature.rsqrt() @ vectors.T).float()
        moved = (moved.double() @ (vectors * curvature.sqrt() @ vectors.T)).float()
    solver = torch.optim.LBFGS(
        [moved], max_iter=iterations, max_eval=2 * iterations, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-9, tolerance_change=tolerance,
    )  # fmt: skip

    def closure() -> float:
        loss, gradient = _objective(moved if root is None else moved @ root, X, codes, penalty, intercept)
        moved.grad = gradient if root is None else gradient @ root
        return loss

    solver.step(closure)
    return moved if root is None else moved @ root


def _spread(X: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,) and eigenvectors (D, D) of the second moments of rows, float64."""
    values, vectors = torch.linalg.eigh((X.T @ X).double() / len(X))
    return values.clamp_min(1e-7 * values.max()), vectors


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on raw features: ``logits = X @ weight.T + bias``.

    Attributes:
        top1, top5: accuracy on the test rows.
        weight, bias, classes: (C, D), (C,) float32, (C,).
        penalty: the one that was chosen, on standardized features and the mean loss.
        held_out: indices (H,) of the training rows that were held out to choose it.
        held_out_logits: (H, C) of those rows, by the classifier that had not seen them: a temperature and thresholds
            are chosen on these. The final weights come from all rows.
    """

    top1: float
    top5: float
    weight: Array
    bias: Array
    classes: Array
    penalty: float
    held_out: Array
    held_out_logits: Array


def linear_probe(
    train_X: ArrayLike,
    train_y: ArrayLike,
    test_X: ArrayLike,
    test_y: ArrayLike,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> LinearProbe:
    """Multinomial logistic regression on all training rows, standardized.

    The penalty of least cross-entropy on a held-out 5 % of the training rows is chosen, from strong to weak and each
    from the solution before, until it gets worse; then all rows are fitted.
    """
    rows, codes, queries, wanted, classes = _both(train_X, train_y, test_X, test_y)
    if len(rows) < 2 or len(classes) < 2:
        raise DataError(f"{len(rows)} rows of {len(classes)} class came; a linear probe needs two classes.")
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    deviation[deviation <= 1e-6 * mean.abs()] = 1  # a constant feature varies by rounding only
    ones = torch.ones(len(rows), 1)
    standard = torch.cat([(rows - mean).div_(deviation), ones], 1)

    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    held_out, kept = order.tensor_split([max(1, round(HELD_OUT * len(rows)))])
    X, y, spread = standard[kept], codes[kept], _spread(standard)

    def fit(X: Tensor, y: Tensor, penalty: float, start: Tensor | None, iterations: int, tolerance: float) -> Tensor:
        return _logistic(
            X, y, len(classes), penalty, intercept=True, start=start, spread=spread,
            iterations=iterations, tolerance=tolerance,
        )  # fmt: skip

    best: tuple[float, float, Tensor] | None = None
    weight = None
    for number, penalty in enumerate(PENALTIES):
        if progress is not None:
            progress("linear probe", number, len(PENALTIES) + 1)
        weight = fit(X, y, penalty, weight, 60, 1e-5)
        loss, _ = _objective(weight, standard[held_out], codes[held_out], 0.0, True)
        if best is not None and loss > best[0]:
            break
        best = loss, penalty, weight
    assert best is not None
    _, penalty, weight = best
    logits = standard[held_out] @ weight.T
    weight = fit(standard, codes, penalty, weight, 100, 1e-6)
    raw_weight = weight[:, :-1] / deviation
    raw_bias = weight[:, -1] - raw_weight @ mean
    answers = torch.cat([torch.addmm(raw_bias, queries[block], raw_weight.T) for block in _blocks(len(queries))])
    if progress is not None:
        progress("linear probe", len(PENALTIES) + 1, len(PENALTIES) + 1)
    return LinearProbe(
        top1=_right(answers, wanted, 1) / len(queries),
        top5=_right(answers, wanted, 5) / len(queries),
        weight=raw_weight.numpy(),
        bias=raw_bias.numpy(),
        classes=classes,
        penalty=penalty,
        held_out=held_out.numpy(),
        held_out_logits=logits.numpy(),
    )


# --- a few labels --------------------------------------------------------------------------------------------------

CENTERINGS = ("row", "data")


def prepare(train: Tensor, test: Tensor, centering: str = "row") -> tuple[Tensor, Tensor]:
    """Rows of length 1, each centered on its own mean ("row", as in the original) or on the training rows' ("data")."""
    if centering not in CENTERINGS:
        raise InputError(f"There is no centering {centering!r}; choose one of {', '.join(CENTERINGS)}.")
    if centering == "row":
        return _unit(train - train.mean(1, keepdim=True)), _unit(test - test.mean(1, keepdim=True))
    return _unit(train - train.mean(0)), _unit(test - train.mean(0))


def draw_shots(labels: ArrayLike, shots: int | float, seed: int = 0, split: int = 0) -> Array:
    """Indices, sorted, of a seeded draw: ``shots`` rows of each class, or a share of each class when below 1.

    A share rounds, but takes at least one row of each class. Raises DataError when a class has fewer rows than asked.
    """
    if not (shots >= 1 and shots == int(shots)) and not 0 < shots < 1:
        raise InputError(f"shots is {shots}; a whole number of at least 1, or a share between 0 and 1, is needed.")
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    generator = np.random.default_rng([seed, split])
    chosen = []
    for code, label in enumerate(classes):
        members = np.flatnonzero(codes == code)
        count = int(shots) if shots >= 1 else max(1, round(shots * len(members)))
        if count > len(members):
            raise DataError(f"{label!s} has {len(members)} training pictures, but {count} were asked for.")
        chosen.append(generator.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class ReportRow:
    """One line of a report: ``accuracy`` is the mean of ``splits``, ``spread`` their standard deviation."""

    features: str
    protocol: str
    images: int  # labelled pictures trained on
    splits: tuple[float, ...]
    top5: float | None = None

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.splits))

    @property
    def spread(self) -> float:
        return float(np.std(self.splits, ddof=1)) if len(self.splits) > 1 else 0.0


def low_shot(
    train_X: ArrayLike,
    train_y: ArrayLike,
    test_X: ArrayLike,
    test_y: ArrayLike,
    shots: int | float,
    *,
    splits: int = 3,
    seed: int = 0,
    penalty: float = PENALTY,
    centering: str = "row",
    features: str = "",
) -> ReportRow:
    """The paper's protocol at ``shots`` labels a class (or, below 1, that share of the labels), on seeded splits.

    Args:
        features: the name of the features in the report.

    Raises:
        DataError: a class has fewer pictures than asked for.
    """
    rows, codes, queries, wanted, classes = _both(train_X, train_y, test_X, test_y)
    accuracies, chosen = [], np.zeros(0, np.int64)
    for split in range(splits):
        chosen = draw_shots(codes.numpy(), shots, seed, split)
        support, tested = prepare(rows[chosen], queries, centering)
        weight = _logistic(support, codes[chosen], len(classes), penalty / len(chosen))
        right = sum(_right(tested[block] @ weight.T, wanted[block], 1) for block in _blocks(len(tested)))
        accuracies.append(right / len(tested))
    return ReportRow(features, shots_name(shots), len(chosen), tuple(accuracies))


def shots_name(shots: int | float) -> str:
    """The name of a number of labels: "1 image per class", "1 % of labels"."""
    if shots < 1:
        return f"{100 * shots:g} % of labels"
    return f"{int(shots)} image{'' if shots == 1 else 's'} per class"


# --- the report ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What was measured of one model, and on how much."""

    model: str
    train: int
    test: int
    classes: int
    rows: list[ReportRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the fields, and each row's accuracy and spread."""
        rows = [{**asdict(row), "accuracy": row.accuracy, "spread": row.spread} for row in self.rows]
        return {**asdict(self), "rows": rows}

    def header(self) -> tuple[str, ...]:
        return "features", "protocol", "labels", "accuracy", "spread", "top-5"

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text, accuracies in percent."""
        return [
            (
                row.features,
                row.protocol,
                str(row.images),
                f"{100 * row.accuracy:.1f}",
                f"{100 * row.spread:.1f}" if len(row.splits) > 1 else "",
                "" if row.top5 is None else f"{100 * row.top5:.1f}",
            )
            for row in self.rows
        ]


def evaluate(
    encoder: Encoder,
    train: DataSet,
    test: DataSet,
    *,
    features: Sequence[str] = ("post-layernorm",),
    shots: Sequence[int | float] = (1, 2, 5, 0.01),
    splits: int = 3,
    seed: int = 0,
    k: int = 20,
    knn: bool = True,
    probe: bool = True,
    centering: str = "row",
    progress: Progress | None = None,
) -> Report:
    """All protocols on one model; pictures are decoded and encoded once for each kind of features.

    Args:
        train, test: labelled data sets; their classes are matched by name.
        shots: labels per class, or a share of them below 1. More than the smallest class has is left out, and noted.
    """
    _codes(_names(train, train.labels[train.labels >= 0]), _names(test, test.labels[test.labels >= 0]))  # fail early
    report = None
    for name in features:
        train_X, train_labels, train_skipped = extract(encoder, train, name, progress)
        test_X, test_labels, test_skipped = extract(encoder, test, name, progress)
        train_y, test_y = _names(train, train_labels), _names(test, test_labels)
        if report is None:
            classes, counts = np.unique(train_y, return_counts=True)
            fewest, smallest = int(counts.min()), str(classes[counts.argmin()])
            report = Report(encoder.name, len(train_y), len(test_y), len(classes))
            report.notes.extend(f"left out {reason}" for reason in (*train_skipped, *test_skipped))
            report.notes.extend(
                f"left out {shots_name(number)}: {smallest} has {fewest} pictures"
                for number in shots
                if number > fewest
            )
            possible = [number for number in shots if number <= fewest]
        data = train_X, train_y, test_X, test_y
        for number, wanted in enumerate(possible, start=1):
            row = low_shot(*data, wanted, splits=splits, seed=seed, centering=centering, features=name)
            report.rows.append(row)
            if progress is not None:
                progress("low-shot", number, len(possible))
        if knn:
            report.rows.append(ReportRow(name, f"kNN, k = {k}", len(train_y), (knn_accuracy(*data, k=k),)))
        if probe:
            fitted = linear_probe(*data, seed=seed, progress=progress)
            report.rows.append(ReportRow(name, "linear, all labels", len(train_y), (fitted.top1,), fitted.top5))
    if report is None:
        raise InputError(f"No features were asked for; choose some of {', '.join(FEATURES)}.")
    return report


def _names(dataset: DataSet, labels: Array) -> Array:
    """Places -> names, so that two data sets with their own order of classes agree."""
    return np.array(dataset.classes)[labels] if len(labels) else np.zeros(0, dtype=str)
