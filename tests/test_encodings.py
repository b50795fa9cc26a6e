"""Encodings: caching, threads, and pictures that go through one forward together."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.app import until
from tests.support.encoders import CONFIG, count_forwards, picture, png
from vitmsn import limits
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.outputs import ViTMSNOutput
from vitmsn.timing import Timing, timings


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.random(CONFIG, device="cpu")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return count_forwards(monkeypatch)


def test_embeddings_are_cached(encoder: Encoder, forwards: list[int]) -> None:
    pictures = [picture(seed) for seed in range(4)]
    first = encoder.embed(pictures)
    again = encoder.embed([*pictures, picture(9)])
    assert forwards == [4, 1]
    np.testing.assert_array_equal(again[:4], first)
    encoder.embed(png(pictures[2]))  # of one: its tokens are wanted too, so it runs once more, then never again
    encoder.tokens(pictures[2])
    encoder.embed(pictures)
    assert forwards == [4, 1, 1]


def test_masks_and_sizes_are_cached_separately(encoder: Encoder, forwards: list[int]) -> None:
    image = picture()
    for _ in range(2):
        encoder.embed(image)
        encoder.embed(image, size=8)
        encoder.embed(image, keep_indices=[1])
        encoder.embed(image, keep_indices=[2])
    assert forwards == [1] * 4


def test_changing_a_result_does_not_change_the_cache(encoder: Encoder) -> None:
    for sources in ([picture()], [picture(), picture(1)]):
        first = encoder.embed(sources)
        expected = first.copy()
        first += 1
        np.testing.assert_array_equal(encoder.embed(sources), expected)


def test_another_processor_gets_answers_of_its_own(encoder: Encoder) -> None:
    first, image, before = encoder.processor, picture(), encoder.fingerprint
    squashed = encoder.embed(image)
    for second in (first.with_recipe("resize-256-crop-224"), ViTMSNImageProcessor(16, image_mean=(0.1, 0.2, 0.3))):
        encoder.processor = second
        fresh = Encoder(encoder.model, second, name="fresh")
        assert encoder.fingerprint == fresh.fingerprint != before
        np.testing.assert_array_equal(encoder.embed(image), fresh.embed(image))
        np.testing.assert_array_equal(encoder.embed([image, picture(1)]), fresh.embed([image, picture(1)]))
        assert not np.array_equal(encoder.embed(image), squashed)
    encoder.processor = first
    assert encoder.fingerprint == before
    np.testing.assert_array_equal(encoder.embed(image), squashed)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CACHE_BYTES", 3 * 16 * 4)  # three embeddings
    encoder = Encoder.random(CONFIG, device="cpu")
    encoder.embed([picture(seed) for seed in range(10)])
    assert len(encoder._encodings) == 3


def test_threads_get_the_same_results(encoder: Encoder) -> None:
    pictures = [picture(seed) for seed in range(6)]
    expected = Encoder.random(CONFIG, device="cpu").embed(pictures)
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        order = np.roll(np.arange(6), number)
        rows = encoder.embed([pictures[i] for i in order], batch_size=1 + number % 3)
        found[number] = rows[np.argsort(order)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for rows in found.values():
        np.testing.assert_allclose(rows, expected, atol=1e-5)


def together(encoder: Encoder, asks: list[tuple[Image.Image, dict[str, Any]]]) -> tuple[list[Any], list[Timing]]:
    """What threads get that begin while another forward runs, and the forwards that it took."""
    ran: list[Timing] = []

    def ask(picture: Image.Image, how: dict[str, Any]) -> Any:
        with timings() as forwards:
            found = encoder.tokens(picture, **how)
        ran.extend(forwards)
        return found

    with ThreadPoolExecutor(len(asks)) as threads:
        with encoder.runner.lock:  # the other forward
            coming = [threads.submit(ask, *each) for each in asks]
            until(lambda: len(encoder._encodings._waiting) == len(asks))
        return [each.result() for each in coming], ran


def test_pictures_that_look_alike_to_the_model_need_one_forward(encoder: Encoder, forwards: list[int]) -> None:
    small, large = (Image.new("RGB", (side, side), (200, 30, 30)) for side in (20, 90))
    one, other = encoder.embed(small), encoder.embed(large)
    assert np.array_equal(one, other) and forwards == [1]
    assert encoder.embed([large, small, picture(7)]).shape[0] == 3 and forwards == [1, 1]


def test_pictures_that_wait_for_a_forward_go_through_the_next_one_together(encoder: Encoder) -> None:
    alone = copy.deepcopy(encoder)
    asks: list[tuple[Image.Image, dict[str, Any]]] = [(picture(seed), {}) for seed in range(4)]
    found, ran = together(encoder, [*asks, asks[0]])  # two visitors look at the same one
    assert [one.pictures for one in ran] == [4]
    for (image, _), its in zip(asks, found, strict=False):
        wanted = alone.tokens(image)
        assert its.last_hidden_state.shape == wanted.last_hidden_state.shape
        for one, other in zip(its.hidden_states or (), wanted.hidden_states or (), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
            assert one.untyped_storage().nbytes() == one.nbytes, "an answer in the cache holds no others"


def test_what_does_not_fit_together_is_computed_alone(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asks: list[tuple[Image.Image, dict[str, Any]]] = [
        (picture(0), {}),
        (picture(1), {"keep_indices": [0, 3, 9]}),
        (picture(2), {"keep_indices": [1, 2, 5]}),
        (picture(3), {"keep_indices": [4]}),
        (picture(4), {"size": 32}),
    ]
    found, ran = together(encoder, asks)
    assert sorted((one.patches, one.pictures) for one in ran) == [(1, 1), (3, 2), (16, 1), (64, 1)]
    assert [its.keep_indices.tolist() for its in found[1:3]] == [[[0, 3, 9]], [[1, 2, 5]]]
    np.testing.assert_allclose(
        found[2].last_hidden_state[:, 0], encoder.embed([picture(2)] * 2, keep_indices=[1, 2, 5])[:1], atol=1e-5
    )
    monkeypatch.setattr("vitmsn.encodings.TOKENS", 2 * 17)
    _, ran = together(encoder, [(picture(seed), {}) for seed in range(10, 15)])
    assert sorted(one.pictures for one in ran) == [1, 2, 2], "as many tokens as go through the network at once"


def test_pictures_that_wait_together_are_halved_where_memory_is_short(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encoder.runner.compute

    def small(pixels: torch.Tensor, *more: Any) -> ViTMSNOutput:
        if len(pixels) > 2:
            raise MemoryError
        return real(pixels, *more)

    monkeypatch.setattr(encoder.runner, "compute", small)
    asks: list[tuple[Image.Image, dict[str, Any]]] = [(picture(n), {"keep_indices": [n, 7]}) for n in range(4)]
    found, ran = together(encoder, asks)
    assert [one.pictures for one in ran] == [2, 2]
    assert [its.keep_indices.tolist() for its in found] == [[[n, 7]] for n in range(4)]
