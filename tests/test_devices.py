"""Devices and precisions by name, and what "auto" chooses."""

from __future__ import annotations

import pytest
import torch

from vitmsn import devices
from vitmsn.config import VARIANTS
from vitmsn.devices import choose_device, choose_dtype
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError


def test_devices_and_precisions_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    cpu = torch.device("cpu")
    assert choose_dtype("float16", cpu) == choose_dtype(torch.float16, cpu) == torch.float16
    with pytest.raises(InputError, match="'float8'; choose auto, float32, bfloat16, float16"):
        choose_dtype("float8", cpu)
    for name in ("abacus", *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(InputError, match=f"device '{name}' is not available"):
            choose_device(name)


@pytest.mark.parametrize(("has_it", "gain", "chosen"), [
    (True, 1.9, torch.bfloat16), (True, 0.6, torch.float32), (True, 1.1, torch.float32), (False, 1.9, torch.float32),
])  # fmt: skip
def test_auto_precision_is_what_the_processor_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, has_it: bool, gain: float, chosen: torch.dtype
) -> None:
    monkeypatch.delenv("VITMSN_DTYPE")  # the tests choose it (conftest.py)
    monkeypatch.setattr(devices, "_has_bfloat16", lambda: has_it)
    monkeypatch.setattr(devices, "_bfloat16_gain", lambda: gain)
    assert choose_dtype("auto", torch.device("cpu")) == chosen


def test_a_small_model_has_the_same_precision_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITMSN_DTYPE")
    monkeypatch.setattr(devices, "_has_bfloat16", lambda: True)
    monkeypatch.setattr(devices, "_bfloat16_gain", lambda: 2.0)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    embedded, small = (VARIANTS[name].gigaflops() for name in ("tiny-8-64", "small-16"))
    for device in (torch.device("cpu"), torch.device("cuda")):
        assert choose_dtype("auto", device, embedded) == torch.float32
        assert choose_dtype("auto", device, small) == torch.bfloat16
        assert choose_dtype("bfloat16", device, embedded) == torch.bfloat16  # asked for by name
    assert Encoder.from_pretrained(None, device="cpu").dtype == torch.float32
    monkeypatch.setenv("VITMSN_DTYPE", "bfloat16")
    assert Encoder.from_pretrained(None, device="cpu").dtype == torch.bfloat16


def test_the_gain_of_bfloat16_is_measured_once_and_spares_the_random_numbers() -> None:
    before = torch.random.get_rng_state()
    gain = devices._bfloat16_gain()
    assert 0 < gain < 1000 and devices._bfloat16_gain() is gain
    assert torch.equal(torch.random.get_rng_state(), before)  # a seeded program gets the same numbers


def test_the_environment_overrides_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for name in ("float32", "bfloat16"):
        monkeypatch.setenv("VITMSN_DTYPE", name)
        assert choose_dtype("auto", cpu) == getattr(torch, name)
        assert choose_dtype("float16", cpu) == torch.float16  # what was asked for by name stays
    monkeypatch.setenv("VITMSN_DTYPE", "float8")
    with pytest.raises(InputError, match="VITMSN_DTYPE is 'float8'; choose auto, float32"):
        choose_dtype("auto", cpu)
