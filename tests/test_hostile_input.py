"""Damaged and odd inputs for every reader: each is read, or refused in a sentence; and what is written reads back."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.readers import READERS
from vitmsn import limits, masking
from vitmsn.errors import InputError
from vitmsn.ui.shared.checks import choice, real, whole

# The same examples each time: a test that fails by chance helps nobody. `make fuzz` searches on.
few = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8))  # where, bytes taken out, bytes put in


@functools.cache
def seeds(name: str) -> list[bytes]:
    return READERS[name].seeds()


def edited(data: bytes, edits: list[tuple[float, int, bytes]], length: float) -> bytes:
    for where, out, put in edits:
        place = int(where * len(data))
        data = data[:place] + put + data[place + out :]
    return data[: round(length * len(data))]


def judge(name: str, data: bytes) -> bool:
    """Whether the data were read; False when they were refused in a sentence."""
    reader, began = READERS[name], time.process_time()
    said = None
    try:
        reader.read(data)
    except reader.refusals as error:
        said = str(error).strip()
    assert said != "" and time.process_time() - began < 5
    return said is None


def said(check: Callable[..., Any], *values: Any) -> Any:
    """What a check returns, or its refusal as text."""
    try:
        return check(*values)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("name", READERS)
def test_the_files_to_start_from_are_read(name: str) -> None:
    for data in seeds(name):
        assert judge(name, data)


@pytest.mark.parametrize("name", READERS)
@given(st.integers(0), st.lists(EDIT, min_size=1, max_size=4), st.just(1.0) | st.floats(0, 1))
@few
def test_damaged_files_are_read_or_refused(
    name: str, which: int, edits: list[tuple[float, int, bytes]], length: float
) -> None:
    known = seeds(name)
    judge(name, edited(known[which % len(known)], edits, length))


@pytest.mark.parametrize("name", READERS)
@given(st.binary(max_size=300))
@few
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    judge(name, data)


@given(JSON, st.integers(-5, 5), st.integers(0, 10))
@few
def test_numbers_are_in_their_range_or_refused(value: Any, low: int, more: int) -> None:
    for check in (whole, real):
        found = said(check, value, "value", low, low + more)
        if isinstance(found, str):
            assert "value" in found and len(found) < 300
        else:
            assert low <= found <= low + more and math.isfinite(found)


@given(JSON)
@few
def test_choices_are_known_or_refused(value: Any) -> None:
    found = said(choice, value, "kind", ("a", "b"))
    assert found in ("a", "b") or ("kind" in found and len(found) < 300)


@given(st.sampled_from(sorted(masking.MASKS)), st.integers(1, 9), st.integers(1, 9), st.floats(0, 0.99), st.integers(0))
@few
def test_masks_keep_known_patches_once_and_never_none(kind: str, rows: int, columns: int, ratio: float, n: int) -> None:
    kept = masking.draw_mask(kind, (rows, columns), ratio, n % 2**31, batch=2)
    assert kept.shape[0] == 2 and kept.shape[1] >= 1
    assert kept.min() >= 0 and kept.max() < rows * columns
    assert (kept[:, 1:] > kept[:, :-1]).all()
    if kind != "focal":
        assert kept.shape[1] == masking.kept_count(rows * columns, ratio)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**64 - 1))
@few
def test_painted_masks_read_back(rows: int, columns: int, bits: int) -> None:
    hidden = np.array([bits >> place & 1 for place in range(rows * columns)], dtype=bool).reshape(rows, columns)
    words = masking.write_painted(hidden)
    assert len(words) <= limits.MAX_PAINT_LENGTH
    assert (masking.read_painted(words, (rows, columns)) == hidden).all()
