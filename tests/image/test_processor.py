"""The processor against transformers, value for value."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.pictures import encoded, noise
from vitmsn import checkpoint
from vitmsn.errors import CheckpointError, ImageError, InputError
from vitmsn.image import IMAGENET_MEAN, IMAGENET_STD, ViTMSNImageProcessor, decode


def reference(processor: ViTMSNImageProcessor) -> Any:
    """transformers' Pillow-backed processor, from what ours writes."""
    module = pytest.importorskip(
        "transformers.models.vit.image_processing_pil_vit", reason="transformers is the oracle"
    )
    return module.ViTImageProcessorPil(**processor.to_dict())


_GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"size": 64},
    {"size": {"height": 48, "width": 96}, "resample": "bicubic"},
    {"size": {"shortest_edge": 256}, "crop": 224},
    {"size": {"shortest_edge": 73}, "crop": {"height": 64, "width": 60}, "resample": "lanczos"},
    {"size": 40, "crop": 64},  # a crop larger than the picture is filled with black
    {"image_mean": (0.5, 0.4, 0.3), "image_std": (0.1, 0.2, 0.3), "size": 32},
    {"do_normalize": False, "size": 32},
    {"do_rescale": False, "size": 32},
    {"rescale_factor": 1 / 127.5, "resample": "nearest", "size": 32},
]


@pytest.mark.parametrize("options", _GEOMETRIES, ids=str)
def test_equal_to_transformers_value_for_value(options: dict[str, Any]) -> None:
    processor = ViTMSNImageProcessor(**options)
    oracle = reference(processor)
    generator = np.random.default_rng(3)
    sizes = [(1, 1), (224, 224), (33, 1), (640, 427), *generator.integers(20, 400, (6, 2)).tolist()]
    for seed, (width, height) in enumerate(sizes):
        image = noise(width, height, seed=seed)
        expected = oracle(image, return_tensors="pt")["pixel_values"]
        ours = processor(image)["pixel_values"]
        assert ours.dtype == torch.float32
        assert torch.equal(ours, expected.float()), (width, height)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_equal_to_transformers_on_what_was_decoded(mode: str) -> None:
    image = Image.new("I;16", (50, 30), 30000) if mode == "I;16" else noise(50, 30).convert(mode)
    processor = ViTMSNImageProcessor()
    expected = reference(processor)(decode(image).rgb, return_tensors="pt")["pixel_values"]
    assert torch.equal(processor(image)["pixel_values"], expected)


def test_batches() -> None:
    processor = ViTMSNImageProcessor(32)
    images: list[Any] = [noise(40, 30), encoded(noise(20, 50, seed=1)), decode(noise(9, 9, seed=2))]
    batch = processor(images)["pixel_values"]
    assert batch.shape == (3, 3, 32, 32)
    assert batch.is_contiguous()
    for row, image in zip(batch, images, strict=True):
        assert torch.equal(row, processor(image)["pixel_values"][0])
    array = processor(tuple(images), return_tensors="np")["pixel_values"]
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    np.testing.assert_array_equal(array, batch.numpy())


