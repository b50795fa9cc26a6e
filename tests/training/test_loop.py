"""The loop: what it logs, how it stops, and that a killed and resumed run ends like an uninterrupted one."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.pretraining import LONG, RECIPE, noise
from vitmsn.training.loop import DivergedError, run
from vitmsn.training.trainer import PARTS, Trainer

ROOT = Path(__file__).parents[2]

# trains as the test does, and waits to be killed where it is told
SCRIPT = """
import os, sys, time, torch
from pathlib import Path
from tests.support.pretraining import LONG, noise
from vitmsn.training.loop import run
from vitmsn.training.trainer import Trainer

torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))  # as in the tests: sums depend on how many share them
last = int(sys.argv[2])
trainer = Trainer(LONG, noise())
step = trainer.train_step

def once():
    if trainer.step == last:
        print("here", flush=True)
        time.sleep(600)
    return step()

trainer.train_step = once
run(trainer, Path(sys.argv[1]), log_every=1, save_every=4, say=lambda _: None)
"""


def states(trainer: Trainer) -> dict[str, torch.Tensor]:
    parts = (trainer.model, trainer.head, trainer.target_model, trainer.target_head)
    return {f"{n} {name}": tensor for n, part in enumerate(parts) for name, tensor in part.state_dict().items()}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("step", [3, 10])  # before the first checkpoint, and between two
def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, step: int) -> None:
    whole = Trainer(LONG, noise())
    assert run(whole, tmp_path / "whole", log_every=1, say=lambda _: None)

    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), str(step)]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    (tmp_path / "killed" / ".state.part.pt").write_bytes(b"half a state")  # as a kill while writing leaves it

    said: list[str] = []
    resumed = Trainer(LONG, noise())
    assert run(resumed, tmp_path / "killed", log_every=1, say=said.append)
    assert said[0].startswith("resuming at step 8 of 18" if step > 4 else "step 1 of 18")
    for name, tensor in states(whole).items():
        assert torch.equal(states(resumed)[name], tensor), name
    # steps that were trained twice are logged once, with the same numbers
    for ours, theirs in zip(rows(tmp_path / "killed"), rows(tmp_path / "whole"), strict=True):
        assert (ours["step"], ours["loss"]) == (theirs["step"], theirs["loss"])


def test_a_limit_stops_after_the_step_and_saves(tmp_path: Path) -> None:
    first = Trainer(RECIPE, noise())
    assert not run(first, tmp_path, limit_minutes=0, say=lambda _: None)
    assert first.step == 1
    said: list[str] = []
    assert run(Trainer(RECIPE, noise()), tmp_path, say=said.append)
    assert said[0] == "resuming at step 1 of 6"


def test_log_rows_and_columns(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    trainer = Trainer(RECIPE, noise())
    run(
        trainer,
        tmp_path,
        log_every=2,
        monitor=lambda: {"knn": 0.25},
        monitor_every=4,
        logged=seen.append,
        say=lambda _: None,
    )
    found = rows(tmp_path)
    assert [int(row["step"]) for row in found] == [2, 4, 6] == [row["step"] for row in seen]
    assert [row["knn"] for row in found] == ["", "0.25", "0.25"]
    for row in found:
        parts = float(row["cross_entropy"]) - float(row["mean_entropy"])
        assert float(row["loss"]) == pytest.approx(parts, abs=1e-5)
        assert 1 <= float(row["prototypes_in_use"]) <= RECIPE.prototypes
        assert 1 <= float(row["feature_rank"]) <= RECIPE.batch_size
        assert float(row["pictures_per_second"]) > 0
        assert all(float(row[f"{part}_ms"]) > 0 for part in PARTS)


def test_a_nan_loss_names_step_batch_and_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(RECIPE, noise())
    step = trainer.train_step

    def spoiled() -> dict[str, float]:
        if trainer.step == 3:
            with torch.no_grad():
                trainer.head.prototypes[0, 0] = float("nan")
        return step()

    trainer.train_step = spoiled  # type: ignore[method-assign]
    with pytest.raises(DivergedError) as caught:
        run(trainer, tmp_path, save_every=2, say=lambda _: None)
    pictures = ", ".join(str(index) for index in trainer.batch_indices(3)[:4].tolist())
    assert f"at step 3 (pictures {pictures}, ...)" in str(caught.value)
    assert f"{tmp_path / 'state.pt'}, of step 2, is the last good checkpoint" in str(caught.value)
    resumed = Trainer(RECIPE, noise())
    assert run(resumed, tmp_path, say=lambda _: None)
    assert all(torch.isfinite(tensor).all() for tensor in states(resumed).values())


def test_a_nan_gradient_changes_no_weight() -> None:
    trainer = Trainer(RECIPE, noise())
    trainer.model.layernorm.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(DivergedError, match="its gradient"):
        trainer.train_step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
