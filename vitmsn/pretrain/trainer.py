"""Pre-train a ViT-MSN: one process, any device, resumable to the same weights (arXiv 2204.07141, section 3).

A step: the target network (an average of past students) assigns the whole picture to prototypes; the student must
assign a random view with patches dropped, and small focal crops, to the same prototypes. Only the student is trained;
the target follows it by exponential moving average.
"""

from __future__ import annotations

import copy
import csv
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vitmsn import checkpoint, masking
from vitmsn.config import VARIANTS, ViTMSNConfig, pair
from vitmsn.errors import ConfigError, DataError, ViTMSNError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import MSNHead, ViTMSNModel, log_assignment
from vitmsn.pretrain import loss, schedule, views


@dataclass(frozen=True)
class Stage:
    """A stretch of the run at one resolution. Positions interpolate, so small views first see more pictures an hour."""

    share: float  # of all steps
    target: int  # side of the target's and the random anchors' views, pixels
    focal: int  # side of the focal views, pixels


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run. The defaults are `tiny-8-64`, the model that this project ships.

    Command:  python -m vitmsn pretrain tiny-8-64 --data DIR --out RUN
    Cost and result: in the model's card, assets/vit-msn-tiny-8-64/README.md.
    """

    model: ViTMSNConfig = field(default_factory=lambda: VARIANTS["tiny-8-64"])
    stages: tuple[Stage, ...] = (Stage(0.8, 32, 16), Stage(0.15, 48, 24), Stage(0.05, 64, 32))

    # views (section 4: one random and ten focal at 224 px; fewer focal ones pay at 64 px)
    random_views: int = 1
    focal_views: int = 4
    mask_ratio: float = 0.3
    target_scale: tuple[float, float] = (0.3, 1.0)
    focal_scale: tuple[float, float] = (0.05, 0.3)

    # head
    prototypes: int = 512
    hidden: int = 512
    output: int = 128
    temperature: float = 0.1
    sharpening: float = 0.25

    # loss
    me_max_weight: float = 1.0
    entropy_weight: float = 0.0
    sinkhorn_iterations: int = 3  # 0: none

    # optimisation
    epochs: float = 8.0
    batch_size: int = 256
    warmup_epochs: float = 0.3
    start_rate: float = 2e-4
    peak_rate: float = 1.5e-3
    end_rate: float = 1.5e-4
    weight_decay: tuple[float, float] = (0.04, 0.1)
    ema: tuple[float, float] = (0.99, 0.99)
    clip: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            raise ConfigError(
                f"The shares of the stages sum to {sum(s.share for s in self.stages):g}; they must sum to 1."
            )
        patch = max(pair(self.model.patch_size))
        for stage in self.stages:
            if stage.target % patch or stage.focal % patch:
                raise ConfigError(
                    f"Views of {stage.target} and {stage.focal} pixels are not multiples of the patch, {patch}."
                )

    @property
    def target_view(self) -> views.ViewRecipe:
        return views.ViewRecipe(size=0, scale=self.target_scale, blur=0.5)

    @property
    def focal_view(self) -> views.ViewRecipe:
        return views.ViewRecipe(size=0, scale=self.focal_scale, blur=0.5)


class DivergedError(ViTMSNError):
    """The loss is no longer a number."""


class Trainer:
    """The networks, the optimiser and the step counter of one run.

    Args:
        recipe: what to do.
        pictures: (N, 3, height, width) uint8, all of them, on any device.
        device: where to train; views are made there too.
        init: start the student and the target from this backbone's weights (continued pre-training).
    """

    def __init__(
        self,
        recipe: Recipe,
        pictures: Tensor,
        device: str | torch.device = "cpu",
        init: checkpoint.Checkpoint | None = None,
    ) -> None:
        if len(pictures) < recipe.batch_size:
            raise DataError(f"{len(pictures)} pictures do not fill a batch of {recipe.batch_size}; lower --batch-size.")
        self.recipe, self.pictures, self.device = recipe, pictures, torch.device(device)
        torch.manual_seed(recipe.seed)
        self.model = ViTMSNModel(recipe.model)
        self.head = MSNHead(
            recipe.model.hidden_size,
            recipe.hidden,
            recipe.output,
            recipe.prototypes,
            recipe.temperature,
            recipe.sharpening,
        )
        if init is not None:
            self.model.load_state_dict(init.tensors)
            if init.msn_head:
                self.head.load_state_dict(init.msn_head)
        self.model.to(self.device).train()
        self.head.to(self.device).train()
        self.target_model = copy.deepcopy(self.model).requires_grad_(False)
        self.target_head = copy.deepcopy(self.head).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self._parameter_groups(), lr=recipe.start_rate, betas=(0.9, 0.999), fused=True
        )
        self.steps_per_epoch = len(pictures) // recipe.batch_size
        self.steps = max(1, round(recipe.epochs * self.steps_per_epoch))
        self.step = 0
        self._order: tuple[int, Tensor] | None = None

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices decay; biases, norms, tokens and prototypes do not."""
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in [*self.model.named_parameters(), *self.head.named_parameters()]:
            matrix = parameter.ndim >= 2 and not name.endswith(("cls_token", "position_embeddings", "prototypes"))
            (decay if matrix else plain).append(parameter)
        return [{"params": decay, "decays": True}, {"params": plain, "decays": False, "weight_decay": 0.0}]

    @property
    def pictures_per_step(self) -> int:
        return self.recipe.batch_size

    @property
    def stage(self) -> Stage:
        done, reached = self.step / self.steps, 0.0
        for stage in self.recipe.stages:
            reached += stage.share
            if done < reached - 1e-9:
                return stage
        return self.recipe.stages[-1]

    def batch_indices(self) -> Tensor:
        """(batch,) int64: the pictures of this step; every epoch is a permutation of its own."""
        epoch, place = divmod(self.step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
            self._order = epoch, torch.randperm(len(self.pictures), generator=generator)
        return self._order[1][place * self.recipe.batch_size :][: self.recipe.batch_size]

    def targets(self, view: Tensor) -> Tensor:
        """Target views (B, 3, s, s) -> sharpened, balanced assignments (B, P), no gradient."""
        recipe = self.recipe
        with torch.no_grad():
            cls = self.target_model(view, interpolate_pos_encoding=True).last_hidden_state[:, 0]
            assigned = log_assignment(self.target_head(cls), self.head.prototypes, recipe.temperature)
            sharp = loss.sharpen(assigned, recipe.sharpening)
            return loss.sinkhorn(sharp, recipe.sinkhorn_iterations) if recipe.sinkhorn_iterations else sharp

    def train_step(self) -> dict[str, float]:
        """One step on the next batch; gives the numbers that the log shows.

        Raises:
            DivergedError: the loss is not finite; the weights are those of the step before.
        """
        recipe, stage = self.recipe, self.stage
        indices = self.batch_indices()
        pictures = self.pictures[indices.to(self.pictures.device)].to(self.device)
        keys = indices.to(self.device)
        first_draw = (self.step // self.steps_per_epoch) * (2 + recipe.random_views + recipe.focal_views)

        def view(kind: views.ViewRecipe, size: int, number: int) -> Tensor:
            return views.draw_view(pictures, keys, replace(kind, size=size), recipe.seed, first_draw + number)

        targets = self.targets(view(recipe.target_view, stage.target, 0))
        patch = pair(recipe.model.patch_size)
        patches = (stage.target // patch[0]) * (stage.target // patch[1])
        anchors = []
        for number in range(recipe.random_views):
            # a mask of its own for each picture, keyed as the views are
            scores = views.keyed_uniform(recipe.seed + 1, first_draw + number, keys, patches)
            keep = masking.keep_lowest(scores, recipe.mask_ratio) if recipe.mask_ratio else None
            anchors.append(self._cls(view(recipe.target_view, stage.target, 1 + number), keep))
        if recipe.focal_views:
            first = 1 + recipe.random_views
            focal = [view(recipe.focal_view, stage.focal, first + n) for n in range(recipe.focal_views)]
            anchors.extend(self._cls(torch.cat(focal), None).chunk(recipe.focal_views))
        projected = self.head(torch.cat(anchors))  # one BatchNorm over all anchors
        assigned = log_assignment(projected, self.head.prototypes, recipe.temperature)
        parts = loss.msn_loss(
            assigned.unflatten(0, (len(anchors), len(indices))), targets, recipe.me_max_weight, recipe.entropy_weight
        )
        if not torch.isfinite(parts.total):
            raise DivergedError(
                f"The loss is {parts.total.item()} at step {self.step} (pictures {indices[:4].tolist()}...); resume "
                "from the last checkpoint with a lower --rate."
            )
        self._set_schedules()
        self.optimiser.zero_grad(set_to_none=True)
        parts.total.backward()
        norm = nn.utils.clip_grad_norm_([*self.model.parameters(), *self.head.projector.parameters()], recipe.clip)
        self.optimiser.step()
        self._follow()
        self.step += 1
        return {
            "step": self.step,
            "loss": parts.total.item(),
            "cross_entropy": parts.cross_entropy.item(),
            "mean_entropy": parts.mean_entropy.item(),
            "anchor_entropy": parts.anchor_entropy.item(),
            "prototypes_in_use": len(targets.argmax(1).unique()),
            "gradient_norm": float(norm),
            "rate": self.optimiser.param_groups[0]["lr"],
        }

    def _cls(self, view: Tensor, keep: Tensor | None) -> Tensor:
        return self.model(view, keep_indices=keep, interpolate_pos_encoding=True).last_hidden_state[:, 0]

    def _set_schedules(self) -> None:
        recipe = self.recipe
        warmup = round(recipe.warmup_epochs * self.steps_per_epoch)
        rate = schedule.warmup_cosine(
            self.step, self.steps, warmup, recipe.start_rate, recipe.peak_rate, recipe.end_rate
        )
        decay = schedule.cosine(self.step, self.steps, *recipe.weight_decay)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
            if group["decays"]:
                group["weight_decay"] = decay

    @torch.no_grad()
    def _follow(self) -> None:
        """The target's parameters move towards the student's; BatchNorm's running numbers stay its own."""
        momentum = schedule.linear(self.step, self.steps, *self.recipe.ema)
        pairs = ((self.target_model, self.model), (self.target_head, self.head))
        for target, student in pairs:
            for ours, new in zip(target.parameters(), student.parameters(), strict=True):
                ours.lerp_(new, 1 - momentum)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "target_model": self.target_model.state_dict(),
            "target_head": self.target_head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            ConfigError: the state belongs to another recipe; the differences are named.
        """
        ours = asdict(self.recipe)
        other = [name for name in ours if ours[name] != state["recipe"].get(name)]
        if other:
            raise ConfigError(
                f"The checkpoint was made with another {', '.join(other)}; resume with the same settings."
            )
        self.step = state["step"]
        for name in ("model", "head", "target_model", "target_head", "optimiser"):
            getattr(self, name).load_state_dict(state[name])


@torch.no_grad()
def feature_mean(model: ViTMSNModel, pictures: Tensor, most: int = 10_000, batch_size: int = 250) -> Tensor:
    """Mean CLS embedding (D,) of the first ``most`` of uint8 ``pictures`` (N, 3, height, width) at the native size."""
    model.eval()
    size = pair(model.config.image_size)[0]
    device = model.embeddings.cls_token.device
    total = torch.zeros(model.config.hidden_size, dtype=torch.float64)
    for batch in pictures[:most].split(batch_size):
        view = views.resize(batch.to(device), size)
        total += model(view, interpolate_pos_encoding=True).last_hidden_state[:, 0].double().sum(0).cpu()
    return (total / min(most, len(pictures))).float()


def export(trainer: Trainer, folder: Path, card: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """Write the target backbone, its projector and the prototypes as a model folder that this package loads.

    The target is the better model (an average of students), and its projector is the one that the prototypes saw.
    """
    head = trainer.target_head.state_dict() | {"prototypes": trainer.head.prototypes.detach()}
    size = pair(trainer.recipe.model.image_size)
    checkpoint.save(
        folder,
        trainer.recipe.model,
        trainer.target_model.state_dict(),
        msn_head=head,
        feature_mean=feature_mean(trainer.target_model, trainer.pictures),
        processor=ViTMSNImageProcessor(size={"height": size[0], "width": size[1]}).to_dict(),
        card=card,
        dtype=dtype,
        temperature=trainer.recipe.temperature,
        sharpening=trainer.recipe.sharpening,
    )


class Run(Protocol):
    """What the loop needs of a trainer; :class:`Trainer` and ``finetune.Finetuner`` are such."""

    step: int
    steps: int
    steps_per_epoch: int
    device: torch.device

    @property
    def pictures_per_step(self) -> int: ...
    def train_step(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def run(
    trainer: Run,
    folder: Path,
    *,
    limit_minutes: float | None = None,
    log_every: int = 50,
    save_every: int = 200,
    monitor: Callable[[], dict[str, float]] | None = None,
    monitor_every: int = 1000,
    say: Callable[[str], None] = print,
) -> bool:
    """Train to the recipe's end, or until ``limit_minutes`` have passed; go on from ``folder`` if it holds a state.

    Writes ``state.pt`` (to resume) and ``log.csv`` into ``folder``.

    Args:
        monitor: measures the model every ``monitor_every`` steps and at the end; its numbers join the log.

    Returns:
        Whether the recipe is finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state, log = folder / "state.pt", folder / "log.csv"
    if state.exists():
        trainer.load_state_dict(torch.load(state, map_location=trainer.device, weights_only=True))
        say(f"resuming at step {trainer.step} of {trainer.steps}")
    started = mark = time.monotonic()
    marked_step = trainer.step
    while trainer.step < trainer.steps:
        row: dict[str, float] = trainer.train_step()
        finished = trainer.step == trainer.steps
        now = time.monotonic()
        out_of_time = limit_minutes is not None and now - started > 60 * limit_minutes
        measure = monitor is not None and (trainer.step % monitor_every == 0 or finished)
        if measure or finished or out_of_time or trainer.step % log_every == 0:
            seen = (trainer.step - marked_step) * trainer.pictures_per_step
            row["epoch"] = trainer.step / trainer.steps_per_epoch
            row["minutes"] = (now - started) / 60
            row["pictures_per_second"] = seen / max(now - mark, 1e-9)
            measured = monitor() if measure and monitor is not None else {}
            _log(log, row, measured)
            numbers = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in (row | measured).items())
            say(f"of {trainer.steps} steps: {numbers}")
            mark, marked_step = time.monotonic(), trainer.step
        if finished or out_of_time or trainer.step % save_every == 0:
            save_state(trainer.state_dict(), state)
        if out_of_time:
            break
    return trainer.step >= trainer.steps


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a state in one piece: a kill leaves the old file or the new one, never half of one."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def _log(path: Path, row: dict[str, float], measured: dict[str, float]) -> None:
    """One line of the log; the column for measurements is there from the start, empty where nothing was measured."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow([*row, "measured"])
        words = " ".join(f"{name}={value:.4f}" for name, value in measured.items())
        writer.writerow([*(f"{value:.6g}" for value in row.values()), words])
