"""ModelRunner: low memory, timings, frozen weights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from tests.support.encoders import CONFIG, count_forwards, picture
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.runner import ModelRunner
from vitmsn.timing import timings


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.random(CONFIG, device="cpu")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return count_forwards(monkeypatch)


def short_of_memory(most: int) -> Callable[..., Any]:
    timed = ModelRunner._timed

    def run(self: ModelRunner, pixels: torch.Tensor, *rest: Any) -> Any:
        if len(pixels) > most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return timed(self, pixels, *rest)

    return run


def out_of_memory_once() -> Callable[..., Any]:
    timed, failed = ModelRunner._timed, []

    def run(self: ModelRunner, *given: Any) -> Any:
        if not failed:
            failed.append(True)
            raise torch.cuda.OutOfMemoryError("out of memory")
        return timed(self, *given)

    return run


@pytest.mark.parametrize("layernorm", [True, False])
def test_a_batch_is_halved_when_memory_runs_out(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, layernorm: bool
) -> None:
    pictures = [picture(seed) for seed in range(7)]
    keep = np.stack([np.random.default_rng(seed).permutation(16)[:5] for seed in range(7)])
    expected = Encoder.random(CONFIG, device="cpu").embed(pictures, keep_indices=keep, layernorm=layernorm)
    monkeypatch.setattr(ModelRunner, "_timed", short_of_memory(2))
    np.testing.assert_allclose(encoder.embed(pictures, keep_indices=keep, layernorm=layernorm), expected, atol=1e-5)


def test_when_nothing_fits_it_falls_back_to_the_cpu_with_a_warning(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Encoder.random(CONFIG, device="cpu").embed(picture())
    monkeypatch.setattr(ModelRunner, "_timed", out_of_memory_once())
    with pytest.warns(UserWarning, match="not enough memory for random weights"):
        found = encoder.embed(picture())
    np.testing.assert_allclose(found, expected, atol=2e-2)  # bfloat16 where the processor has it
    assert encoder.device.type == "cpu"


def test_whoever_shares_the_model_goes_to_the_cpu_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.random(CONFIG, device="cpu")
    encoder.runner.model.to(torch.bfloat16)
    encoder.runner.dtype = torch.bfloat16
    twin = clone(encoder)
    monkeypatch.setattr(ModelRunner, "_timed", out_of_memory_once())
    with pytest.warns(UserWarning, match="continues on the CPU"):
        encoder.embed(picture())
    assert twin.dtype == encoder.dtype == torch.float32
    assert twin.runner.forward() is encoder.runner.forward(), "weights are packed once"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")])
def test_a_machine_without_memory_is_a_sentence(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(ModelRunner, "_timed", fail)
    for pictures in ([picture()], [picture(1), picture(2)]):
        with pytest.raises(InputError, match=r"not enough memory for random weights with an input of 16 x 16 pixels"):
            encoder.embed(pictures)
    monkeypatch.setattr(ModelRunner, "_timed", lambda *_: torch.zeros(2) + torch.zeros(3))
    with pytest.raises(RuntimeError, match="size of tensor"):  # other errors are not about memory
        encoder.embed(picture())


def test_timings_are_measured_without_the_cache(encoder: Encoder, forwards: list[int]) -> None:
    assert encoder.time(picture(), repeats=3) > 0
    assert forwards == [1] * 4
    with timings() as taken:
        assert encoder.time(picture(), repeats=1, keep_indices=[0], size=8) == taken[-1].milliseconds > 0
    assert [(one.patches, one.size) for one in taken] == [(1, (8, 8))] * 2


def test_a_time_needs_a_forward(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="repeats is 0; it must be at least 1"):
        encoder.time(picture(), repeats=0)


def test_timings_cover_one_block_and_one_thread(encoder: Encoder) -> None:
    with timings() as outer:
        encoder.embed(picture(0))
        with timings() as inner:
            encoder.embed(picture(1))
            encoder.embed(picture(0))  # remembered: no forward
        other = threading.Thread(target=encoder.embed, args=(picture(2),))
        other.start()
        other.join()
    encoder.embed(picture(3))
    assert len(inner) == 1 and len(outer) == 2 and outer[1] is inner[0]
    assert (inner[0].model, inner[0].pictures, inner[0].patches) == ("random weights", 1, 16)


def test_weights_need_no_gradient(encoder: Encoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training
