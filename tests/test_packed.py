"""The packed forward gives what the plain one gives, and steps aside where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.support import models
from tests.support.models import ARCHITECTURES, BFLOAT16, backbone, pixels
from tests.support.pictures import noise
from vitmsn import packed
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel
from vitmsn.packed import NotPacked, PackedModel, pack


def ready(model: ViTMSNModel) -> PackedModel:
    found = pack(model)
    assert isinstance(found, PackedModel), found
    return found


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    torch.manual_seed(1)
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("case", ARCHITECTURES)
@pytest.mark.parametrize("kept", [None, 7])
def test_float32_is_the_plain_forward(case: str, kept: int | None) -> None:
    model = backbone(**ARCHITECTURES[case])
    grid = (5, 3)  # not the native one: positions are interpolated
    x = pixels(model, 3, grid)
    keep = None if kept is None else models.random_rows(3, 15, kept)
    found = ready(model)(x, keep, output_hidden_states=True)
    wanted = model(x, keep_indices=keep, interpolate_pos_encoding=True, output_hidden_states=True)
    assert found.grid == wanted.grid and found.keep_indices is keep
    torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, atol=1e-4, rtol=1e-5)
    assert len(found.hidden_states or ()) == len(wanted.hidden_states)
    for one, other in zip(found.hidden_states or (), wanted.hidden_states, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.skipif(not BFLOAT16, reason="the processor has no bfloat16 instructions")
@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (17, 31)], ids=str)  # the last has more queries than fit in one piece
@pytest.mark.parametrize("batch", [1, 5])
def test_bfloat16_is_close_to_float32(grid: tuple[int, int], batch: int) -> None:
    exact = backbone(hidden_size=64, num_attention_heads=4, intermediate_size=128)
    x = pixels(exact, batch, grid)
    found = ready(copy.deepcopy(exact).to(torch.bfloat16))(x).last_hidden_state.float()
    wanted = exact(x, interpolate_pos_encoding=True).last_hidden_state
    assert torch.cosine_similarity(found, wanted, dim=-1).min() > 0.9995


@pytest.mark.skipif(not BFLOAT16, reason="the processor has no bfloat16 instructions")
def test_bfloat16_is_closer_to_float32_than_the_plain_forward() -> None:
    """Tokens that each layer adds to stay in float32; in the plain forward they are rounded after each addition."""
    exact = backbone(torch.bfloat16, num_hidden_layers=12).float()  # so that only what is computed is rounded
    rounded = copy.deepcopy(exact).to(torch.bfloat16)
    x = pixels(exact, 4)
    wanted = exact(x).last_hidden_state
    plain, found = (
        (tokens.float() - wanted).norm()
        for tokens in (rounded(x).last_hidden_state, ready(rounded)(x).last_hidden_state)
    )
    assert found < 0.75 * plain


@pytest.mark.parametrize("dtype", [torch.float32, *([torch.bfloat16] if BFLOAT16 else [])], ids=str)
def test_pictures_that_go_through_in_parts_are_the_same(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ready(backbone(dtype))
    x, keep = pixels(model.model, 7), torch.arange(9).expand(7, -1)
    together = model(x, keep, output_hidden_states=True)
    monkeypatch.setattr(packed, "TOKENS", 20)  # two pictures of ten tokens
    parts = model(x, keep, output_hidden_states=True)
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.05}
    torch.testing.assert_close(parts.last_hidden_state, together.last_hidden_state, **close)
    torch.testing.assert_close(parts.hidden_states, together.hidden_states, **close)


def test_indices_are_checked() -> None:
    model = ready(backbone())
    with pytest.raises(InputError, match="runs from 0 to 16"):
        model(pixels(model.model, 1), torch.tensor([[0, 16]]))


@pytest.mark.parametrize("name", ["_linear_pointwise", "_reorder_linear_weight"])
def test_the_plain_forward_runs_where_torch_lacks_an_operator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encoder().embed(pictures())
    monkeypatch.setattr(packed, "has_operator", lambda asked: asked != name)
    lacking = encoder()
    assert lacking.engine == f"plain: this build of torch has no mkldnn::{name}"
    assert lacking.embed(pictures()) == pytest.approx(expected, abs=1e-4)


def test_torch_has_the_operators() -> None:
    """Where this fails, a new torch has renamed them: everything works, but slower."""
    assert packed.has_operator("_linear_pointwise") and packed.has_operator("_reorder_linear_weight")
    assert not packed.has_operator("_no_such_operator")


def test_the_plain_forward_runs_where_packed_weights_give_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encoder().embed(pictures())
    monkeypatch.setitem(packed._ACTIVATIONS, "gelu", ("relu", ""))
    wrong = encoder()
    with pytest.warns(UserWarning, match="the plain forward is used"):
        assert wrong.engine.startswith("plain: packed weights gave numbers")
    assert wrong.embed(pictures()) == pytest.approx(expected, abs=1e-4)


def test_float64_takes_the_plain_forward() -> None:
    found = pack(backbone(torch.float64))
    assert isinstance(found, NotPacked) and "float64" in found.reason


def test_weights_that_change_are_packed_again() -> None:
    one = encoder()
    assert one.engine == "packed"
    before = one.embed(pictures())
    with torch.inference_mode(False), torch.no_grad():
        one.model.layers[0].mlp.fc1.weight.mul_(3)
    one._encodings.clear()
    after = one.embed(pictures())
    wanted = one.model(one.processor(pictures())["pixel_values"]).last_hidden_state[:, 0].numpy()
    assert after == pytest.approx(wanted, abs=1e-4)
    assert abs(after - before).max() > 1e-3


def encoder() -> Encoder:
    with torch.inference_mode(False):
        return Encoder(backbone(), ViTMSNImageProcessor(16), name="small")


def pictures() -> list[Any]:
    return [noise(20, 20, seed=seed) for seed in range(3)]