def test_view_is_what_the_model_sees() -> None:
    for processor in (ViTMSNImageProcessor(32), ViTMSNImageProcessor(32).with_recipe("resize-256-crop-224")):
        image = noise(90, 50)
        view = processor.view(image)
        assert view.mode == "RGB" and view.size == (32, 32)
        values = torch.from_numpy(np.array(view)).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
        torch.testing.assert_close(processor(image)["pixel_values"][0], (values - mean) / std, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("side", [32, 112, 224, 448])
def test_other_input_sizes_keep_the_recipe(side: int) -> None:
    image = noise(300, 200)
    squash = ViTMSNImageProcessor()
    assert squash(image, size=side)["pixel_values"].shape == (1, 3, side, side)
    assert torch.equal(squash(image, side)["pixel_values"], ViTMSNImageProcessor(side)(image)["pixel_values"])
    paper = squash.with_recipe("resize-256-crop-224")
    edge = round(side * 256 / 224)
    own = ViTMSNImageProcessor({"shortest_edge": edge}, crop=side)
    assert torch.equal(paper(image, side)["pixel_values"], own(image)["pixel_values"])
    assert squash(image, size=(side, 2 * side))["pixel_values"].shape == (1, 3, side, 2 * side)
    assert paper(image, size=(side, 2 * side))["pixel_values"].shape == (1, 3, side, 2 * side)


@pytest.mark.parametrize("target", [None, (64, 64), (128, 128), (64, 96), (96, 64)])
@pytest.mark.parametrize("size", [(300, 200), (90, 410)])
def test_the_part_that_is_seen(size: tuple[int, int], target: tuple[int, int] | None) -> None:
    image = decode(Image.linear_gradient("L").resize(size).rotate(20))
    assert ViTMSNImageProcessor(64).seen(size, target) == (0, 0, 1, 1)
    assert ViTMSNImageProcessor(64).part(image, target).size == size
    paper = ViTMSNImageProcessor(64).with_recipe("resize-256-crop-224")
    left, top, right, bottom = paper.seen(size, target)
    height, width = target or (64, 64)
    assert (right - left) * size[0] / ((bottom - top) * size[1]) == pytest.approx(width / height, rel=0.03)
    assert left + right == pytest.approx(1, abs=0.03) and top + bottom == pytest.approx(1, abs=0.03)
    assert max(right - left, bottom - top) == pytest.approx(64 / 73, abs=0.02)  # and less of the longer side
    again = np.asarray(paper.part(image, target).resize((width, height), Image.Resampling.BILINEAR), int)
    assert np.abs(again - np.asarray(paper.view(image, target), int)).mean() < 5


def test_recipes_have_names() -> None:
    squash = ViTMSNImageProcessor(image_mean=(0.1, 0.2, 0.3))
    paper = squash.with_recipe("resize-256-crop-224")
    assert (squash.recipe, paper.recipe) == ("squash", "resize-256-crop-224")
    assert paper.shortest_edge == 256 and paper.input_size == squash.input_size == (224, 224)
    assert paper.image_mean == (0.1, 0.2, 0.3)
    assert paper.with_recipe("squash") == squash
    assert ViTMSNImageProcessor(64).with_recipe("resize-256-crop-224").recipe == "resize-73-crop-64"
    with pytest.raises(InputError, match=r"choose one of squash, resize-256-crop-224"):
        squash.with_recipe("resize")


def test_processors_compare_by_what_they_do() -> None:
    assert ViTMSNImageProcessor() == ViTMSNImageProcessor({"height": 224, "width": 224})
    assert hash(ViTMSNImageProcessor()) == hash(ViTMSNImageProcessor(224))
    assert ViTMSNImageProcessor() != ViTMSNImageProcessor(resample="bicubic")
    assert "squash" in repr(ViTMSNImageProcessor())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "from 1 to"),
        ({"size": 2.5}, "whole number"),
        ({"size": True}, "whole number"),
        ({"size": "big"}, "whole number"),
        ({"size": 100_000}, "from 1 to"),
        ({"size": {"height": 3}}, "height and width"),
        ({"size": {"shortest_edge": 256}}, "crop="),
        ({"size": {"shortest_edge": 256, "longest_edge": 500}, "crop": 224}, "height and width"),
        ({"resample": "cubic"}, "choose one of nearest"),
        ({"image_mean": (0.5,)}, "image_mean"),
        ({"image_mean": (0.5, float("nan"), 0.5)}, "image_mean"),
        ({"image_std": (0.5, 0.5, 0)}, "above 0"),
    ],
    ids=str,
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ViTMSNImageProcessor(**options)


