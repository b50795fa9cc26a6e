"""Checkpoints of the original training code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import CONFIG, assert_equal, meta_file
from vitmsn import checkpoint
from vitmsn.errors import CheckpointError


def test_meta_checkpoint_gives_target_encoder_head_and_temperature(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')  # someone else's
    target, msn = meta_file(tmp_path / "vits16.pth.tar")
    loaded = checkpoint.load(tmp_path / "vits16.pth.tar")
    assert loaded.config == CONFIG
    assert_equal(loaded.tensors, target)
    assert_equal(loaded.msn_head, msn)
    assert (loaded.temperature, loaded.sharpening) == (0.2, 0.25)


@pytest.mark.parametrize("absent", [None, ...])
def test_meta_checkpoint_without_a_target_gives_the_encoder(absent: Any, tmp_path: Path) -> None:
    target, _ = meta_file(tmp_path / "w.pth.tar", target_encoder=absent)
    assert_equal(checkpoint.load(tmp_path / "w.pth.tar").tensors, {k: torch.zeros_like(t) for k, t in target.items()})


def test_meta_checkpoint_without_prototypes_keeps_its_projector(tmp_path: Path) -> None:
    _, msn = meta_file(tmp_path / "w.pth.tar", prototypes=..., temperature=...)
    loaded = checkpoint.load(tmp_path / "w.pth.tar")
    del msn["prototypes"]
    assert_equal(loaded.msn_head, msn)
    assert loaded.temperature == 0.1


@pytest.mark.parametrize("value", [0, -0.1, "warm", float("nan")])
def test_meta_checkpoint_with_a_nonsensical_temperature_is_refused(value: Any, tmp_path: Path) -> None:
    meta_file(tmp_path / "w.pth.tar", temperature=value)
    with pytest.raises(CheckpointError, match=f"temperature '{value}'"):
        checkpoint.load(tmp_path / "w.pth.tar")


def test_meta_checkpoint_becomes_a_folder(tmp_path: Path) -> None:
    meta_file(tmp_path / "w.pth.tar")
    first = checkpoint.load(tmp_path / "w.pth.tar")
    checkpoint.save(tmp_path / "model", first.config, first.tensors, msn_head=first.msn_head, temperature=0.2)
    second = checkpoint.load(tmp_path / "model")
    assert second.config == first.config and second.temperature == first.temperature
    assert_equal(second.tensors, first.tensors)
    assert_equal(second.msn_head, first.msn_head)
