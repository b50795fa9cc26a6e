"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitmsn.files import replacing
from vitmsn.training import loop


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as fresh:
        fresh.write_text("new")
        assert target.read_text() == "old" and fresh.suffix == ".txt"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as fresh:
            fresh.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_an_interrupt_while_a_state_is_saved_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / loop.STATE
    loop.save_state({"step": 1}, state)

    def interrupted(_: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.save_state({"step": 2}, state)
    monkeypatch.undo()
    assert torch.load(state) == {"step": 1} and list(tmp_path.iterdir()) == [state]
