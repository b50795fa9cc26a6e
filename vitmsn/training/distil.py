"""Distil a teacher into a ViT-MSN: masked views of a picture learn the teacher's answer to the whole one.

    distil.run("PICTURES", "runs/student", "facebook/vit-msn-small", model="runs/mine/model")

It is MSN's idea with a fixed target. Anchors with dropped patches are matched to a target from the picture, so that
masking and meaning are learned together, and the patches dropped make it cheap. The loss is

    (1 - a) x cross entropy with the labels, where there are any, + a x KL(teacher || student) + b x similarities

(Hinton et al., arXiv 1503.02531), the second through a head of its own with the teacher's classes. Both heads read the
CLS token. A label can have a soft one beside it: what a teacher that was fitted to these very classes says, say. The
third makes the embeddings of pictures as similar as the teacher's answers to them (`similarity`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn import checkpoint
from vitmsn.config import VARIANTS, pair
from vitmsn.data import DataSet, open_data, to_uint8
from vitmsn.devices import choose_device, choose_dtype
from vitmsn.errors import ConfigError, DataError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.training import augment, calibration, card, log_figure, loop
from vitmsn.training.answers import Answers, Probabilities, TeacherViews, ask
from vitmsn.training.calibration import Calibration
from vitmsn.training.distributed import Processes
from vitmsn.training.finetune import Finetuner, FinetuneRecipe, Stretch, logits_of, standardize
from vitmsn.training.result import TrainingResult
from vitmsn.training.similarity import SimilarityQueue
from vitmsn.training.student import TEACHER_HEAD, Student, center, goes_on, grow, open_student, open_teacher_head
from vitmsn.training.teacher import open_teacher, read_probabilities


@dataclass(frozen=True)
class DistilRecipe(FinetuneRecipe):
    """All settings of a distillation, beside the model, the pictures and the teacher's answers."""

    teacher_share: float = 0.8  # a: of the loss; where there are no labels it is 1
    label_share: float = 0.5  # of the label in what a picture with a soft label should be; the rest is the soft one
    cutmix: float = 0.0  # share of the batches before the last stretch in which pictures get patches of one another
    similarity: float = 0.5  # b: weight of the loss of similarities
    queue: int = 4096  # pictures that each one is compared with, at most half of all
    stretches: tuple[Stretch, ...] = (Stretch(0.6, mask_ratio=0.7), Stretch(0.3, mask_ratio=0.5), Stretch(0.1))
    layer_decay: float = 0.9


