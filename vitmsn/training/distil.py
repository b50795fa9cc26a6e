"""Distil a teacher into a ViT-MSN: masked views of a picture learn the teacher's answer to the whole one.

    distil.run("PICTURES", "runs/student", "facebook/vit-msn-small", model="runs/mine/model")

It is MSN's idea with a fixed target. Anchors with dropped patches are matched to a target from the picture, so that
masking and meaning are learned together, and the patches dropped make it cheap. The loss is

    (1 - a) x cross entropy with the labels, where there are any, + a x KL(teacher || student) + b x similarities

(Hinton et al., arXiv 1503.02531), the second through a head of its own with the teacher's classes. Both heads read the
CLS token. The third makes the embeddings of pictures as similar as the teacher's answers to them (`similarity`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn import checkpoint
from vitmsn.config import VARIANTS, pair
from vitmsn.data import DataSet, open_data, to_uint8
from vitmsn.devices import choose_device, choose_dtype
from vitmsn.errors import ConfigError, DataError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNForImageClassification, ViTMSNModel
from vitmsn.training import calibration, card, log_figure, loop
from vitmsn.training.answers import Answers, TeacherViews, ask
from vitmsn.training.calibration import Calibration
from vitmsn.training.distributed import Processes
from vitmsn.training.finetune import Finetuner, FinetuneRecipe, Stretch, logits_of, standardize
from vitmsn.training.result import TrainingResult
from vitmsn.training.similarity import SimilarityQueue


@dataclass(frozen=True)
class DistilRecipe(FinetuneRecipe):
    """All settings of a distillation, beside the model, the pictures and the teacher's answers."""

    teacher_share: float = 0.8  # a: of the loss; where there are no labels it is 1
    similarity: float = 0.5  # b: weight of the loss of similarities
    queue: int = 4096  # pictures that each one is compared with, at most half of all
    stretches: tuple[Stretch, ...] = (Stretch(0.6, mask_ratio=0.7), Stretch(0.3, mask_ratio=0.5), Stretch(0.1))
    layer_decay: float = 0.9


class Student(ViTMSNForImageClassification):
    """A classifier with a second head, for the teacher's classes; ``model``'s parts are taken, not copied."""

    def __init__(self, model: ViTMSNForImageClassification, teacher_head: nn.Linear) -> None:
        super().__init__(model.config, backbone=model.vit)
        self.classifier, self.teacher_head = model.classifier, teacher_head


