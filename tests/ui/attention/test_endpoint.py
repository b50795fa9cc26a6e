"""`/attention` for programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vitmsn.errors import ImageError, InputError
from vitmsn.ui.attention import endpoint
from vitmsn.ui.visits import Call


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((300, 200)).save(path)
    return str(path)


def test_the_endpoint_gives_a_picture_and_plain_numbers(call: Callable[..., Call], file: str) -> None:
    shown, found = endpoint.attend(call(), file, layer=1, head=2)
    assert shown.width == 300 and shown.height > 200
    assert list(found) == ["kind", "layer", "head", "heads", "grid", "map", "label", "half", "entropy"]
    assert (found["layer"], found["head"], found["grid"]) == (1, 2, [4, 4])
    assert all(type(value) is float for line in found["map"] for value in line)
    assert 0 < sum(map(sum, found["map"])) < 1
    _, last = endpoint.attend(call(), file)
    assert (last["layer"], last["head"]) == (2, 0)


def test_the_endpoint_takes_every_kind_and_size(call: Callable[..., Call], file: str) -> None:
    _, patch = endpoint.attend(call(), file, kind="patch", row=4, column=1, size=24)
    assert patch["grid"] == [6, 6]
    _, rollout = endpoint.attend(call(), file, kind="rollout")
    assert rollout["layer"] is None and rollout["head"] is None


def test_the_endpoint_refuses_invalid_arguments(call: Callable[..., Call], file: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`image`"):
        endpoint.attend(call(), None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="row is 9"):
        endpoint.attend(call(), file, kind="patch", row=9)
    for heads in ("1,two", "1;2", "1,,2", "-1"):
        with pytest.raises(InputError, match="write their numbers, like 1,3"):
            endpoint.attend(call(), file, heads=heads)
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"no\.png"):
        endpoint.attend(call(), str(tmp_path / "no.png"))