class Distiller(Finetuner):
    """One distillation; the loop is ``loop.run``.

    Args:
        model: a classifier over ``labels``' classes; trained in place.
        pictures: (N, 3, height, width) uint8.  labels: (N,) int64, -1 where there is none.
        answers: of the teacher to these pictures, in their order.
        soft_labels: (N, classes) probabilities, rows summing to 1; read where there is a label too.
        teacher_head: a start for the head with the teacher's classes; None: a new one.
    """

    def __init__(
        self,
        recipe: DistilRecipe,
        model: ViTMSNForImageClassification,
        pictures: Tensor,
        labels: Tensor,
        answers: Answers,
        device: str | torch.device = "cpu",
        *,
        soft_labels: np.ndarray | None = None,
        teacher_head: nn.Linear | None = None,
        processes: Processes | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        if len(answers) != len(pictures):
            raise DataError(
                f"The teacher answered to {len(answers)} pictures, not to these {len(pictures)}; ask it again."
            )
        if answers.views.count and answers.views.scale != recipe.scale:
            raise ConfigError(
                f"The teacher saw crops of {answers.views.scale} of a picture, the student is to see {recipe.scale}; "
                "give both the same scale."
            )
        if soft_labels is not None and soft_labels.shape != (len(pictures), model.config.num_labels):
            raise DataError(
                f"The soft labels are {soft_labels.shape}; {len(pictures)} pictures of {model.config.num_labels} "
                f"classes need {(len(pictures), model.config.num_labels)}."
            )
        torch.manual_seed(recipe.seed)
        width, classes = model.config.hidden_size, answers.num_classes
        head = teacher_head or nn.Linear(width, classes)
        if tuple(head.weight.shape) != (classes, width):
            raise ConfigError(
                f"The head for the teacher is {tuple(head.weight.shape)}; a model of width {width} and a teacher of "
                f"{classes} classes need {(classes, width)}."
            )
        self.answers, self.soft_labels = answers, soft_labels
        super().__init__(
            recipe, Student(model, head), pictures, labels, device, processes=processes, precision=precision
        )
        self.recipe: DistilRecipe
        size = min(recipe.queue, len(pictures) // self.processes.count // 2)  # so that no picture meets itself
        self.queue = SimilarityQueue(size, width, classes, self.device) if recipe.similarity and size else None
        self.model: Student
        self.average: Student

    def _crop(self, epoch: int) -> tuple[int, int] | None:
        views = self.answers.views
        return (views.seed, epoch % views.count) if views.count else None

    def _loss(
        self, pixels: Tensor, keep: Tensor | None, indices: Tensor, epoch: int
    ) -> tuple[Tensor, dict[str, float]]:
        recipe, chance = self.recipe, np.random.default_rng((self.recipe.seed, self.step))
        told = self.answers.take(indices, epoch % self.answers.views.stored)
        if self.stretch is not recipe.stretches[-1] and chance.random() < recipe.cutmix:
            pixels, share = augment.cutmix(pixels, pair(self.model.config.patch_size), chance)
            cls = self._encode(pixels, keep)
            own, numbers = self._matched(cls, told, indices)
            other, _ = self._matched(cls, told.flip(), indices.flip(0))
            return share * own + (1 - share) * other, {name: number.item() for name, number in numbers.items()}
        cls = self._encode(pixels, keep)
        loss, numbers = self._matched(cls, told, indices)
        if self.queue is not None:
            numbers["similarity"] = self.queue.loss(cls, told.to(self.device))
            loss = loss + recipe.similarity * numbers["similarity"]
        return loss, {name: number.item() for name, number in numbers.items()}

    def _matched(self, cls: Tensor, told: Probabilities, indices: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(how far embeddings (B, D) are from the answers and labels of these pictures, its parts)."""
        recipe, labels = self.recipe, self.labels[indices].to(self.device)
        loss = divergence = told.to(self.device).divergence(self.model.teacher_head(cls))
        numbers = {"divergence": divergence}
        if (labelled := labels >= 0).any():
            logits, classes = self.model.classifier(cls[labelled]), labels[labelled]
            cross_entropy = F.cross_entropy(logits, classes, label_smoothing=recipe.smoothing)
            if self.soft_labels is not None:
                soft = torch.from_numpy(self.soft_labels[indices[labelled.cpu()].numpy()]).to(logits)
                cross_entropy = torch.lerp(F.cross_entropy(logits, soft), cross_entropy, recipe.label_share)
            loss = torch.lerp(cross_entropy, divergence, recipe.teacher_share)
            right = (logits.argmax(1) == classes).float().mean()
            numbers |= {"cross_entropy": cross_entropy, "training_accuracy": right}
        return loss, numbers

    def state_dict(self) -> dict[str, Any]:
        """With several processes each has a queue of its own; that of the first is kept."""
        return super().state_dict() | ({"queue": self.queue.state_dict()} if self.queue is not None else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.queue is not None:
            self.queue.load_state_dict(state["queue"])


# --- what the command does -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DistilResult(TrainingResult):
    """A student, finished or as far as it got. ``card`` is that of the model folder, ``model``.

    Attributes:
        accuracy: share of held-out pictures whose class it names; None without labels.
        agreement: share of held-out pictures where it agrees with the teacher.
    """

    calibration: Calibration | None
    accuracy: float | None
    agreement: float


def run(
    data: str | Path | DataSet,
    out: str | Path,
    teacher: str,
    *,
    model: str | Path | None = None,
    layers: int | None = None,
    recipe: DistilRecipe | None = None,
    views: TeacherViews | None = None,
    answers: str | Path | None = None,
    soft_labels: str | Path | None = None,
    kinds: Mapping[str, Sequence[str]] | None = None,
    split: str | None = None,
    held_out: float = 0.02,
    device: str = "auto",
    precision: str = "auto",
    dtype: torch.dtype = torch.float32,
    limit_minutes: float | None = None,
    log_every: int = 50,
    save_every: int = 200,
    monitor_every: int = 1000,
    say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], object] | None = None,
) -> DistilResult | None:
    """Distil a teacher on pictures, and write state, log, figure and ``out / "model"``; the same call again goes on.

    Args:
        data: a data set, or what :func:`vitmsn.data.open_data` opens. Without labels the teacher alone teaches.
        teacher: what :func:`vitmsn.training.teacher.open_teacher` opens.
        model: the student to start from, a folder, a file or a hub id; None: the embedded one; "random": new weights.
            A classifier for the same classes, and a head for the same teacher beside it, are gone on with.
        layers: grow the student to so many.
        views: what of each picture the teacher is shown; None: the whole of it, at 160 pixels.
        answers: folder for the teacher's answers, to share among runs; None: ``out / "answers"``.
        soft_labels: a .npy file of probabilities, a row for each picture of the data and a column for each class.
        kinds: wider names for classes, for the model's card.
        held_out: share of each class that is not trained on, to measure and calibrate with.
        precision: of the backbone's forward pass; "auto": what is fast on the device.
        dtype: of the weights in the file.
        limit_minutes: stop after so long; what is written is what was reached.
        progress: called with (what, done, total) while pictures are read and the teacher is asked.

    Returns:
        The result; None in all processes but the first.

    Raises:
        DataError: kinds of other classes, no picture that can be decoded, or answers for other pictures.
        ConfigError: a teacher or a number of layers that does not fit.
    """
    recipe, out, source = recipe or DistilRecipe(), Path(out), model or checkpoint.EMBEDDED
    views = views or TeacherViews(0)
    dataset = data if isinstance(data, DataSet) else open_data(data, split)
    card.check_kinds(kinds or {}, dataset.classes)
    processes = Processes.from_environment(choose_device(device))
    told = progress if processes.first else None

    def bar(what: str) -> Callable[[int, int], object] | None:
        return None if told is None else partial(told, what)

    start = None if source == "random" else checkpoint.load(source)
    side = max(pair((start.config if start else VARIANTS["tiny-8-64"]).image_size))
    parts = dataset.split(held_out)
    (pictures, labels), (queries, wanted) = (
        to_uint8(part, side, bar(what))
        for part, what in zip(parts, ("reading pictures", "and those held out"), strict=True)
    )
    opened = open_teacher(teacher, pictures, device)
    place = Path(answers) if answers is not None else out / "answers"
    said, expected = (
        _ask(opened, part, rows.rows, place, views, processes, bar(what))
        for part, rows, what in (
            (pictures, parts[0], "asking the teacher"),
            (queries, parts[1], "and of those held out"),
        )
    )
    classes = dataset.classes or opened.classes or tuple(map(str, range(said.num_classes)))
    student = open_student(start, classes, recipe.seed)
    if start is None or not goes_on(start, classes):
        standardize(student, pictures)
    if layers is not None:
        student = grow(student, layers)
    head = open_teacher_head(source, (said.num_classes, student.config.hidden_size))
    distiller = Distiller(
        recipe, student, pictures, labels, said,
        soft_labels=None if soft_labels is None else _soft(Path(soft_labels), dataset, parts[0].rows),
        teacher_head=head, processes=processes, precision=choose_dtype(precision, processes.device),
    )  # fmt: skip
    asked = wanted >= 0

    def measure() -> dict[str, float]:
        embedded, heads = _features(distiller.average, queries), distiller.average
        with torch.no_grad():
            same = heads.teacher_head(embedded).argmax(1) == expected.take(torch.arange(len(queries))).classes[:, 0]
            found = {"agreement": same.float().mean().item()}
            if asked.any():
                right = heads.classifier(embedded[asked]).argmax(1) == wanted[asked]
                found["accuracy"] = right.float().mean().item()
        return found

    finished = loop.run(
        distiller, out, limit_minutes=limit_minutes, log_every=log_every, save_every=save_every,
        monitor=measure, monitor_every=monitor_every, logged=log_figure.figure_updater(out, distiller.steps), say=say,
    )  # fmt: skip
    if not processes.first:
        return None
    last = measure()
    about: dict[str, Any] = {
        "trained_on": card.data_name(dataset),
        "pictures": len(pictures),
        "distilled_from": opened.name,
        "initialised_from": str(source),
        "epochs": round(distiller.step / distiller.steps_per_epoch, 3),
        "agreement": round(last["agreement"], 4),
    }
    if soft_labels is not None:
        about["soft_labels"] = Path(soft_labels).name
    measured = None
    if asked.any():
        measured = calibration.measure(logits_of(distiller.average, queries[asked]), wanted[asked])
        about |= {"held_out": measured.held_out, "not_sure_below": measured.not_sure_below}
    if kinds:
        about["kinds"] = {kind: list(members) for kind, members in kinds.items()}
    _save(distiller.average, out / "model", pictures, bool(dataset.classes or opened.classes), measured, about, dtype)
    return DistilResult(
        out, out / "model", finished, distiller.step, distiller.steps, about, measured, last.get("accuracy"),
        last["agreement"],
    )  # fmt: skip


def _soft(file: Path, dataset: DataSet, rows: np.ndarray) -> np.ndarray:
    """(pictures, classes) float32 of a file, for the pictures in these rows of the data."""
    found = read_probabilities(str(file))
    if found.shape[1] != len(dataset.classes) or rows.max() >= len(found):
        raise DataError(
            f"{file} has probabilities {found.shape}; {dataset.name} needs a row for each of its pictures, at least "
            f"{rows.max() + 1}, and {len(dataset.classes)} columns, one for each class."
        )
    soft = found[rows].astype(np.float32)
    if not ((soft >= 0).all() and np.allclose(soft.sum(1), 1, atol=1e-2)):
        raise DataError(f"{file} holds no probabilities: each row must be at least 0 and sum to 1.")
    return soft


def _ask(
    teacher: Any,
    pictures: Tensor,
    rows: Any,
    place: Path,
    views: TeacherViews,
    processes: Processes,
    progress: Callable[[int, int], object] | None,
) -> Answers:
    """The first process runs the teacher, the others read its answers."""
    answerer = teacher.answer
    if teacher.rows is not None:
        if views.count or len(rows) != len(pictures) or rows.max() >= len(teacher.rows):
            raise DataError(
                f"{teacher.name} has {len(teacher.rows)} answers; a file needs one for each whole picture of the data, "
                f"in its order, and every picture must be readable ({len(pictures)} of {len(rows)} are)."
            )
        answerer = teacher.rows[rows]
    if processes.first:
        ask(answerer, pictures, place, views, teacher.checksum, progress)
    processes.wait()
    return ask(answerer, pictures, place, views, teacher.checksum)


def _features(model: ViTMSNForImageClassification, pictures: Tensor) -> Tensor:
    """CLS (N, D) of whole pictures, on the CPU's memory or the model's device as :func:`logits_of` gives it."""
    classifier, model.classifier = model.classifier, nn.Identity()
    try:
        return logits_of(model, pictures).to(next(classifier.parameters()).device)
    finally:
        model.classifier = classifier


def _save(
    model: Student,
    folder: Path,
    pictures: Tensor,
    named: bool,
    measured: Calibration | None,
    about: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    """Write the student, centered; where there were no labels, with the teacher's classes, if those have names."""
    center(model, _features(model, pictures[:10_000]).double().mean(0).float())
    head = model.teacher_head
    classifier: dict[str, Tensor] | None = head.state_dict() if named else None
    if measured is not None:
        classifier = calibration.fold_temperature(model.classifier.state_dict(), measured.temperature)
    height, width = pair(model.config.image_size)
    checkpoint.save(
        folder,
        model.config,
        model.vit.state_dict(),
        classifier=classifier,
        feature_mean=_features(model, pictures[:10_000]).double().mean(0).float().cpu(),
        processor=ViTMSNImageProcessor({"height": height, "width": width}).to_dict(),
        card=about,
        dtype=dtype,
    )
    tensors = {f"teacher_head.{name}": tensor for name, tensor in head.state_dict().items()}
    checkpoint.save_tensors(folder / TEACHER_HEAD, tensors, dtype)