def test_invalid_calls_are_refused() -> None:
    processor = ViTMSNImageProcessor(32)
    with pytest.raises(InputError, match="no pictures"):
        processor([])
    with pytest.raises(InputError, match="return_tensors"):
        processor(noise(4, 4), return_tensors="tf")
    with pytest.raises(InputError, match="from 1 to"):
        processor(noise(4, 4), size=-1)
    with pytest.raises(ImageError, match="int"):
        processor(7)  # type: ignore[arg-type]
    fixed = ViTMSNImageProcessor(32, do_resize=False)
    assert fixed([noise(10, 12), noise(10, 12)])["pixel_values"].shape == (2, 3, 12, 10)
    with pytest.raises(InputError, match="differ in size"):
        fixed([noise(10, 12), noise(12, 10)])
    with pytest.raises(InputError, match="does not resize"):
        fixed(noise(4, 4), size=8)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_resize": False},
        {"size": {"height": 40, "width": 56}},
        {"size": {"shortest_edge": 50}, "do_center_crop": True, "crop_size": {"height": 32, "width": 48}},
        {"do_rescale": False, "image_mean": [1.0, 2.0, 3.0], "image_std": [4.0, 5.0, 6.0]},
        {"do_normalize": False, "resample": 3},
    ],
    ids=str,
)
def test_settings_of_a_call_match_transformers(settings: dict[str, Any]) -> None:
    processor, image = ViTMSNImageProcessor(32), noise(70, 60)
    wanted = reference(processor)(image, return_tensors="pt", **settings)["pixel_values"]
    assert torch.equal(processor(image, **settings)["pixel_values"], wanted)
    assert torch.equal(processor.preprocess(image, **settings)["pixel_values"], wanted)
    assert processor == ViTMSNImageProcessor(32)  # for the call only


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InputError, match="no setting 'do_flip'"):
        ViTMSNImageProcessor(32)(noise(4, 4), do_flip=True)


def test_inputs_are_a_dictionary_with_attributes() -> None:
    inputs = ViTMSNImageProcessor(32)(noise(40, 30))
    assert isinstance(inputs, dict) and {**inputs}["pixel_values"] is inputs.pixel_values
    assert inputs.to("cpu", torch.float16) is inputs and inputs.pixel_values.dtype == torch.float16
    assert pickle.loads(pickle.dumps(inputs)).pixel_values.shape == (1, 3, 32, 32)
    with pytest.raises(AttributeError, match="no 'labels' here, only pixel_values"):
        inputs.labels  # noqa: B018
    listed = ViTMSNImageProcessor(32)([noise(40, 30)] * 2, return_tensors=None)["pixel_values"]
    assert isinstance(listed, list) and [one.shape for one in listed] == [(3, 32, 32)] * 2


def test_arrays_tensors_and_iterators() -> None:
    processor, image = ViTMSNImageProcessor(32), noise(40, 30)
    array = np.asarray(image)
    wanted = processor(image).pixel_values
    for given in (array, array.transpose(2, 0, 1), torch.from_numpy(array.copy()), [array], iter([image])):
        assert torch.equal(processor(given).pixel_values, wanted)
    assert torch.equal(processor(np.stack([array, array])).pixel_values, torch.cat([wanted, wanted]))
    assert torch.equal(processor(torch.from_numpy(array.copy()).permute(2, 0, 1)[None]).pixel_values, wanted)
    assert torch.equal(processor(array).pixel_values, reference(processor)(array, return_tensors="pt")["pixel_values"])


# -- preprocessor_config.json -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", _GEOMETRIES, ids=str)
def test_saved_and_read_again(tmp_path: Path, options: dict[str, Any]) -> None:
    processor = ViTMSNImageProcessor(**options)
    processor.save_pretrained(tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["preprocessor_config.json"]
    assert ViTMSNImageProcessor.from_dict(checkpoint.read_processor(tmp_path / "model")) == processor
    assert ViTMSNImageProcessor.from_pretrained(tmp_path / "model") == processor


@pytest.mark.parametrize("recipe", ["squash", "resize-256-crop-224"])
def test_transformers_reads_what_we_write_and_we_what_it_writes(tmp_path: Path, recipe: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is the oracle")
    processor = ViTMSNImageProcessor().with_recipe(recipe)
    processor.save_pretrained(tmp_path / "ours")
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    image = noise(70, 45)
    assert torch.equal(theirs(image, return_tensors="pt")["pixel_values"], processor(image)["pixel_values"])
    theirs.save_pretrained(tmp_path / "theirs")
    assert ViTMSNImageProcessor.from_pretrained(tmp_path / "theirs") == processor


FULL: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 64, "width": 64},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
}
EDGE = {"size": {"shortest_edge": 72}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}
FOLLOWED: list[tuple[str, dict[str, Any]]] = [
    *((kind, FULL) for kind in ("ViT", "Siglip", "Pvt", "Beit")),
    *((kind, FULL | EDGE) for kind in ("Bit", "CLIP", "DeiT")),
    ("Beit", FULL | {"do_center_crop": True, "crop_size": {"height": 48, "width": 48}}),
    ("DeiT", FULL | {"size": 72, "do_center_crop": True, "crop_size": 64}),
    ("CLIP", FULL | {"size": 72, "crop_size": 64}),
    *((kind, {}) for kind in ("ViT", "DeiT", "Beit", "Pvt", "Siglip", "CLIP", "Bit")),  # what each takes by itself
]


