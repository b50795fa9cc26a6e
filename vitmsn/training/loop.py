"""The loop of every training run: log, save, monitor, stop in time, resume."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vitmsn.errors import ViTMSNError
from vitmsn.files import replacing
from vitmsn.training.distributed import Processes

STATE = "state.pt"  # in the folder of a run


class DivergedError(ViTMSNError):
    """The loss is no longer a number."""


def check_finite(loss: Tensor, norm: Tensor, step: int, indices: Tensor) -> None:
    """Called before a step changes the weights, with the loss, the norm of its gradient and the pictures of the batch.

    Raises:
        DivergedError: one of the two is not finite.
    """
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        some = ", ".join(map(str, indices[:4].tolist()))
        raise DivergedError(
            f"The loss is {loss.item():g} and its gradient {float(norm):g} at step {step} (pictures {some}, ...)"
        )


class Trainable(Protocol):
    """What the loop needs of a trainer; ``trainer.Trainer`` and ``finetune.Finetuner`` provide it."""

    step: int
    steps: int
    steps_per_epoch: int
    measuring: bool  # the details of the next step will be needed

    @property
    def device(self) -> torch.device: ...
    @property
    def processes(self) -> Processes: ...
    @property
    def pictures_per_step(self) -> int: ...
    def train_step(self) -> dict[str, float]: ...
    def details(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def run(
    trainer: Trainable,
    folder: Path,
    *,
    limit_minutes: float | None = None,
    log_every: int = 50,
    save_every: int = 200,
    monitor: Callable[[], dict[str, float]] | None = None,
    monitor_every: int = 1000,
    logged: Callable[[dict[str, float]], None] | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Train to the recipe's end, or until ``limit_minutes`` have passed; go on from ``folder`` if it holds a state.

    Writes ``state.pt`` (to resume) and ``log.csv`` into ``folder``: a row every ``log_every`` steps, with the parts of
    the loss, the feature rank, pictures per second, what the parts of a step cost, and what ``monitor`` measures.

    Args:
        monitor: measures the model every ``monitor_every`` steps and at the end.
        logged: called with each row of the log.

    Returns:
        Whether the recipe is finished.

    Raises:
        DivergedError: the loss is no number; it names the step, pictures of the batch and the last good checkpoint.
    """
    first = trainer.processes.first
    folder.mkdir(parents=True, exist_ok=True)
    state, log = folder / STATE, folder / "log.csv"
    if state.exists():
        resume(trainer, folder)
        if first:
            say(f"resuming at step {trainer.step} of {trainer.steps}")
    rows = _read_log(log, trainer.step) if first else []
    trainer.processes.wait()
    started = mark = time.monotonic()
    before = float(rows[-1]["minutes"]) if rows else 0.0
    saved, marked = trainer.step if state.exists() else None, trainer.step
    while trainer.step < trainer.steps:
        step = trainer.step + 1
        measure = monitor is not None and (step % monitor_every == 0 or step == trainer.steps)
        trainer.measuring = measure or step % log_every == 0 or step == trainer.steps
        try:
            row: dict[str, float] = trainer.train_step()
        except DivergedError as error:
            good = f"{state}, of step {saved}, is the last good checkpoint" if saved else "nothing was saved yet"
            raise DivergedError(f"{error}; {good}. Run again from it with a lower rate.") from error
        now = time.monotonic()
        out_of_time = trainer.processes.any(limit_minutes is not None and now - started > 60 * limit_minutes)
        finished = step == trainer.steps
        if trainer.measuring or out_of_time:
            seen = (step - marked) * trainer.pictures_per_step
            row |= {
                "epoch": step / trainer.steps_per_epoch,
                "minutes": before + (now - started) / 60,
                "pictures_per_second": seen / max(now - mark, 1e-9),
                **trainer.details(),
            }
            if first:
                measured = monitor() if measure and monitor is not None else {}
                rows.append({name: f"{value:.9g}" for name, value in (row | measured).items()})
                _write_log(log, rows)
                if logged is not None:
                    logged(row | measured)
                say(_sentence(row | measured, trainer.steps))
            mark, marked = time.monotonic(), step
        if finished or out_of_time or step % save_every == 0:
            if first:
                save_state(trainer.state_dict(), state)
            saved = step
        if out_of_time:
            break
    trainer.processes.wait()
    return trainer.step >= trainer.steps


def resume(trainer: Trainable, folder: Path) -> None:
    """Go on from the state in ``folder``."""
    trainer.load_state_dict(torch.load(folder / STATE, map_location=trainer.device, weights_only=True))


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a state atomically: after a kill the file is the old or the new one, never half of one."""
    with replacing(path) as fresh, fresh.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())  # before renaming, or a power cut could leave an empty file


def _sentence(row: dict[str, float], steps: int) -> str:
    shown = {name: value for name, value in row.items() if name != "step" and not name.endswith("_ms")}
    numbers = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())
    return f"step {row['step']:.0f} of {steps}: {numbers}"


def _read_log(path: Path, step: int) -> list[dict[str, str]]:
    """Rows up to ``step``: later ones of a killed run are trained, and logged, again."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if float(row["step"]) <= step]


def _write_log(path: Path, rows: list[dict[str, str]]) -> None:
    """Atomically; a column exists as soon as a row has it, empty where nothing was measured."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as fresh, fresh.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
