"""Encoder: results equal the model's, caching, threads, low memory, and errors."""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support import models
from tests.support.app import until
from vitmsn import checkpoint, devices, limits
from vitmsn.classification import Classification
from vitmsn.config import VARIANTS
from vitmsn.devices import choose_device, choose_dtype
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError, MissingHeadError, ViTMSNError
from vitmsn.image import ViTMSNImageProcessor, decode
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead
from vitmsn.outputs import ViTMSNOutput
from vitmsn.timing import Timing, timings

LABELS = ("siamese cat", "tabby", "goldfish", "shark")
CONFIG = models.small(LABELS)
CARD = {"not_sure_below": 0.6, "kinds": {"cat": ["siamese cat", "tabby"], "fish": ["goldfish", "shark"]}}


def picture(seed: int = 0, size: tuple[int, int] = (30, 20)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.random(CONFIG, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with every extra: classifier, MSN head, mean, preprocessing, card."""
    more = {"feature_mean": torch.arange(16.0), "card": CARD, "temperature": 0.2, "sharpening": 0.5}
    return models.write(tmp_path_factory.mktemp("models") / "whole", CONFIG, **more)


@pytest.fixture
def whole(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures of every forward that really ran."""
    ran: list[int] = []
    timed = Encoder._timed

    def counted(self: Encoder, pixels: torch.Tensor, *rest: Any) -> Any:
        ran.append(len(pixels))
        return timed(self, pixels, *rest)

    monkeypatch.setattr(Encoder, "_timed", counted)
    return ran


# What it gives


def test_embeddings_are_the_cls_tokens(encoder: Encoder) -> None:
    pictures = [picture(seed) for seed in range(5)]
    with torch.no_grad():
        tokens = encoder.model(encoder.processor(pictures)["pixel_values"]).last_hidden_state
    found = encoder.embed(pictures, batch_size=2)  # the last batch is of one
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tokens[:, 0].numpy(), atol=1e-5)


def test_before_the_layernorm(encoder: Encoder) -> None:
    pictures = [picture(seed) for seed in range(3)]
    before, after = encoder.embed(pictures, layernorm=False), encoder.embed(pictures)
    np.testing.assert_allclose(encoder.model.layernorm(torch.from_numpy(before)).numpy(), after, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(pictures[0], layernorm=False)[0], before[0], atol=1e-5)
    # the two are remembered apart; one of them alone and not among three, so that its last bits may differ
    np.testing.assert_allclose(encoder.embed(pictures), after, atol=1e-5)


def test_every_kind_of_source_gives_the_same(encoder: Encoder, tmp_path: Path) -> None:
    image = picture()
    path = tmp_path / "a.png"
    path.write_bytes(encoded(image))
    data = encoded(image)
    for source in (image, path, str(path), data, bytearray(data), memoryview(data), decode(image)):
        np.testing.assert_array_equal(encoder.embed(source), encoder.embed([image]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(encoder.embed(one for one in (image, path)), encoder.embed([image, image]))


def test_no_pictures_give_no_rows(encoder: Encoder) -> None:
    assert encoder.embed([]).shape == (0, 16)


def test_progress_counts_pictures(encoder: Encoder) -> None:
    told: list[tuple[int, int]] = []
    encoder.embed([picture(seed) for seed in range(5)], batch_size=2, progress=lambda *now: told.append(now))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_dropped_patches_are_dropped(encoder: Encoder) -> None:
    pictures, keep = [picture(0), picture(1)], torch.tensor([0, 3, 9])
    with timings() as forwards:
        found = encoder.embed(pictures, keep_indices=keep)
    assert [(one.patches, one.pictures) for one in forwards] == [(3, 2)]
    pixels = encoder.processor(pictures)["pixel_values"]
    with torch.no_grad():
        tokens = encoder.model(pixels, keep_indices=keep.expand(2, -1)).last_hidden_state
    np.testing.assert_allclose(found, tokens[:, 0].numpy(), atol=1e-5)


def test_each_picture_may_have_its_own_mask_and_order_does_not_matter(encoder: Encoder) -> None:
    pictures = [picture(0), picture(1)]
    found = encoder.embed(pictures, keep_indices=[[5, 1], [2, 3]])
    for row, image, keep in zip(found, pictures, ([1, 5], [3, 2]), strict=True):
        np.testing.assert_allclose(row, encoder.embed(image, keep_indices=keep)[0], atol=1e-5)


def test_all_patches_kept_is_the_full_view(encoder: Encoder) -> None:
    np.testing.assert_allclose(
        encoder.embed(picture(), keep_indices=np.arange(16)), encoder.embed(picture()), atol=1e-5
    )


@pytest.mark.parametrize(
    ("keep", "word"),
    [
        ([], r"\(1, 0\)"),
        ([16], "runs from 16 to 16"),
        ([-1, 2], "from 0 to 15"),
        ([3, 3], "different patches"),
        ([[1], [2], [3]], r"\(3, 1\).*\(2, patches kept\)"),
        ([[[1]]], r"\(1, 1, 1\)"),
        ([0.5, 2.0], "whole numbers"),
        ([True, False], "whole numbers"),
        ([[1, 2], [3]], "whole numbers"),
    ],
)
def test_invalid_masks_are_refused_by_name(encoder: Encoder, keep: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        encoder.embed([picture(0), picture(1)], keep_indices=keep)


def test_other_sizes_interpolate_positions(encoder: Encoder) -> None:
    with timings() as forwards:
        found = encoder.embed([picture(0), picture(1)], size=24)
    assert [(one.patches, one.size) for one in forwards] == [(36, (24, 24))]
    assert np.abs(found - encoder.embed([picture(0), picture(1)])).max() > 1e-3
    assert encoder.tokens(picture(), size=8).grid == (2, 2)


@pytest.mark.parametrize(("size", "word"), [(18, "18 x 18"), (0, "whole patches"), (-4, "multiple")])
def test_sizes_that_are_no_multiple_of_the_patch_are_refused(encoder: Encoder, size: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        encoder.embed(picture(), size=size)


def test_a_size_with_too_many_patches_is_refused(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TOKENS", 30)
    with pytest.raises(InputError, match="36 patches; at most 30"):
        encoder.embed(picture(), size=24)


def test_a_bad_picture_is_an_image_error(encoder: Encoder, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        encoder.embed([picture(), bad])


def test_tokens_hold_every_layer(encoder: Encoder) -> None:
    out = encoder.tokens(picture(), keep_indices=[2, 4, 7])
    assert out.grid == (4, 4) and out.keep_indices is not None and out.keep_indices.tolist() == [[2, 4, 7]]
    assert out.hidden_states is not None and len(out.hidden_states) == 3
    assert {tuple(state.shape) for state in out.hidden_states} == {(1, 4, 16)}
    torch.testing.assert_close(encoder.model.layernorm(out.hidden_states[-1]), out.last_hidden_state)


# Memory


def test_embeddings_are_cached(encoder: Encoder, forwards: list[int]) -> None:
    pictures = [picture(seed) for seed in range(4)]
    first = encoder.embed(pictures)
    again = encoder.embed([*pictures, picture(9)])
    assert forwards == [4, 1]
    np.testing.assert_array_equal(again[:4], first)
    encoder.embed(encoded(pictures[2]))  # of one: its tokens are wanted too, so it runs once more, then never again
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
    assert encoder._cache.currsize == 3 * 16 * 4 and len(encoder._cache) == 3


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


def short_of_memory(most: int) -> Callable[..., Any]:
    timed = Encoder._timed

    def run(self: Encoder, pixels: torch.Tensor, *rest: Any) -> Any:
        if len(pixels) > most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return timed(self, pixels, *rest)

    return run


@pytest.mark.parametrize("layernorm", [True, False])
def test_a_batch_is_halved_when_memory_runs_out(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, layernorm: bool
) -> None:
    pictures = [picture(seed) for seed in range(7)]
    keep = np.stack([np.random.default_rng(seed).permutation(16)[:5] for seed in range(7)])
    expected = Encoder.random(CONFIG, device="cpu").embed(pictures, keep_indices=keep, layernorm=layernorm)
    monkeypatch.setattr(Encoder, "_timed", short_of_memory(2))
    np.testing.assert_allclose(encoder.embed(pictures, keep_indices=keep, layernorm=layernorm), expected, atol=1e-5)


def test_when_nothing_fits_it_falls_back_to_the_cpu_with_a_warning(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Encoder.random(CONFIG, device="cpu").embed(picture())
    timed, failed = Encoder._timed, []

    def once(self: Encoder, *given: Any) -> Any:
        if not failed:
            failed.append(True)
            raise torch.cuda.OutOfMemoryError("out of memory")
        return timed(self, *given)

    monkeypatch.setattr(Encoder, "_timed", once)
    with pytest.warns(UserWarning, match="not enough memory for random weights"):
        found = encoder.embed(picture())
    np.testing.assert_allclose(found, expected, atol=2e-2)  # bfloat16 where the processor has it
    assert encoder.device.type == "cpu"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")])
def test_a_machine_without_memory_is_a_sentence(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(Encoder, "_timed", fail)
    for pictures in ([picture()], [picture(1), picture(2)]):
        with pytest.raises(InputError, match=r"not enough memory for random weights with an input of 16 x 16 pixels"):
            encoder.embed(pictures)
    monkeypatch.setattr(Encoder, "_timed", lambda *_: torch.zeros(2) + torch.zeros(3))
    with pytest.raises(RuntimeError, match="size of tensor"):  # other errors are not about memory
        encoder.embed(picture())


# Heads


def test_a_folder_loads_everything(whole: Encoder, folder: Path) -> None:
    assert whole.has_classifier and whole.has_msn_head and whole.labels == list(LABELS)
    assert whole.name == whole.source == str(folder) and whole.card == CARD
    assert (whole.patch_size, whole.input_size) == ((4, 4), (16, 16))
    np.testing.assert_array_equal(whole.feature_mean, np.arange(16))  # type: ignore[arg-type]


def test_classes_are_the_softmax_of_the_linear_head(whole: Encoder, folder: Path) -> None:
    image = picture()
    head = checkpoint.load(folder).classifier
    logits = torch.from_numpy(whole.embed(image)) @ head["weight"].T + head["bias"]
    expected = logits.softmax(-1)[0]
    [found] = whole.classify(image, top_k=9)  # more than there are
    assert found.labels == [LABELS[i] for i in expected.argsort(descending=True)]
    np.testing.assert_allclose(found.probabilities, sorted(expected.tolist(), reverse=True), rtol=1e-4)
    assert len(whole.classify([image, picture(1)], top_k=2)[1].labels) == 2


def test_multi_label_models_give_independent_probabilities(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(folder)
    config = replace(loaded.config, problem_type="multi_label_classification")
    checkpoint.save(tmp_path, config, loaded.tensors, classifier=loaded.classifier, processor=loaded.processor)
    encoder, image = models.read(tmp_path), picture()
    logits = torch.from_numpy(encoder.embed(image)) @ loaded.classifier["weight"].T + loaded.classifier["bias"]
    np.testing.assert_allclose(encoder.class_probabilities(encoder.embed(image)), logits.sigmoid(), atol=1e-5)
    found = encoder._classification(np.array([0.899, 0.2, 0.866, 0.51]), 3)
    assert (found.sure, found.right, found.problem_type) == (True, 3, "multi_label_classification")
    assert found.sentence() == "This shows: siamese cat 90 %, goldfish 87 %, shark 51 %."
    doubt = encoder._classification(np.array([0.4, 0.2, 0.1, 0.0]), 3)
    assert not doubt.sure and doubt.kind is None and doubt.sentence() == "Not sure. Closest match: siamese cat (40 %)."


def test_regression_models_give_numbers(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(folder)
    config = replace(loaded.config.with_labels(id2label={0: "age"}), problem_type="regression")
    head = {name: tensor[:1] for name, tensor in loaded.classifier.items()}
    checkpoint.save(tmp_path, config, loaded.tensors, classifier=head, processor=loaded.processor)
    encoder, image = models.read(tmp_path), picture()
    value = float(encoder.embed(image)[0] @ head["weight"][0].numpy() + head["bias"][0].item())
    [found] = encoder.classify(image)
    assert found.probabilities == pytest.approx([value], abs=1e-5)
    assert found.sentence() == f"age: {value:.4g}."
    assert found.to_dict()["labels"] == [{"label": "age", "value": pytest.approx(value, abs=1e-5)}]
    assert not encoder.has_classifier and encoder.problem_type == "regression"
    with pytest.raises(MissingHeadError, match=r"gives numbers \(age\) and no probabilities of classes"):
        encoder.class_probabilities(encoder.embed(image))


def test_a_backbone_has_no_classes(encoder: Encoder) -> None:
    with pytest.raises(MissingHeadError, match="random weights is a backbone without a trained classifier"):
        encoder.classify(picture())
    with pytest.raises(MissingHeadError, match="no projector and prototypes"):
        encoder.assign(picture())
    assert encoder.labels == [] and not encoder.has_classifier and not encoder.has_msn_head


def test_top_k_below_one(whole: Encoder) -> None:
    with pytest.raises(InputError, match="top_k is 0"):
        whole.classify(picture(), top_k=0)


def test_embeddings_of_another_model_are_refused(whole: Encoder) -> None:
    with pytest.raises(InputError, match=r"\(2, 5\).*16"):
        whole.classify_embeddings(np.zeros((2, 5), np.float32))
    assert len(whole.classify_embeddings(np.zeros((2, 16)))) == 2  # float64 is as good


@pytest.mark.parametrize(
    ("probabilities", "sure", "kind", "sentence"),
    [
        ([0.7, 0.1, 0.1, 0.1], True, None, "This looks like: siamese cat (70 %)."),
        (
            [0.4, 0.3, 0.2, 0.1],
            False,
            "cat",
            "Probably a cat (70 %). Closest match: siamese cat (40 %).",
        ),
        (
            [0.1, 0.3, 0.55, 0.05],
            False,
            "fish",
            "Probably a fish (60 %). Closest match: goldfish (55 %).",
        ),
        ([0.3, 0.25, 0.25, 0.2], False, None, "Not sure. Closest match: siamese cat (30 %)."),
        ([0.999, 0.0005, 0.0005, 0], True, None, "This looks like: siamese cat (over 99 %)."),
    ],
)
def test_predictions_are_a_class_a_kind_or_not_sure(
    whole: Encoder, probabilities: list[float], sure: bool, kind: str | None, sentence: str
) -> None:
    found: Classification = whole._classification(np.array(probabilities), 4)
    assert (found.sure, found.kind, found.sentence()) == (sure, kind, sentence)
    told = found.to_dict()
    assert (told["label"], told["reason"]) == ((found.labels[0], "") if sure else (None, "not sure"))
    assert (told["closest"], told["probability"]) == (found.labels[0], max(probabilities))


def test_assignments_match_the_msn_head(whole: Encoder, folder: Path) -> None:
    loaded = checkpoint.load(folder)
    head = MSNHead.from_tensors(loaded.msn_head, 0.2, 0.5).eval()
    cls = torch.from_numpy(whole.embed([picture(0), picture(1)]))
    with torch.no_grad():
        cosine = torch.nn.functional.normalize(head(cls)) @ torch.nn.functional.normalize(head.prototypes).T
    plain = whole.assign([picture(0), picture(1)])
    np.testing.assert_allclose(plain, (cosine / 0.2).softmax(-1).numpy(), rtol=1e-4)
    sharp = whole.assign([picture(0), picture(1)], sharpen=True)
    np.testing.assert_allclose(sharp, (cosine / 0.1).softmax(-1).numpy(), rtol=1e-4)
    np.testing.assert_allclose(sharp.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(whole.assign_embeddings(cls.numpy(), sharpen=True), sharp)
    warm = whole.assign_embeddings(cls.numpy(), temperature=0.3)
    np.testing.assert_allclose(warm, (cosine / 0.3).softmax(-1).numpy(), rtol=1e-4)
    with pytest.raises(InputError, match=r"\(2, 5\).*16"):
        whole.assign_embeddings(np.zeros((2, 5), np.float32))


def test_timings_are_measured_without_the_cache(encoder: Encoder, forwards: list[int]) -> None:
    assert encoder.time(picture(), repeats=3) > 0
    assert forwards == [1] * 4
    with timings() as taken:
        assert encoder.time(picture(), repeats=1, keep_indices=[0], size=8) == taken[-1].milliseconds > 0
    assert [(one.patches, one.size) for one in taken] == [(1, (8, 8))] * 2


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


def test_patch_grid(encoder: Encoder) -> None:
    assert encoder.grid() == encoder.tokens(picture()).grid == (4, 4)
    assert encoder.grid(8) == (2, 2) and encoder.grid((8, 12)) == (2, 3)
    with pytest.raises(InputError, match="whole patches"):
        encoder.grid(9)


# What it is


def test_random_weights_are_seeded_and_leave_the_global_generator_unchanged() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = Encoder.random(CONFIG, device="cpu")
    assert torch.rand(1) == expected
    second, other = Encoder.random(CONFIG, device="cpu"), Encoder.random(CONFIG, seed=1, device="cpu")
    np.testing.assert_array_equal(first.embed(picture()), second.embed(picture()))
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_the_fingerprint_covers_everything_that_changes_embeddings(encoder: Encoder) -> None:
    state = encoder.model.state_dict()

    def fingerprint(processor: ViTMSNImageProcessor, labels: dict[int, str] | None = None, **changes: Any) -> str:
        model = ViTMSNModel(replace(CONFIG, **changes).with_labels(id2label=labels))
        model.load_state_dict(state)
        return Encoder(model, processor, name="x").fingerprint

    same = fingerprint(ViTMSNImageProcessor(16))
    assert same == encoder.fingerprint == fingerprint(ViTMSNImageProcessor(16), {0: "other"})
    changed = [
        fingerprint(ViTMSNImageProcessor(24)),
        fingerprint(ViTMSNImageProcessor(16), num_attention_heads=4),
        fingerprint(ViTMSNImageProcessor(16), layer_norm_eps=1e-3),
        fingerprint(ViTMSNImageProcessor(16), hidden_act="relu"),
        fingerprint(ViTMSNImageProcessor(16), image_size=(8, 32)),
    ]
    assert len({same, *changed}) == 6


def test_a_missing_preprocessor_file_warns(tmp_path: Path) -> None:
    ViTMSNModel(CONFIG).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").unlink(missing_ok=True)
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json"):
        encoder = Encoder.from_pretrained(tmp_path / "model", device="cpu")
    assert encoder.input_size == (16, 16)


def test_weights_need_no_gradient(encoder: Encoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training


def test_half_precision_is_near_and_gives_float32(folder: Path) -> None:
    full = Encoder.from_pretrained(folder, device="cpu", dtype="float32")
    half = Encoder.from_pretrained(folder, device="cpu", dtype="bfloat16")
    pictures = [picture(0), picture(1)]
    assert half.dtype == torch.bfloat16 and half.fingerprint == full.fingerprint
    rows = half.embed(pictures)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, full.embed(pictures), atol=0.1)
    assert half.tokens(picture()).last_hidden_state.dtype == torch.float32
    assert half.classify(picture())[0].labels  # heads stay in float32
    assert half.assign(picture()).dtype == np.float32


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


def test_every_error_is_a_vitmsn_error(encoder: Encoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for wrong in ({"size": 3}, {"keep_indices": [99]}):
            with pytest.raises(ViTMSNError):
                encoder.embed(picture(), **wrong)  # type: ignore[arg-type]


def together(encoder: Encoder, asks: list[tuple[Image.Image, dict[str, Any]]]) -> tuple[list[Any], list[Timing]]:
    """What threads get that begin while another forward runs, and the forwards that it took."""
    ran: list[Timing] = []

    def ask(picture: Image.Image, how: dict[str, Any]) -> Any:
        with timings() as forwards:
            found = encoder.tokens(picture, **how)
        ran.extend(forwards)
        return found

    with ThreadPoolExecutor(len(asks)) as threads:
        with encoder._lock:  # the other forward
            coming = [threads.submit(ask, *each) for each in asks]
            until(lambda: len(encoder._waiting) == len(asks))
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
    monkeypatch.setattr("vitmsn.encoder.TOKENS", 2 * 17)
    _, ran = together(encoder, [(picture(seed), {}) for seed in range(10, 15)])
    assert sorted(one.pictures for one in ran) == [1, 2, 2], "as many tokens as go through the network at once"


def test_pictures_that_wait_together_are_halved_where_memory_is_short(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encoder._compute

    def small(pixels: torch.Tensor, *more: Any) -> ViTMSNOutput:
        if len(pixels) > 2:
            raise MemoryError
        return real(pixels, *more)

    monkeypatch.setattr(encoder, "_compute", small)
    asks: list[tuple[Image.Image, dict[str, Any]]] = [(picture(n), {"keep_indices": [n, 7]}) for n in range(4)]
    found, ran = together(encoder, asks)
    assert [one.pictures for one in ran] == [2, 2]
    assert [its.keep_indices.tolist() for its in found] == [[[n, 7]] for n in range(4)]