@pytest.mark.parametrize(
    ("kind", "values"), FOLLOWED, ids=lambda value: value if isinstance(value, str) else len(value)
)
def test_files_of_other_types_are_followed_as_transformers_follows_them(
    kind: str, values: dict[str, Any], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is the oracle")
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(values | {"image_processor_type": f"{kind}ImageProcessor"})
    )
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    image = noise(90, 70)
    found = ViTMSNImageProcessor.from_pretrained(tmp_path)(image)["pixel_values"]
    assert torch.equal(theirs(image, return_tensors="pt")["pixel_values"], found)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("MobileViT", {"do_flip_channel_order": True}),
        ("EfficientNet", {"include_top": True}),
        ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
        ("DPT", {"keep_aspect_ratio": True}),
        ("Levit", EDGE),
        ("Something", {}),
    ],
)
def test_types_that_do_something_else_are_refused(kind: str, more: dict[str, Any]) -> None:
    for ending in ("ImageProcessor", "ImageProcessorFast", "FeatureExtractor"):
        values = FULL | more | {"image_processor_type": kind + ending}
        with pytest.raises(CheckpointError, match=rf"its type is {kind}ImageProcessor, .* known are ViT, DeiT"):
            ViTMSNImageProcessor.from_dict(values)


def test_the_official_checkpoints_file_of_transformers_4() -> None:
    published = {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 2,
        "size": 224,
    }
    assert ViTMSNImageProcessor.from_dict(published) == ViTMSNImageProcessor()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"size": [48, 64]}, {"size": {"height": 48, "width": 64}}),
        ({"size": [48]}, {"size": 48}),
        ({"size": 256, "do_center_crop": True, "crop_size": 224}, {"size": {"shortest_edge": 256}, "crop": 224}),
        ({"size": 224, "do_center_crop": False, "crop_size": 200}, {"size": 224}),
        ({"resample": 3}, {"resample": "bicubic"}),
        ({"resample": "lanczos"}, {"resample": "lanczos"}),
        ({"image_mean": 0.5, "image_std": 0.25}, {"image_mean": (0.5,) * 3, "image_std": (0.25,) * 3}),
        ({"do_normalize": False, "do_rescale": None}, {"do_normalize": False}),
    ],
    ids=str,
)
def test_other_spellings_of_the_settings(values: dict[str, Any], expected: dict[str, Any]) -> None:
    imagenet = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    assert ViTMSNImageProcessor.from_dict({**imagenet, **values}) == ViTMSNImageProcessor(**expected)


def test_without_a_preprocessor_file_imagenet_defaults_are_used_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json: .* ImageNet's mean"):
        assert ViTMSNImageProcessor.from_dict(None, source="a/b") == ViTMSNImageProcessor()
    with pytest.warns(UserWarning, match="ImageNet"):
        assert ViTMSNImageProcessor.from_dict(None, size=64) == ViTMSNImageProcessor(64)
    with pytest.warns(UserWarning, match="lacks image_mean"):
        assert ViTMSNImageProcessor.from_dict({"size": 32}) == ViTMSNImageProcessor(32)


@pytest.mark.parametrize(
    "values",
    [
        {"size": {"longest_edge": 200}},
        {"size": {"shortest_edge": 200}},
        {"resample": 17},
        {"size": "large"},
        {"image_mean": ["a", "b", "c"]},
        {"image_std": [0, 0, 0]},
        {"rescale_factor": {}},
        {"do_pad": True},
    ],
    ids=str,
)
def test_an_unsupported_preprocessor_file_is_refused(values: dict[str, Any]) -> None:
    imagenet = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    with pytest.raises(CheckpointError, match=r"^a/b: preprocessor_config\.json cannot be followed: "):
        ViTMSNImageProcessor.from_dict({**imagenet, **values}, source="a/b")
    assert json.dumps(values)  # such a file can exist
