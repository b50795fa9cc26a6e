"""Distil a teacher into a ViT-MSN: masked views of a picture learn to give what the teacher says of the whole one.

It is MSN's idea with a fixed target. Anchors with dropped patches are matched to a target from the picture, so that
masking and meaning are learned together, and the patches dropped make it cheap. The loss is

    (1 - a) x cross entropy with the labels, where there are any, + a x KL(teacher || student)

(Hinton et al., arXiv 1503.02531), the second through a head of its own with the teacher's classes. Both heads read the
CLS token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn.errors import ConfigError, DataError
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.training.answers import Answers
from vitmsn.training.distributed import Processes
from vitmsn.training.finetune import Finetuner, FinetuneRecipe, Stretch


@dataclass(frozen=True)
class DistilRecipe(FinetuneRecipe):
    """Everything that decides a distillation, beside the model, the pictures and the teacher's answers."""

    teacher_share: float = 0.8  # a: of the loss; where there are no labels it is 1
    stretches: tuple[Stretch, ...] = (Stretch(0.6, mask_ratio=0.7), Stretch(0.3, mask_ratio=0.5), Stretch(0.1))
    layer_decay: float = 0.9


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
        # part of the model, so that it is averaged, saved and given its rate with everything else
        model.teacher_head = head
        self.teacher_head = head
        self.answers = answers
        super().__init__(recipe, model, pictures, labels, device, processes=processes, precision=precision)
        self.recipe: DistilRecipe = recipe

    def _crop(self, epoch: int) -> tuple[int, int] | None:
        views = self.answers.views
        return (views.seed, epoch % views.count) if views.count else None

    def _loss(
        self, pixels: Tensor, keep: Tensor | None, indices: Tensor, epoch: int
    ) -> tuple[Tensor, dict[str, float]]:
        labels = self.labels[indices].to(self.device)
        told = self.answers.take(indices, epoch % self.answers.views.stored).to(self.device)
        cls = self._encode(pixels, keep)
        divergence = told.divergence(self.teacher_head(cls))
        labelled = labels >= 0
        if not labelled.any():
            return divergence, {"divergence": divergence.item()}
        logits = self.model.classifier(cls[labelled])
        cross_entropy = F.cross_entropy(logits, labels[labelled], label_smoothing=self.recipe.smoothing)
        share = self.recipe.teacher_share
        right = (logits.argmax(1) == labels[labelled]).float().mean()
        numbers = {"divergence": divergence, "cross_entropy": cross_entropy, "training_accuracy": right}
        return share * divergence + (1 - share) * cross_entropy, {name: n.item() for name, n in numbers.items()}


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
