"""Two processes are one: the same losses, the same weights, at the same global batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.app import PATIENCE
from tests.support.pretraining import RECIPE, VARIED, noise
from vitmsn.errors import ConfigError
from vitmsn.training.distributed import Processes
from vitmsn.training.trainer import Trainer

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys, torch
from pathlib import Path
from tests.support.pretraining import RECIPE, VARIED, noise
from vitmsn.training import loop
from vitmsn.training.distributed import Processes
from vitmsn.training.trainer import Trainer

torch.set_num_threads(1)
processes = Processes.from_environment("cpu")
assert processes.count == 2 and processes.any(processes.index == 1) and not processes.any(False)
trainer = Trainer(VARIED, noise(), processes=processes)
rows = [trainer.train_step() for _ in range(5)]
if processes.first:
    loop.save_state(trainer.state_dict(), Path(sys.argv[1], loop.STATE))
processes.wait()
trainer = Trainer(VARIED, noise(), processes=processes)
loop.resume(trainer, Path(sys.argv[1]))
rows += [trainer.train_step() for _ in range(trainer.steps - 5)]
processes.wait()
state = {**trainer.target_model.state_dict(), **trainer.target_head.state_dict()}
torch.save({"rows": rows, "state": state, "rank": trainer.feature_rank()}, f"{sys.argv[1]}/{processes.index}.pt")
"""


def test_two_processes_that_resume_give_the_losses_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            env={**here, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    alone = Trainer(VARIED, noise())
    rows = [alone.train_step() for _ in range(alone.steps)]
    for process in started:
        _, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, complaint
    state = {**alone.target_model.state_dict(), **alone.target_head.state_dict()}
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(found["rows"]) == len(rows) == 12
        for ours, theirs in zip(found["rows"], rows, strict=True):
            ratio = ours.pop("gradient_norm") / theirs["gradient_norm"]
            assert ratio == pytest.approx(1, abs=1e-3)
            assert ours == pytest.approx({name: theirs[name] for name in ours}, rel=1e-5, abs=1e-5)
        assert found["rank"] == pytest.approx(alone.feature_rank(), rel=1e-4)
        for name, tensor in found["state"].items():
            if not name.endswith(("fc1.bias", "fc2.bias")):  # before BatchNorm: rounding alone moves them
                torch.testing.assert_close(tensor, state[name], atol=1e-4, rtol=1e-3, msg=name)


def test_a_single_process_needs_no_communication() -> None:
    alone = Processes.from_environment("cpu")
    batch, view = torch.arange(6), torch.rand(2, 3, 4)
    assert alone.first and alone.count == 1
    assert torch.equal(alone.share(batch), batch) and alone.gather(view) is view
    assert alone.any(True) and not alone.any(False)


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    three = Processes("cpu")
    three.count = 3  # as if there were
    with pytest.raises(ConfigError, match="A batch of 8 cannot be shared by 3 processes"):
        Trainer(RECIPE, noise(), processes=three)
    parts = []
    for index in range(3):
        three.index = index
        parts.append(three.share(torch.arange(6)))
    assert torch.equal(torch.cat(parts), torch.arange(6))
    with pytest.raises(ConfigError, match="A batch of 7"):
        three.share(torch.arange(7))