class Distiller(Finetuner):
    """One distillation; the loop is ``loop.run``.

    Args:
        model: a classifier over ``labels``' classes; trained in place.
        pictures: (N, 3, height, width) uint8.  labels: (N,) int64, -1 where there is none.
        answers: of the teacher to these pictures, in their order.
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
        torch.manual_seed(recipe.seed)
        width, classes = model.config.hidden_size, answers.num_classes
        head = teacher_head or nn.Linear(width, classes)
        if tuple(head.weight.shape) != (classes, width):
            raise ConfigError(
                f"The head for the teacher is {tuple(head.weight.shape)}; a model of width {width} and a teacher of "
                f"{classes} classes need {(classes, width)}."
            )
        self.answers = answers
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
        labels = self.labels[indices].to(self.device)
        told = self.answers.take(indices, epoch % self.answers.views.stored).to(self.device)
        cls = self._encode(pixels, keep)
        loss = divergence = told.divergence(self.model.teacher_head(cls))
        numbers = {"divergence": divergence}
        if (labelled := labels >= 0).any():
            logits = self.model.classifier(cls[labelled])
            cross_entropy = F.cross_entropy(logits, labels[labelled], label_smoothing=self.recipe.smoothing)
            share = self.recipe.teacher_share
            loss = share * divergence + (1 - share) * cross_entropy
            right = (logits.argmax(1) == labels[labelled]).float().mean()
            numbers |= {"cross_entropy": cross_entropy, "training_accuracy": right}
        if self.queue is not None:
            numbers["similarity"] = self.queue.loss(cls, told)
            loss = loss + self.recipe.similarity * numbers["similarity"]
        return loss, {name: number.item() for name, number in numbers.items()}

    def state_dict(self) -> dict[str, Any]:
        """With several processes each has a queue of its own; that of the first is kept."""
        return super().state_dict() | ({"queue": self.queue.state_dict()} if self.queue is not None else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.queue is not None:
            self.queue.load_state_dict(state["queue"])


@torch.no_grad()
def grow(model: ViTMSNForImageClassification, layers: int) -> ViTMSNForImageClassification:
    """The same function with more layers: new ones, spread evenly, whose two output projections are zero.

    A residual block that adds nothing is the identity, and its gradients let it learn to add something.

    Raises:
        ConfigError: ``layers`` is less than the model has.
    """
    old = len(model.vit.layers)
    if layers < old:
        raise ConfigError(f"The model has {old} layers; it can grow to {old} or more, not to {layers}.")
    places = {round((i + 1) * layers / (layers - old)) - 1 for i in range(layers - old)}
    grown = ViTMSNForImageClassification(replace(model.config, num_hidden_layers=layers))
    theirs = iter(model.vit.layers)
    for place, layer in enumerate(grown.vit.layers):
        if place in places:
            for name, parameter in layer.named_parameters():
                if name.startswith(("attention.output.", "mlp.fc2.")):
                    nn.init.zeros_(parameter)
        else:
            layer.load_state_dict(next(theirs).state_dict())
    grown.vit.embeddings.load_state_dict(model.vit.embeddings.state_dict())
    grown.vit.layernorm.load_state_dict(model.vit.layernorm.state_dict())
    grown.classifier.load_state_dict(model.classifier.state_dict())
    return grown.train(model.training)


@torch.no_grad()
def center(student: Student, mean: Tensor) -> None:
    """Move the mean of the embeddings to zero, in place; every answer stays as it is.

    What all embeddings have in common makes any two of them similar, a masked picture and an unlike one too. The final
    shift gives it up and the biases of both heads take it in.

    Args:
        mean: (D,) of the embeddings.
    """
    for head in (student.classifier, student.teacher_head):
        assert isinstance(head, nn.Linear)
        head.bias.add_(head.weight @ mean)
    student.vit.layernorm.bias.sub_(mean)


# --- what the command does -------------------------------------------------------------------------------------------

TEACHER_HEAD = "teacher_head.safetensors"  # beside a model: another run can continue from it


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
    from vitmsn.training.teacher import open_teacher

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
    student = _student(start, classes, recipe.seed)
    if start is None or not _goes_on(start, classes):
        standardize(student, pictures)
    if layers is not None:
        student = grow(student, layers)
    head = _teacher_head(source, (said.num_classes, student.config.hidden_size))
    distiller = Distiller(
        recipe, student, pictures, labels, said,
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


def _goes_on(start: checkpoint.Checkpoint, classes: Sequence[str]) -> bool:
    """Whether the existing classifier is for these classes."""
    return bool(start.classifier) and tuple(start.config.id2label.values()) == tuple(classes)


def _student(start: checkpoint.Checkpoint | None, classes: Sequence[str], seed: int) -> ViTMSNForImageClassification:
    """The network to train: what ``start`` has, under its classifier where that is one for these classes."""
    torch.manual_seed(seed)
    labels = dict(enumerate(classes))
    if start is None:
        return ViTMSNForImageClassification(VARIANTS["tiny-8-64"].with_labels(id2label=labels))
    config = replace(start.config.with_labels(id2label=labels), problem_type=None)
    tensors = {name: tensor for name, tensor in start.tensors.items() if name != "embeddings.mask_token"}
    backbone = ViTMSNModel.from_checkpoint(replace(start, config=config, tensors=tensors))
    student = ViTMSNForImageClassification(config, backbone=backbone)
    if _goes_on(start, classes):
        student.classifier.load_state_dict(start.classifier)
    return student


def _teacher_head(source: str | Path, shape: tuple[int, int]) -> nn.Linear | None:
    """The head beside a student, if it is one for a teacher of so many classes."""
    file = Path(source) / TEACHER_HEAD
    if not file.is_file():
        return None
    tensors = {key.removeprefix("teacher_head."): tensor for key, tensor in checkpoint.load_tensors(file).items()}
    if tuple(tensors["weight"].shape) != shape:
        return None
    head = nn.Linear(shape[1], shape[0])
    head.load_state_dict(tensors)
    return head


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
