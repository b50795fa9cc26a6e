"""Teach a backbone named classes: fine-tune all of it, then make its probabilities honest.

Fine-tuning follows common practice for ViTs: the rate falls with depth (layer-wise decay), labels can be smoothed and
pictures mixed (mixup), and what is kept is a running average of the weights. Most of the run drops patches, as MSN's
own masking does (on classifiers: PatchDropout, Liu et al. 2023): pictures keep their scale, unlike in small views, at
a fraction of the cost. Calibration divides the logits by one temperature (Guo et al. 2017), folded into the classifier,
so that whoever loads the folder gets calibrated softmax.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn import masking
from vitmsn.config import pair
from vitmsn.errors import ConfigError, DataError
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.training import augment, schedule
from vitmsn.training.distributed import Processes


@dataclass(frozen=True)
class Stretch:
    """A part of the run: how large the views are, and how many of their patches are dropped."""

    share: float  # of all steps
    side: int | None = None  # of the views, pixels; None: the model's own
    mask_ratio: float = 0.0  # share of the patches dropped, drawn for each picture; 0: none


@dataclass(frozen=True)
class FinetuneRecipe:
    """Everything that decides a fine-tuning run, beside the backbone and the pictures."""

    epochs: float = 10.0
    stretches: tuple[Stretch, ...] = (Stretch(0.9, mask_ratio=0.7), Stretch(0.1))
    batch_size: int = 128
    peak_rate: float = 1e-3
    end_rate: float = 1e-5
    warmup_epochs: float = 0.2
    layer_decay: float = 0.85  # the rate of each layer is this times that of the layer above
    weight_decay: float = 0.05
    smoothing: float = 0.0
    mixup: float = 0.0  # Beta(a, a); 0: none
    scale: tuple[float, float] = (0.35, 1.0)  # share of the picture that a crop covers
    decay_share: float = 1.0  # of the run: its end, in which the rate falls; before it the rate stays at its peak
    average: float = 0.998  # of the weights, a step
    clip: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        total = sum(stretch.share for stretch in self.stretches)
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"The shares of the stretches sum to {total:g}; they must sum to 1.")
        for stretch in self.stretches:
            if not 0 <= stretch.mask_ratio < 1:
                raise ConfigError(f"mask_ratio is {stretch.mask_ratio:g}; it must be at least 0 and below 1.")


class Finetuner:
    """One fine-tuning run; the loop is ``loop.run``.

    Args:
        model: a classifier over ``labels``' classes; trained in place.
        pictures: (N, 3, height, width) uint8.  labels: (N,) int64.

    ``average`` is the model to keep: the running average of the weights, in eval mode.
    """

    def __init__(
        self,
        recipe: FinetuneRecipe,
        model: ViTMSNForImageClassification,
        pictures: Tensor,
        labels: Tensor,
        device: str | torch.device = "cpu",
        *,
        processes: Processes | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        if len(pictures) < recipe.batch_size:
            raise DataError(f"{len(pictures)} pictures do not fill a batch of {recipe.batch_size}; lower --batch-size.")
        if len(labels) != len(pictures) or int(labels.max()) >= model.config.num_labels:
            raise DataError(
                f"{len(pictures)} pictures came with {len(labels)} labels up to {int(labels.max())}, for a model of "
                f"{model.config.num_labels} classes."
            )
        self.processes = processes or Processes(device)
        self.device, self.precision = self.processes.device, precision
        self.recipe, self.pictures, self.labels, self.measuring = recipe, pictures, labels, False
        torch.manual_seed(recipe.seed)
        self.model = model.to(self.device).train()
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), lr=recipe.peak_rate, fused=True)
        self.steps_per_epoch = len(pictures) // recipe.batch_size
        self.steps = max(1, round(recipe.epochs * self.steps_per_epoch))
        self.step = 0

    @property
    def pictures_per_step(self) -> int:
        return self.recipe.batch_size

    @property
    def stretch(self) -> Stretch:
        """The part of the run that this step belongs to."""
        done, reached = self.step / self.steps, 0.0
        for stretch in self.recipe.stretches:
            reached += stretch.share
            if done < reached - 1e-9:
                return stretch
        return self.recipe.stretches[-1]

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """A group for each depth, with and without weight decay."""
        layers = self.model.config.num_hidden_layers
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            parts = name.split(".")
            if parts[:2] == ["vit", "layers"]:
                above = layers - int(parts[2])
            else:
                above = layers + 1 if parts[:2] == ["vit", "embeddings"] else 0
            decays = parameter.ndim >= 2 and not name.endswith(("cls_token", "position_embeddings"))
            groups.setdefault((above, decays), []).append(parameter)
        return [
            {
                "params": parameters,
                "scale": self.recipe.layer_decay**above,
                "weight_decay": self.recipe.weight_decay if decays else 0.0,
            }
            for (above, decays), parameters in groups.items()
        ]

    def train_step(self) -> dict[str, float]:
        """One step on the next batch; gives the numbers that the log shows."""
        recipe = self.recipe
        epoch, place = divmod(self.step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        indices = torch.randperm(len(self.pictures), generator=generator)[place * recipe.batch_size :]
        indices = self.processes.share(indices[: recipe.batch_size])
        side = self.stretch.side or pair(self.model.config.image_size)[0]
        pixels, keep = self._draw(indices, epoch, side)
        loss, told = self._loss(pixels, keep, indices, epoch)
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        (loss / self.processes.count).backward()
        self.processes.combine_gradients([p.grad for p in self.model.parameters() if p.grad is not None], [])
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimizer.step()
        self.step += 1
        # early on the average must not remember the start
        momentum = min(recipe.average, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - momentum)
        return {"step": self.step, "loss": loss.item(), **told, "rate": rate, "size": side}

    def _draw(self, indices: Tensor, epoch: int, side: int) -> tuple[Tensor, Tensor | None]:
        """(views of ``side`` pixels, patches that they keep or None for all) of these pictures."""
        kind = augment.ViewRecipe(size=side, scale=self.recipe.scale, blur=0.0, grey=0.05)
        keys, pictures = indices.to(self.device), self.pictures[indices].to(self.device)
        pixels = augment.draw_view(pictures, keys, kind, self.recipe.seed, epoch, self._crop(epoch))
        return pixels, self._keep(keys, epoch, side) if self.stretch.mask_ratio else None

    def _crop(self, epoch: int) -> tuple[int, int] | None:
        """(seed, draw) of this epoch's crops; None: of their own."""
        return None

    def _encode(self, pixels: Tensor, keep: Tensor | None) -> Tensor:
        """CLS (B, D) of views, float32."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            out = self.model.vit(pixels, keep_indices=keep, interpolate_pos_encoding=True)
        return out.last_hidden_state[:, 0].float()

    def _loss(
        self, pixels: Tensor, keep: Tensor | None, indices: Tensor, epoch: int
    ) -> tuple[Tensor, dict[str, float]]:
        """(what the step makes smaller, what the log tells of it)."""
        recipe, labels = self.recipe, self.labels[indices].to(self.device)
        share = 1.0
        if recipe.mixup:
            share = float(np.random.default_rng((recipe.seed, self.step)).beta(recipe.mixup, recipe.mixup))
            pixels = share * pixels + (1 - share) * pixels.flip(0)
        logits = self.model.classifier(self._encode(pixels, keep))
        loss = share * F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
        if share < 1:
            loss = loss + (1 - share) * F.cross_entropy(logits, labels.flip(0), label_smoothing=recipe.smoothing)
        return loss, {"training_accuracy": (logits.argmax(1) == labels).float().mean().item()}

    def _rate(self) -> float:
        recipe = self.recipe
        warmup = round(recipe.warmup_epochs * self.steps_per_epoch)
        flat = max(0, round((1 - recipe.decay_share) * self.steps) - warmup)  # steps at the peak
        step = self.step if self.step < warmup else max(warmup, self.step - flat)
        return schedule.warmup_cosine(step, self.steps - flat, warmup, 0.0, recipe.peak_rate, recipe.end_rate)

    def _keep(self, keys: Tensor, epoch: int, size: int) -> Tensor:
        """(B, K) patches that stay of views of ``size`` pixels, keyed as the views are."""
        rows, columns = (size // patch for patch in pair(self.model.config.patch_size))
        scores = augment.keyed_uniform(self.recipe.seed + 1, epoch, keys, rows * columns)
        return masking.keep_lowest(scores, self.stretch.mask_ratio)

    def details(self) -> dict[str, float]:
        """Nothing beyond what a step tells."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["recipe"] != asdict(self.recipe):
            raise ConfigError("The checkpoint was made with other settings; resume with the same ones.")
        self.step = state["step"]
        for name in ("model", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])


