"""From pictures to the network's input: the only preprocessing.

It gives, value for value, what the Pillow-backed ``ViTImageProcessor`` of transformers gives, so that published weights
get the input they were trained with.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitmsn import checkpoint
from vitmsn.errors import CheckpointError, InputError
from vitmsn.files import replacing
from vitmsn.image.decode import ImageSource, decode, listed

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RECIPES = ("squash", "resize-256-crop-224")

Size = int | Mapping[str, int]

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SQUARE, _EDGE = {"height": 224, "width": 224}, {"shortest_edge": 224}


def _type(
    size: Mapping[str, int], mean: Sequence[float], std: Sequence[float], *, resample: int = 3, crop: bool = False
) -> dict[str, Any]:
    return {"size": size, "image_mean": mean, "image_std": std, "resample": resample, "do_center_crop": crop}


# transformers' processors that resize, crop, rescale and normalize as we do, with the defaults of each where a file is
# silent; those not listed do something else to pictures.
_TYPES: dict[str, dict[str, Any]] = {
    "ViT": _type(_SQUARE, _HALF, _HALF, resample=2),
    "DeiT": _type({"height": 256, "width": 256}, _HALF, _HALF, crop=True),
    "Beit": _type(_SQUARE, _HALF, _HALF),
    "Pvt": _type(_SQUARE, IMAGENET_MEAN, IMAGENET_STD),
    "Siglip": _type(_SQUARE, _HALF, _HALF),
    "CLIP": _type(_EDGE, _CLIP_MEAN, _CLIP_STD, crop=True),
    "Bit": _type(_EDGE, _CLIP_MEAN, _CLIP_STD, crop=True),
}
_BY_THE_EDGE = ("Siglip", "CLIP", "Bit")  # to these, a size of one number is that of the shorter side
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Pillow's numbers


class ImageInputs(dict[str, Any]):
    """What a model is called with, ``model(**inputs)``: a dictionary whose entries are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} here, only {', '.join(self)}") from None

    def to(self, *where: Any, **how: Any) -> ImageInputs:
        """These tensors on another device or in another precision, as ``Tensor.to`` takes them; itself, changed."""
        for name, value in self.items():
            self[name] = value.to(*where, **how)
        return self


