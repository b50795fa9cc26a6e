"""The student of a distillation: where it starts, how it grows, its second head.

A classifier for the same classes, and a head for the same teacher beside it, are gone on with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vitmsn import checkpoint
from vitmsn.config import VARIANTS
from vitmsn.errors import ConfigError
from vitmsn.model import ViTMSNForImageClassification, ViTMSNModel

TEACHER_HEAD = "teacher_head.safetensors"  # beside a model: another run can continue from it


class Student(ViTMSNForImageClassification):
    """A classifier with a second head, for the teacher's classes; ``model``'s parts are taken, not copied."""

    def __init__(self, model: ViTMSNForImageClassification, teacher_head: nn.Linear) -> None:
        super().__init__(model.config, backbone=model.vit)
        self.classifier, self.teacher_head = model.classifier, teacher_head


def goes_on(start: checkpoint.Checkpoint, classes: Sequence[str]) -> bool:
    """Whether the existing classifier is for these classes."""
    return bool(start.classifier) and tuple(start.config.id2label.values()) == tuple(classes)


def open_student(
    start: checkpoint.Checkpoint | None, classes: Sequence[str], seed: int
) -> ViTMSNForImageClassification:
    """The network to train: what ``start`` has, under its classifier where that is one for these classes."""
    torch.manual_seed(seed)
    labels = dict(enumerate(classes))
    if start is None:
        return ViTMSNForImageClassification(VARIANTS["tiny-8-64"].with_labels(id2label=labels))
    config = replace(start.config.with_labels(id2label=labels), problem_type=None)
    tensors = {name: tensor for name, tensor in start.tensors.items() if name != "embeddings.mask_token"}
    backbone = ViTMSNModel.from_checkpoint(replace(start, config=config, tensors=tensors))
    student = ViTMSNForImageClassification(config, backbone=backbone)
    if goes_on(start, classes):
        student.classifier.load_state_dict(start.classifier)
    return student


def open_teacher_head(source: str | Path, shape: tuple[int, int]) -> nn.Linear | None:
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