@torch.no_grad()
def standardise(model: ViTMSNForImageClassification, pictures: Tensor, most: int = 5000) -> None:
    """Make every dimension of the CLS embedding zero on average with variance 1, over the first ``most`` pictures.

    The embeddings of two pictures by a pre-trained backbone are nearly parallel (a cosine above .9), so that the
    gradient of a new head is mostly what they have in common, and learning crawls. The final LayerNorm's own scale and
    shift take up the change, in place; what the network can express is the same.

    Args:
        pictures: (N, 3, height, width) uint8.
    """
    classifier, model.classifier = model.classifier, nn.Identity()
    embeddings = logits_of(model, pictures[:most]).double()
    model.classifier = classifier
    norm, mean, spread = model.vit.layernorm, embeddings.mean(0), embeddings.std(0).clamp_min(1e-6)
    norm.weight.copy_(norm.weight.double().cpu() / spread)
    norm.bias.copy_((norm.bias.double().cpu() - mean) / spread)


@torch.no_grad()
def logits_of(model: ViTMSNForImageClassification, pictures: Tensor, batch_size: int = 250) -> Tensor:
    """uint8 (N, 3, height, width) -> logits (N, classes) at the native size, in eval mode."""
    training = model.training
    model.eval()
    size = pair(model.config.image_size)[0]
    device = model.vit.embeddings.cls_token.device
    out = [
        model(augment.resize(batch.to(device), size), interpolate_pos_encoding=True).logits.float().cpu()
        for batch in pictures.split(batch_size)
    ]
    model.train(training)
    return torch.cat(out)


