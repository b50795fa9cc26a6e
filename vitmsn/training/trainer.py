"""Pre-train a ViT-MSN: the networks, the optimizer and the step (arXiv 2204.07141, section 3).

A step: the target network (an average of past students) assigns the whole picture to prototypes; the student must
assign a random view with patches dropped, and small focal crops, to the same prototypes. Only the student is trained;
the target follows it by exponential moving average. All chance is keyed by the picture's index, so that a run is the
same after a resume and with any number of processes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitmsn import checkpoint, masking
from vitmsn.config import pair
from vitmsn.errors import ConfigError, DataError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead, log_assignment
from vitmsn.training import augment, loop, loss, schedule
from vitmsn.training.distributed import Processes
from vitmsn.training.picture_store import Pictures
from vitmsn.training.recipe import Recipe, Stage

PARTS = ("views", "target", "anchors", "loss", "backward", "update")  # of a step, whose cost is measured


class Trainer:
    """The networks, the optimizer and the step counter of one run.

    Args:
        recipe: what to do.
        pictures: (N, 3, height, width) uint8 on any device, or what gives such batches by their indices.
        device: where to train; views are made there too.
        init: start the student and the target from this backbone's weights (continued pre-training).
        processes: that share each batch; alone when ``None``.
        precision: ``torch.bfloat16`` runs the backbone in it; the head and the loss are always float32.
        compiled: let ``torch.compile`` write the backbone's kernels: minutes at the start of each resolution.
    """

    def __init__(
        self,
        recipe: Recipe,
        pictures: Pictures,
        device: str | torch.device = "cpu",
        init: checkpoint.Checkpoint | None = None,
        *,
        processes: Processes | None = None,
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        if len(pictures) < recipe.batch_size:
            raise DataError(f"{len(pictures)} pictures do not fill a batch of {recipe.batch_size}; lower --batch-size.")
        self.processes = processes or Processes(device)
        if recipe.batch_size % self.processes.count:
            raise ConfigError(
                f"A batch of {recipe.batch_size} cannot be shared by {self.processes.count} processes; use a multiple."
            )
        self.recipe, self.pictures, self.device = recipe, pictures, self.processes.device
        self.precision = precision
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
        if recipe.freeze_backbone:
            if init is None:
                raise ConfigError("freeze_backbone keeps a backbone that was trained before; give it with --init.")
            self.model.requires_grad_(False)
        self.frozen = init if recipe.freeze_backbone else None
        self.model.to(self.device).train()
        self.head.to(self.device).train()
        self.target_model = copy.deepcopy(self.model).requires_grad_(False)
        self.target_head = copy.deepcopy(self.head).requires_grad_(False)
        self.target_head.train(not recipe.running_target)
        self._encoders = {
            network: torch.compile(network) if compiled else network for network in (self.model, self.target_model)
        }
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(), lr=recipe.start_rate, betas=(0.9, 0.999), fused=True
        )
        self.steps_per_epoch = len(pictures) // recipe.batch_size
        self.steps = max(1, round(recipe.epochs * self.steps_per_epoch))
        self.step = 0
        self.measuring = False  # what the parts of a step cost on an accelerator, which must then wait for each
        self.costs = dict.fromkeys(PARTS, 0.0)  # of the last step, milliseconds
        self._order: tuple[int, Tensor] | None = None
        self._target_cls = torch.empty(0)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices decay; biases, norms, tokens and (unless the recipe says so) prototypes do not."""
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        kept = ("cls_token", "position_embeddings", *(() if self.recipe.decay_prototypes else ("prototypes",)))
        for name, parameter in [*self.model.named_parameters(), *self.head.named_parameters()]:
            if not parameter.requires_grad:
                continue
            matrix = parameter.ndim >= 2 and not name.endswith(kept)
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

    def batch_indices(self, step: int | None = None) -> Tensor:
        """(batch,) int64: the pictures of this step (or another); every epoch is a permutation of its own."""
        epoch, place = divmod(self.step if step is None else step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
            self._order = epoch, torch.randperm(len(self.pictures), generator=generator)
        return self._order[1][place * self.recipe.batch_size :][: self.recipe.batch_size]

    def targets(self, view: Tensor) -> Tensor:
        """This process's target views (b, 3, s, s) -> assignments of the whole batch (B, P), sharpened and balanced."""
        recipe = self.recipe
        with torch.no_grad():
            cls = self._encode(self.target_model, view)
            self._target_cls = self.processes.gather(cls.unsqueeze(0))[0]
            assigned = log_assignment(self.target_head(self._target_cls), self.head.prototypes, recipe.temperature)
            sharp = loss.sharpen(assigned, recipe.sharpening)
            return loss.sinkhorn(sharp, recipe.sinkhorn_iterations) if recipe.sinkhorn_iterations else sharp

    def train_step(self) -> dict[str, float]:
        """One step on the next batch; gives the numbers that the log shows.

        Raises:
            DivergedError: the loss or its gradient is not finite; the weights are those of the step before.
        """
        recipe = self.recipe
        self.costs = dict.fromkeys(PARTS, 0.0)
        indices = self.batch_indices()
        anchor_views, target_view = self._draw(self.processes.share(indices))
        with self._part("target"):
            targets = self.targets(target_view)
        with self._part("anchors"):
            # one batched pass for each kind of view
            cls = torch.cat(
                [
                    self._encode(self.model, view, keep).unflatten(0, (-1, len(target_view)))
                    for view, keep in anchor_views
                ]
            )
        with self._part("loss"):
            cls = self.processes.gather(cls)  # (views, pictures, D)
            projected = self.head(cls.flatten(0, 1))  # one BatchNorm over all anchors
            assigned = log_assignment(projected, self.head.prototypes, recipe.temperature)
            parts = loss.msn_loss(
                assigned.unflatten(0, cls.shape[:2]), targets, recipe.me_max_weight, recipe.entropy_weight
            )
        with self._part("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            parts.total.backward()
            backbone, head = list(self.model.parameters()), list(self.head.parameters())
            self.processes.combine_gradients(_gradients(backbone), _gradients(head))
        with self._part("update"):
            self._set_schedules()
            clipped = head if recipe.clip_prototypes else list(self.head.projector.parameters())
            norm = nn.utils.clip_grad_norm_([*backbone, *clipped], recipe.clip)
            loop.check_finite(parts.total, norm, self.step, indices)
            self.optimizer.step()
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
            "rate": self.optimizer.param_groups[0]["lr"],
        }

    def _draw(self, indices: Tensor) -> tuple[list[tuple[Tensor, Tensor | None]], Tensor]:
        """(anchors' views with the patches to keep, target's view) of these pictures, those of one size together."""
        recipe, stage = self.recipe, self.stage
        with self._part("views"):
            where = indices.to(self.pictures.device) if isinstance(self.pictures, Tensor) else indices
            pictures, keys = self.pictures[where].to(self.device), indices.to(self.device)
            if prefetch := getattr(self.pictures, "prefetch", None):
                prefetch(self.processes.share(self.batch_indices(self.step + 1)))
            first = (self.step // self.steps_per_epoch) * (1 + recipe.random_views + recipe.focal_views)

            def draw(kind: augment.ViewRecipe, size: int, number: int) -> Tensor:
                return augment.draw_view(pictures, keys, replace(kind, size=size), recipe.seed, first + number)

            target = draw(recipe.target_view, stage.target, 0)
            anchors: list[tuple[Tensor, Tensor | None]] = []
            numbers = range(1, 1 + recipe.random_views)
            if recipe.random_views:
                random = torch.cat([draw(recipe.target_view, stage.target, number) for number in numbers])
                keep = [self._keep(keys, first + number) for number in numbers] if recipe.mask_ratio else None
                anchors.append((random, torch.cat(keep) if keep else None))
            if recipe.focal_views:
                numbers = range(1 + recipe.random_views, 1 + recipe.random_views + recipe.focal_views)
                anchors.append((torch.cat([draw(recipe.focal_view, stage.focal, number) for number in numbers]), None))
        return anchors, target

    def _keep(self, keys: Tensor, draw: int) -> Tensor:
        """(b, K) patches that a random view keeps, keyed as the views are; focal views are never masked."""
        rows, columns = (self.stage.target // side for side in pair(self.recipe.model.patch_size))
        seed = self.recipe.seed + 1
        if self.recipe.shared_mask:
            scores = augment.keyed_uniform(seed, self.step, torch.full_like(keys[:1], -draw), rows * columns)
            scores = scores.expand(len(keys), -1)
        else:
            scores = augment.keyed_uniform(seed, draw, keys, rows * columns)
        return masking.keep_lowest(scores, self.recipe.mask_ratio)

    def _encode(self, network: ViTMSNModel, view: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, 3, s, s) -> CLS (B, D) float32."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            out = self._encoders[network](view, keep_indices=keep, interpolate_pos_encoding=True)
        return out.last_hidden_state[:, 0].float()

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Add the time of a part of the step to its cost."""
        begin = time.perf_counter()
        yield
        if self.measuring and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.costs[name] += 1000 * (time.perf_counter() - begin)

    def details(self) -> dict[str, float]:
        """More of the last step: its feature rank, and what its parts cost in milliseconds."""
        return {"feature_rank": self.feature_rank(), **{f"{part}_ms": cost for part, cost in self.costs.items()}}

    def feature_rank(self) -> float:
        """Effective rank of the target's CLS embeddings of the last batch, 1 to D: exp of the entropy of their
        singular values' shares (RankMe, arXiv 2210.02885). One or two mean collapse."""
        values = torch.linalg.svdvals(self._target_cls.double().cpu())
        share = values / values.sum()
        return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))

    def _set_schedules(self) -> None:
        recipe = self.recipe
        steps = round(self.steps * recipe.schedule_stretch)
        warmup = round(recipe.warmup_epochs * self.steps_per_epoch)
        rate = schedule.warmup_cosine(self.step, steps, warmup, recipe.start_rate, recipe.peak_rate, recipe.end_rate)
        decay = schedule.cosine(self.step, steps, *recipe.weight_decay)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            if group["decays"]:
                group["weight_decay"] = decay

    @torch.no_grad()
    def _follow(self) -> None:
        """The target's weights move towards the student's; BatchNorm's running numbers only where they are used."""
        steps = round(self.steps * self.recipe.schedule_stretch)
        momentum = schedule.linear(self.step, steps, *self.recipe.ema)
        pairs = ((self.target_model, self.model), (self.target_head, self.head))[int(self.recipe.freeze_backbone) :]
        for target, student in pairs:
            torch._foreach_lerp_(list(target.parameters()), list(student.parameters()), 1 - momentum)
        if self.recipe.running_target:
            for ours, new in zip(self.target_head.buffers(), self.head.buffers(), strict=True):
                ours.copy_(torch.lerp(ours.double(), new.double(), 1 - momentum))

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "target_model": self.target_model.state_dict(),
            "target_head": self.target_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
        for name in ("model", "head", "target_model", "target_head", "optimizer"):
            getattr(self, name).load_state_dict(state[name])


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Gradients of parameters that were used: an unused mask token or bias has none."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


@torch.no_grad()
def embed(model: ViTMSNModel, pictures: Pictures, indices: Tensor, batch_size: int = 250) -> Tensor:
    """CLS embeddings (n, D) float32, on the CPU, of the pictures at ``indices`` (n,), whole, at the native size."""
    training = model.training
    model.eval()
    size, device = pair(model.config.image_size)[0], model.embeddings.cls_token.device
    parts = [
        model(augment.resize(pictures[part].to(device), size), interpolate_pos_encoding=True).last_hidden_state[:, 0]
        for part in indices.split(batch_size)
    ]
    model.train(training)
    return torch.cat(parts).float().cpu()


def feature_mean(model: ViTMSNModel, pictures: Pictures, most: int = 10_000) -> Tensor:
    """Mean CLS embedding (D,) of the first ``most`` pictures at the native size."""
    return embed(model, pictures, torch.arange(min(most, len(pictures)))).double().mean(0).float()


def export(trainer: Trainer, folder: Path, card: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """Write the target backbone, its projector and the prototypes as a model folder that this package loads.

    The target is the better model (an average of students), and its projector is the one that the prototypes saw. A
    frozen backbone keeps its classifier and what its card says of it.
    """
    head = trainer.target_head.state_dict() | {"prototypes": trainer.head.prototypes.detach()}
    height, width = pair(trainer.recipe.model.image_size)
    kept = trainer.frozen
    mean = None if kept is None else kept.feature_mean
    processor = None if kept is None else kept.processor
    checkpoint.save(
        folder,
        trainer.recipe.model.with_labels(num_labels=2) if kept is None else kept.config,
        trainer.target_model.state_dict(),
        classifier=None if kept is None else kept.classifier,
        msn_head=head,
        feature_mean=feature_mean(trainer.target_model, trainer.pictures) if mean is None else mean,
        processor=processor or ViTMSNImageProcessor(size={"height": height, "width": width}).to_dict(),
        card=card if kept is None else {**card, **kept.card},
        dtype=dtype,
        temperature=trainer.recipe.temperature,
        sharpening=trainer.recipe.sharpening,
    )
