"""Fine-tune a whole backbone on labeled classes, then calibrate its probabilities (``calibration``).

    finetune.run("FOLDERS", "runs/classifier", model="runs/mine/model")

Fine-tuning follows common practice for ViTs: the rate falls with depth (layer-wise decay), labels can be smoothed and
pictures mixed (mixup), and what is kept is a running average of the weights. Most of the run drops patches, as MSN's
own masking does (on classifiers: PatchDropout, Liu et al. 2023): pictures keep their scale, unlike in small views, at
a fraction of the cost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn import checkpoint, masking
from vitmsn.config import VARIANTS, pair
from vitmsn.data import DataSet, open_data, to_uint8
from vitmsn.devices import choose_device
from vitmsn.errors import ConfigError, DataError, InputError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNForImageClassification, ViTMSNModel
from vitmsn.training import augment, calibration, card, loop, optimizer, schedule
from vitmsn.training.calibration import Calibration
from vitmsn.training.distributed import Processes
from vitmsn.training.result import TrainingResult
from vitmsn.training.trainer import feature_mean


@dataclass(frozen=True)
class Stretch:
    """A part of the run: how large the views are, and how many of their patches are dropped."""

    share: float  # of all steps
    side: int | None = None  # of the views, pixels; None: the model's own
    mask_ratio: float | tuple[float, ...] = 0.0  # share of the patches dropped; of several each batch takes the next

    @property
    def mask_ratios(self) -> tuple[float, ...]:
        return self.mask_ratio if isinstance(self.mask_ratio, tuple) else (self.mask_ratio,)


@dataclass(frozen=True)
class FinetuneRecipe:
    """All settings of a fine-tuning run, beside the backbone and the pictures."""

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
    muon: bool = False  # for the matrices of the layers, instead of AdamW
    linear: bool = False  # the rate falls along a line, instead of half a cosine
    seed: int = 0

    def __post_init__(self) -> None:
        total = sum(stretch.share for stretch in self.stretches)
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"The shares of the stretches sum to {total:g}; they must sum to 1.")
        for stretch in self.stretches:
            for ratio in stretch.mask_ratios:
                if not 0 <= ratio < 1:
                    raise ConfigError(f"mask_ratio is {ratio:g}; it must be at least 0 and below 1.")


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
        groups, rate = self._parameter_groups(), recipe.peak_rate
        self.optimizer = (
            optimizer.muon(groups, self.model.vit.layers, rate) if recipe.muon else optimizer.adamw(groups, rate)
        )
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
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        loop.check_finite(loss, norm, self.step, indices)
        self.optimizer.step()
        self.step += 1
        # early on the average must not remember the start
        momentum = min(recipe.average, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - momentum)
        return {"step": self.step, "loss": loss.item(), **told, "rate": rate, "size": side}

    def _draw(self, indices: Tensor, epoch: int, side: int) -> tuple[Tensor, Tensor | None]:
        """(views of ``side`` pixels, patches that they keep or None for all) of these pictures."""
        kind = augment.ViewRecipe(size=side, scale=self.recipe.scale, blur=0.0, gray=0.05)
        keys, pictures = indices.to(self.device), self.pictures[indices].to(self.device)
        pixels = augment.draw_view(pictures, keys, kind, self.recipe.seed, epoch, self._crop(epoch))
        ratios = self.stretch.mask_ratios
        ratio = ratios[self.step % len(ratios)]
        return pixels, self._keep(keys, epoch, side, ratio) if ratio else None

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
        """(the loss to minimize, its numbers for the log)."""
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
        shape = schedule.warmup_linear if recipe.linear else schedule.warmup_cosine
        return shape(step, self.steps - flat, warmup, 0.0, recipe.peak_rate, recipe.end_rate)

    def _keep(self, keys: Tensor, epoch: int, size: int, ratio: float) -> Tensor:
        """(B, K) patches that stay of views of ``size`` pixels where ``ratio`` is dropped, keyed as the views are."""
        rows, columns = (size // patch for patch in pair(self.model.config.patch_size))
        scores = augment.keyed_uniform(self.recipe.seed + 1, epoch, keys, rows * columns)
        return masking.keep_lowest(scores, ratio)

    def details(self) -> dict[str, float]:
        """Nothing beyond the numbers of a step."""
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
def standardize(model: ViTMSNForImageClassification, pictures: Tensor, most: int = 5000) -> None:
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


# --- what the command does -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FinetuneResult(TrainingResult):
    """A fine-tuned model, finished or as far as it got. ``card`` is that of the model folder, ``model``."""

    calibration: Calibration


def run(
    data: str | Path | DataSet,
    out: str | Path,
    *,
    model: str | Path | None = None,
    recipe: FinetuneRecipe | None = None,
    kinds: Mapping[str, Sequence[str]] | None = None,
    split: str | None = None,
    held_out: float = 0.02,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
    limit_minutes: float | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], object] | None = None,
) -> FinetuneResult:
    """Fine-tune a classifier on labelled pictures, and write it to ``out / "model"``; the same call again goes on.

    Args:
        data: a data set, or what :func:`vitmsn.data.open_data` opens; its classes become the model's.
        model: the backbone to start from, a folder, a file or a hub id; None: the embedded one; "random": new weights.
        kinds: wider names for classes, for the model's card: {"pet": ["cat", "dog"]}.
        held_out: share of each class that is not trained on, to measure and calibrate with.
        dtype: of the weights in the file.
        limit_minutes: stop after so long; what is written is what was reached.
        progress: called with (what, done, total) while pictures are read.

    Raises:
        DataError: fewer than two classes, kinds of other classes, or no picture that can be decoded.
        InputError: several processes.
    """
    if Processes.from_environment().count > 1:
        raise InputError("finetune runs in one process; start it without accelerate launch.")
    recipe, out, source = recipe or FinetuneRecipe(), Path(out), model or checkpoint.EMBEDDED
    dataset = data if isinstance(data, DataSet) else open_data(data, split)
    card.check_classes(dataset)
    card.check_kinds(kinds or {}, dataset.classes)
    network = starting_model(source, dict(enumerate(dataset.classes)), recipe.seed)
    side = max(pair(network.config.image_size))
    (pictures, labels), (queries, wanted) = (
        to_uint8(part, side, None if progress is None else partial(progress, what))
        for part, what in zip(dataset.split(held_out), ("reading pictures", "and those held out"), strict=True)
    )
    known, asked = labels >= 0, wanted >= 0
    standardize(network, pictures[known])
    tuner = Finetuner(recipe, network, pictures[known], labels[known], choose_device(device))
    finished = loop.run(tuner, out, limit_minutes=limit_minutes, say=say)

    measured = calibration.measure(logits_of(tuner.average, queries[asked]), wanted[asked])
    about: dict[str, Any] = {
        "trained_on": card.data_name(dataset),
        "fine_tuned_from": str(source),
        "epochs": round(tuner.step / tuner.steps_per_epoch, 3),
        "held_out": measured.held_out,
        "not_sure_below": measured.not_sure_below,
    }
    if kinds:
        about["kinds"] = {kind: list(labels) for kind, labels in kinds.items()}
    save(tuner.average, out / "model", feature_mean(tuner.average.vit, pictures), measured.temperature, about, dtype)
    return FinetuneResult(out, out / "model", finished, tuner.step, tuner.steps, about, measured)


def starting_model(source: str | Path, id2label: dict[int, str], seed: int = 0) -> ViTMSNForImageClassification:
    """The model to start from: the backbone of ``source`` ("random": new weights) with a new head.

    A linear head that was fitted on frozen features has weights far too large to continue from: the loss diverges.
    """
    torch.manual_seed(seed)
    if source == "random":
        return ViTMSNForImageClassification(VARIANTS["tiny-8-64"].with_labels(id2label=id2label))
    loaded = checkpoint.load(source)
    config = replace(loaded.config.with_labels(id2label=id2label), problem_type=None)  # one class each, whatever it was
    return ViTMSNForImageClassification(
        config, backbone=ViTMSNModel.from_checkpoint(replace(loaded, config=config))
    ).eval()


def save(
    model: ViTMSNForImageClassification,
    folder: Path,
    mean: Tensor,
    temperature: float,
    about: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a classifier whose probabilities are calibrated as a model folder; ``mean``: of its embeddings, (D,)."""
    height, width = pair(model.config.image_size)
    checkpoint.save(
        folder,
        model.config,
        model.vit.state_dict(),
        classifier=calibration.fold_temperature(model.classifier.state_dict(), temperature),
        feature_mean=mean,
        processor=ViTMSNImageProcessor({"height": height, "width": width}).to_dict(),
        card=about,
        dtype=dtype,
    )
