"""Pre-train a backbone on pictures without labels: what the command does, from data to model folder.

    pretrain.run(PRESETS["tiny-8-64"], "PICTURES", "runs/mine")

The method is in ``trainer``, the loop in ``loop``, all settings in ``recipe``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitmsn import checkpoint
from vitmsn.checkpoint import Checkpoint
from vitmsn.data import DataSet, open_data
from vitmsn.devices import choose_device, choose_dtype
from vitmsn.errors import InputError
from vitmsn.lowshot import knn_accuracy
from vitmsn.training import digits, log_figure, loop, shapes
from vitmsn.training.distributed import Processes
from vitmsn.training.picture_store import Pictures, Streamed, on_device, open_pictures
from vitmsn.training.recipe import Recipe
from vitmsn.training.result import TrainingResult
from vitmsn.training.trainer import Trainer, embed, export

OWN_DATA = {"digits": digits, "shapes": shapes}  # by `Recipe.own_data`
QUERIES, REFERENCE = 2000, 10_000  # pictures of the kNN that monitors a run: held out, and compared with

Progress = Callable[[str, int, int], object]  # (what, done, total)


@dataclass
class Prepared:
    """A trainer at its first step, with its data: pictures to train on with labels (N,), and those held out."""

    data: str
    trainer: Trainer
    pictures: Pictures
    labels: Tensor
    queries: Pictures
    wanted: Tensor

    def knn(self) -> dict[str, float]:
        """kNN accuracy of held-out pictures, {"knn": share}; empty where nothing is labelled."""
        known = _spread(self.labels >= 0, REFERENCE)
        # of a rare class every picture may be held out, or none be among those compared with
        asked = _spread(torch.isin(self.wanted, self.labels[known]), QUERIES)
        if not len(known) or not len(asked):
            return {}
        model = self.trainer.target_model
        X, T = (embed(model, *pair).numpy() for pair in ((self.pictures, known), (self.queries, asked)))
        return {"knn": knn_accuracy(X, self.labels[known], T, self.wanted[asked])}


@dataclass(frozen=True)
class PretrainResult(TrainingResult):
    """A pre-trained model, or how far it got. ``card`` is that of the model folder, ``model``."""

    knn: float | None  # of held-out pictures; None where nothing is labelled
    knn_at_the_start: float | None  # of data that come along


def initial(source: str | Path | Checkpoint) -> Checkpoint:
    """What of a checkpoint a run starts from: no mask token, and an MSN head only where it is whole."""
    loaded = source if isinstance(source, Checkpoint) else checkpoint.load(source)
    head = loaded.msn_head if {"prototypes", "projector.fc1.weight"} <= set(loaded.msn_head) else {}
    tensors = {name: tensor for name, tensor in loaded.tensors.items() if name != "embeddings.mask_token"}
    return replace(loaded, msn_head=head, tensors=tensors)


def prepare(
    recipe: Recipe,
    data: str | Path | DataSet | None,
    *,
    init: Checkpoint | None = None,
    split: str | None = None,
    held_out: float = 0.02,
    stream: bool | None = None,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    compiled: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Read the data and build the trainer; the arguments are those of :func:`run`."""
    processes = Processes.from_environment(choose_device(str(device)))
    side = recipe.picture_size
    pictures: Tensor | Streamed
    queries: Tensor | Streamed
    if data is None:
        if recipe.own_data not in OWN_DATA:
            raise InputError("This recipe has no data of its own; give it a data set, or take a preset that has some.")
        own = OWN_DATA[recipe.own_data]
        (pictures, labels), (queries, wanted) = own.load(side)
        name = own.NAME
    else:
        dataset = data if isinstance(data, DataSet) else open_data(data, split)
        name = dataset.name
        read = [
            open_pictures(part, side, stream, partial(progress, what) if progress and processes.first else None)
            for part, what in zip(
                dataset.split(held_out, by_class=False), ("reading pictures", "and those held out"), strict=True
            )
        ]
        (pictures, labels), (queries, wanted) = read
    precision = choose_dtype(dtype, processes.device)
    stored = on_device(pictures, processes.device)
    trainer = Trainer(recipe, stored, init=init, processes=processes, precision=precision, compiled=compiled)
    return Prepared(name, trainer, pictures, labels, queries, wanted)


def run(
    recipe: Recipe,
    data: str | Path | DataSet | None,
    out: str | Path,
    *,
    init: str | Path | Checkpoint | None = None,
    split: str | None = None,
    held_out: float = 0.02,
    stream: bool | None = None,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    compiled: bool = False,
    limit_minutes: float | None = None,
    log_every: int = 50,
    save_every: int = 200,
    monitor_every: int | None = None,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> PretrainResult | None:
    """Pre-train, and write state, log, figure and ``out / "model"``; the same call again goes on.

    Args:
        recipe: a preset, or what was made of one.
        data: a data set, or what :func:`vitmsn.data.open_data` opens; labels are only measured with. None: those
            of the recipe, digits or shapes.
        init: a checkpoint to start from; a path or hub id also gives the recipe its architecture and head.
        held_out: share of the pictures that is not trained on, for kNN.
        stream: leave pictures on disk; None: where they do not fit.
        dtype: of the backbone's forward; "auto": what is fast on the device.
        compiled: let ``torch.compile`` write the kernels.
        limit_minutes: stop after so long.
        log_every, save_every, monitor_every: steps between rows of the log, checkpoints, and kNN (None: 1000, or an
            eighth of the run for data that come along).
        progress: called with (what, done, total) while pictures are read.

    Returns:
        The result; None in all processes but the first.
    """
    source = None if init is None else init.source if isinstance(init, Checkpoint) else str(init)
    if init is not None and not isinstance(init, Checkpoint):
        init = initial(init)
        recipe = recipe.starting_from(init)
    prepared = prepare(
        recipe, data, init=init, split=split, held_out=held_out, stream=stream, device=device, dtype=dtype,
        compiled=compiled, progress=progress,
    )  # fmt: skip
    out, trainer = Path(out), prepared.trainer
    processes = trainer.processes

    labelled = bool((prepared.labels >= 0).any() and (prepared.wanted >= 0).any())
    start = prepared.knn()["knn"] if data is None and processes.first else None
    finished = loop.run(
        trainer,
        out,
        limit_minutes=limit_minutes,
        log_every=log_every,
        save_every=save_every,
        monitor=prepared.knn if labelled else None,
        monitor_every=monitor_every or (1000 if data is not None else max(1, trainer.steps // 8)),
        logged=log_figure.figure_updater(out, trainer.steps),
        say=say,
    )
    if not processes.first:
        return None
    last = prepared.knn().get("knn")
    about: dict[str, Any] = {
        "trained_on": prepared.data,
        "pictures": len(prepared.pictures),
        "epochs": round(trainer.step / trainer.steps_per_epoch, 3),
        "initialised_from": source,
        "processes": processes.count,
        "precision": str(trainer.precision).removeprefix("torch."),
    }
    about |= {} if last is None else {"knn": round(last, 4)}
    about |= {} if start is None else {"knn_at_the_start": round(start, 4)}
    export(trainer, out / "model", about)
    return PretrainResult(out, out / "model", finished, trainer.step, trainer.steps, about, last, start)


def _spread(chosen: Tensor, most: int) -> Tensor:
    """At most ``most`` of the places where ``chosen`` (N,) holds, evenly spread: files are often sorted by class."""
    places = chosen.nonzero().flatten()
    return places[:: max(1, -(-len(places) // most))]