class ViTMSNImageProcessor:
    """Pictures -> ``pixel_values``, as the Pillow-backed ``ViTImageProcessor`` of transformers makes them.

    ``size``: what pictures are resized to: a whole number or ``{"height", "width"}`` squashes them, proportions lost;
    ``{"shortest_edge"}`` keeps proportions and wants a ``crop`` (a whole number or ``{"height", "width"}``), cut from
    the center. ``resample`` is one of nearest, box, bilinear, hamming, bicubic, lanczos. Then values are multiplied by
    ``rescale_factor``, ``image_mean`` is subtracted and the rest divided by ``image_std`` (a number per RGB channel).

    The two named recipes: ``squash`` (what Hugging Face users do) and ``resize-256-crop-224`` (the paper's evaluation);
    ``with_recipe`` gives one of them for this processor's input size.
    """

    def __init__(
        self,
        size: Size = 224,
        crop: Size | None = None,
        resample: str = "bilinear",
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        do_resize: bool = True,
        do_rescale: bool = True,
        do_normalize: bool = True,
        rescale_factor: float = 1 / 255,
    ) -> None:
        if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
            self.shortest_edge: int | None = _side(size["shortest_edge"], "shortest_edge")
            if crop is None:
                raise InputError(f"size {dict(size)} keeps proportions: say with crop= what to cut from the center.")
        else:
            self.shortest_edge = None
        self.resized = None if self.shortest_edge else _height_width(size, "size")
        self.crop = None if crop is None else _height_width(crop, "crop")
        if resample not in _RESAMPLE:
            raise InputError(f"resample is {resample!r}: choose one of {', '.join(_RESAMPLE)}.")
        self.resample = resample
        self.image_mean, self.image_std = _channels(image_mean, "image_mean"), _channels(image_std, "image_std")
        if min(self.image_std) <= 0:
            raise InputError(f"image_std is {self.image_std}: three numbers above 0 are needed.")
        self.do_resize, self.do_rescale, self.do_normalize = bool(do_resize), bool(do_rescale), bool(do_normalize)
        self.rescale_factor = float(rescale_factor)

    # What it is

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of what the model sees."""
        size = self.crop or self.resized
        assert size is not None  # a shortest edge comes with a crop
        return size

    @property
    def recipe(self) -> str:
        """What it is called: "squash", or "resize-<shorter side>-crop-<side>"."""
        if self.crop is None:
            return "squash"
        return f"resize-{_spell(self.shortest_edge or self.resized)}-crop-{_spell(self.crop)}"

    def with_recipe(self, recipe: str) -> ViTMSNImageProcessor:
        """The same input size and normalization, by "squash" or "resize-256-crop-224" (in proportion)."""
        height, width = self.input_size
        target = {"height": height, "width": width}
        if recipe == "squash":
            geometry: dict[str, Any] = {"size": target, "crop": None}
        elif recipe == "resize-256-crop-224":
            geometry = {"size": {"shortest_edge": round(max(height, width) * 256 / 224)}, "crop": target}
        else:
            raise InputError(f"there is no recipe {recipe!r}: choose one of {', '.join(RECIPES)}.")
        rest = ("resample", "image_mean", "image_std", "do_resize", "do_rescale", "do_normalize", "rescale_factor")
        return ViTMSNImageProcessor(**geometry, **{name: getattr(self, name) for name in rest})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ViTMSNImageProcessor) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __repr__(self) -> str:
        return f"ViTMSNImageProcessor({self.recipe}, {_spell(self.input_size)}, {self.resample})"

    # What it does

    def view(self, picture: ImageSource, size: int | tuple[int, int] | None = None) -> Image.Image:
        """Exactly what the model sees of ``picture``, before normalization: RGB, resized and cropped.

        ``size``: another input size than the processor's own, a side or (height, width), in pixels.
        """
        rgb = decode(picture).rgb
        height, width = target = self.input_size if size is None else _height_width(size, "size")
        if size is not None and not self.do_resize:
            raise InputError(f"size is {size}, but this processor does not resize: turn do_resize on.")
        if self.do_resize:
            rgb = rgb.resize(self._resized(rgb.size, target), _RESAMPLE[self.resample])
        if self.crop is not None:
            left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
            rgb = rgb.crop((left, top, left + width, top + height))  # black where the picture ends, as in transformers
        return rgb

    def _resized(self, size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
        """(width, height) to resize to, of a picture of ``size`` (width, height) for an input of (height, width)."""
        (height, width), own = target, self.input_size
        if self.shortest_edge is None:
            assert self.resized is not None
            return round(self.resized[1] * width / own[1]), round(self.resized[0] * height / own[0])
        times = max(height / own[0], width / own[1])
        if height * own[1] != width * own[0]:  # of other proportions: as much around it on the sides that limit
            least = height / own[0] * min(size) / size[1], width / own[1] * min(size) / size[0]
            times = max(least)
        shorter = round(self.shortest_edge * times)
        longer = int(shorter * max(size) / min(size))
        return (shorter, longer) if size[0] <= size[1] else (longer, shorter)

    def seen(self, size: tuple[int, int], target: tuple[int, int] | None = None) -> tuple[float, float, float, float]:
        """The part of a picture of ``size`` (width, height) that the model sees: left, top, right and bottom, as shares
        of its width and height; (0, 0, 1, 1) is all of it, less than 0 or more than 1 is black.

        ``target``: the input (height, width) in pixels, where it is not the processor's own.
        """
        if self.crop is None:
            return 0.0, 0.0, 1.0, 1.0
        height, width = target or self.input_size
        resized = self._resized(size, (height, width)) if self.do_resize else size
        left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
        return left / resized[0], top / resized[1], (left + width) / resized[0], (top + height) / resized[1]

    def part(self, picture: ImageSource, target: tuple[int, int] | None = None) -> Image.Image:
        """The part of ``picture`` that the model sees, RGB in the picture's own resolution; see :meth:`seen`."""
        rgb = decode(picture).rgb
        if self.crop is None:
            return rgb.copy()
        left, top, right, bottom = self.seen(rgb.size, target)
        width, height = rgb.size
        return rgb.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))

    def __call__(
        self,
        images: ImageSource | Iterable[ImageSource],
        size: int | tuple[int, int] | Mapping[str, int] | None = None,
        return_tensors: str | None = "pt",
        **settings: Any,
    ) -> ImageInputs:
        """``{"pixel_values": (N, 3, H, W) float32}`` of one picture or several, in anything ``decode`` takes.

        ``size`` as in ``view``, or as in ``preprocessor_config.json``, whose other settings (``do_resize``,
        ``do_center_crop``, ``image_mean``, ...) can be given for this call, too. ``return_tensors``: "pt", "np", or
        None for a list of arrays, one a picture. Raises ``ImageError`` for what cannot be decoded, ``InputError`` for
        unknown settings.
        """
        if return_tensors not in ("pt", "np", None):
            raise InputError(f'return_tensors is {return_tensors!r}: choose "pt", "np" or None.')
        if settings or isinstance(size, Mapping):
            if size is not None:
                settings["size"] = size if isinstance(size, Mapping) else _edges(_height_width(size, "size"))
            return self._with(settings)(images, return_tensors=return_tensors)
        values = self.normalized([self.view(image, size) for image in listed(images)])
        if return_tensors is None:
            return ImageInputs(pixel_values=list(values))
        return ImageInputs(pixel_values=torch.from_numpy(values) if return_tensors == "pt" else values)

    preprocess = __call__  # as transformers' processors also have it

    def normalized(self, views: Sequence[Image.Image]) -> np.ndarray:
        """What ``view`` gave, of several pictures -> (N, 3, H, W) float32."""
        if not views:
            raise InputError("there are no pictures: give at least one.")
        if len({view.size for view in views}) > 1:
            raise InputError("the pictures differ in size and do_resize is off: resize them or give them one by one.")
        table = self._table()
        found = np.empty((len(views), 3, views[0].height, views[0].width), np.float32)
        for view, channels in zip(views, found, strict=True):
            pixels = np.asarray(view)  # (H, W, 3) uint8
            for channel, values in enumerate(channels):
                np.take(table[channel], pixels[..., channel], out=values, mode="clip")  # clips nothing; it is faster
        return found

    def _with(self, settings: dict[str, Any]) -> ViTMSNImageProcessor:
        """A copy of this processor with some settings of ``preprocessor_config.json`` changed."""
        own = self.to_dict()
        if unknown := sorted(set(settings) - set(own)):
            raise InputError(f"there is no setting {unknown[0]!r}: choose among {', '.join(sorted(own))}.")
        del own["image_processor_type"]  # everything is said already
        return ViTMSNImageProcessor(**_from_transformers(own | settings))

    def _table(self) -> np.ndarray:
        """(3, 256) float32: what each 8-bit value of each channel becomes, in transformers' order of rounding."""
        values = np.arange(256, dtype=np.float64)
        if self.do_rescale:
            values = values * self.rescale_factor
        table = np.broadcast_to(values.astype(np.float32), (3, 256))
        if self.do_normalize:
            mean, std = np.array(self.image_mean, np.float32), np.array(self.image_std, np.float32)
            table = (table - mean[:, None]) / std[:, None]
        return np.ascontiguousarray(table)

    # In and out

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> ViTMSNImageProcessor:
        """From the ``preprocessor_config.json`` of a folder or hub id, as transformers 4.x and 5.x write it.

        Where there is none: ImageNet's mean and standard deviation and a 224 x 224 squash, with a warning that says so.
        """
        return cls.from_dict(checkpoint.read_processor(name_or_path), source=str(name_or_path))

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any] | None, *, source: str = "the checkpoint", size: Size = 224
    ) -> ViTMSNImageProcessor:
        """From a parsed ``preprocessor_config.json``.

        ``None`` (there is no such file) warns and takes ImageNet's mean and standard deviation and ``size``. A file
        that names its type is followed as ``AutoImageProcessor`` follows it. Raises ``CheckpointError``, naming
        ``source``, for what cannot be followed to the letter: another type of processor among them.
        """
        assumed = "ImageNet's mean and standard deviation are assumed"
        if values is None:
            values = {"size": size}
            warnings.warn(f"{source} has no preprocessor_config.json: a squash and {assumed}.", stacklevel=3)
        elif (
            not _type_name(values)
            and values.get("do_normalize", True)
            and not (values.get("image_mean") and values.get("image_std"))
        ):
            warnings.warn(f"{source}: preprocessor_config.json lacks image_mean or image_std: {assumed}.", stacklevel=3)
        try:
            return cls(**_from_transformers(values))
        except (InputError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source}: preprocessor_config.json cannot be followed: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The ``preprocessor_config.json`` that transformers 4.x and 5.x read."""
        edges = {"shortest_edge": self.shortest_edge} if self.shortest_edge else _edges(self.resized)
        return {
            # ViTImageProcessor of 4.x does not crop; Bit's does the same steps and does
            "image_processor_type": "ViTImageProcessor" if self.crop is None else "BitImageProcessor",
            "do_resize": self.do_resize,
            "size": edges,
            "resample": _RESAMPLE[self.resample],
            "do_center_crop": self.crop is not None,
            "crop_size": _edges(self.crop or self.resized),
            "do_rescale": self.do_rescale,
            "rescale_factor": self.rescale_factor,
            "do_normalize": self.do_normalize,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
        }

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``preprocessor_config.json`` into ``folder``, which is made when it is not there."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        with replacing(path / "preprocessor_config.json") as fresh:
            fresh.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def _type_name(values: Mapping[str, Any]) -> str:
    """ "ViTImageProcessorFast" -> "ViT"; "" where the file names no type."""
    named = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    return re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", named)


def _from_transformers(values: Mapping[str, Any]) -> dict[str, Any]:
    """A ``preprocessor_config.json`` -> arguments of the processor; absent keys take the defaults."""
    if kind := _type_name(values):
        if kind not in _TYPES:
            raise InputError(
                f"its type is {kind}ImageProcessor, which does something else to pictures; known are "
                f"{', '.join(_TYPES)}: write one of them."
            )
        values = _TYPES[kind] | {name: value for name, value in values.items() if value is not None}
        if isinstance(edge := values["size"], int):  # before the spelling of 4.x below
            values["size"] = {"shortest_edge": edge} if kind in _BY_THE_EDGE else {"height": edge, "width": edge}
    if values.get("do_pad"):
        raise InputError("do_pad is true, and pictures are not padded here: turn it off.")
    names = ("size", "image_mean", "image_std", "do_resize", "do_rescale", "do_normalize", "rescale_factor")
    arguments = {name: values[name] for name in names if values.get(name) is not None}
    if isinstance(size := arguments.get("size"), (list, tuple)):
        arguments["size"] = {"height": size[0], "width": size[-1]}
    for name in ("image_mean", "image_std"):
        if isinstance(arguments.get(name), (int, float)):
            arguments[name] = [arguments[name]] * 3
    if values.get("do_center_crop"):
        if isinstance(size, int) and values.get("do_resize", True):  # 4.x feature extractors that crop meant the edge
            arguments["size"] = {"shortest_edge": size}
        arguments["crop"] = values.get("crop_size") or 224
    if (resample := values.get("resample")) is not None:
        numbers = {number: name for name, number in _RESAMPLE.items()}
        arguments["resample"] = resample if isinstance(resample, str) else numbers.get(resample, str(resample))
    return arguments


def _side(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= 8192:
        raise InputError(f"{name} is {value!r}: a whole number of pixels from 1 to 8192 is needed.")
    return int(value)


def _height_width(size: Any, name: str) -> tuple[int, int]:
    if isinstance(size, Mapping):
        if set(size) != {"height", "width"}:
            raise InputError(f"{name} is {dict(size)}: a whole number or height and width are needed.")
        size = (size["height"], size["width"])
    elif not isinstance(size, (tuple, list)):
        size = (size, size)
    if len(size) != 2:
        raise InputError(f"{name} is {size}: a whole number or (height, width) is needed.")
    return _side(size[0], name), _side(size[1], name)


def _edges(size: tuple[int, int] | None) -> dict[str, int]:
    assert size is not None
    return {"height": size[0], "width": size[1]}


def _spell(size: int | tuple[int, int] | None) -> str:
    if isinstance(size, tuple):
        return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
    return str(size)


def _channels(values: Sequence[float], name: str) -> tuple[float, float, float]:
    if len(values) != 3 or not all(np.isfinite(float(value)) for value in values):
        raise InputError(f"{name} is {values}: three numbers are needed, one for each of red, green and blue.")
    return float(values[0]), float(values[1]), float(values[2])