def calibrate(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that makes softmax(logits / T) fit held-out ``labels`` best (least cross-entropy).

    Args:
        logits: (N, classes) of pictures not trained on.  labels: (N,) int64.
    """
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    logits = logits.double()
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    optimiser.step(loss)
    return float(log_temperature.detach().exp())


def fold_temperature(classifier: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """A linear head whose plain softmax is calibrated: weight and bias divided by the temperature."""
    return {name: tensor / temperature for name, tensor in classifier.items()}


def sure_threshold(probabilities: Tensor, labels: Tensor, precision: float = 2 / 3, least: int = 50) -> float:
    """The lowest top probability from which on answers are right at least ``precision`` of the time.

    Args:
        probabilities: (N, classes), calibrated, of pictures neither trained nor calibrated on.
        least: answers that a threshold must rest on.

    Raises:
        DataError: no threshold reaches the precision on ``least`` answers.
    """
    best, guess = probabilities.max(1)
    order = best.argsort(descending=True)
    right = (guess == labels)[order].double().cumsum(0) / torch.arange(1, len(labels) + 1)
    good = (right >= precision).nonzero().flatten()
    good = good[good >= least - 1]
    if not len(good):
        raise DataError(
            f"No {least} answers are right {precision:.0%} of the time; the classifier cannot be sure of any."
        )
    return float(best[order[good[-1]]])
