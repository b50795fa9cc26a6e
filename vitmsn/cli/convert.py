"""`convert`: any checkpoint as a model folder, or as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitmsn.cli.inputs import Options
from vitmsn.cli.output import Bar, Result
from vitmsn.errors import InputError

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder
    from vitmsn.fewshot import FewShotClassifier

ONNX = ".onnx"


def convert(options: Options) -> Result:
    if options.target.endswith(ONNX):
        return _to_onnx(options)
    asked = {"--set": options.set, "--attention": options.attention, "--re-embed": options.re_embed}
    if given := [name for name, value in asked.items() if value]:
        raise InputError(f"{given[0]} is for an ONNX file; let the target end in {ONNX}, or leave {given[0]} out.")
    return _to_folder(options)


def _to_folder(options: Options) -> Result:
    import torch

    from vitmsn import checkpoint

    loaded, target = checkpoint.load(options.source), Path(options.target)
    names = ("classifier", "msn_head", "feature_mean", "processor", "card", "temperature", "sharpening")
    extras = {name: getattr(loaded, name) for name in names}
    checkpoint.save(target, loaded.config, loaded.tensors, dtype=getattr(torch, options.dtype), **extras)
    there = {"classifier": loaded.classifier, "MSN head": loaded.msn_head, "feature mean": loaded.feature_mean}
    parts = ["backbone", *(name for name, part in there.items() if part is not None and len(part))]
    size, config = sum(file.stat().st_size for file in target.iterdir() if file.is_file()), loaded.config
    data = {"source": loaded.source, "target": str(target), "dtype": options.dtype, "parts": parts, "bytes": size}
    shape = ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size")
    row = (*(getattr(config, name) for name in shape), ", ".join(parts), f"{size / 1e6:.1f}")
    header = ("width", "layers", "heads", "patch", "size", "parts", "MB")
    return Result({**data, "config": config.to_dict()}, header, [row], [f"{target} loads here and in transformers"])


def _to_onnx(options: Options) -> Result:
    """The model with its own classifier, or with that of a saved few-shot set."""
    import torch

    from vitmsn import onnx_export
    from vitmsn.encoder import Encoder

    encoder = Encoder.from_pretrained(options.source, device="cpu", dtype="float32")
    lines: list[str] = []
    head, sure_from = None, None
    if options.set:
        head, sure_from, lines = _head_of(options, encoder)
    dtype = getattr(torch, options.dtype)
    found = onnx_export.write(
        options.target, encoder, head=head, sure_from=sure_from, attention=options.attention, dtype=dtype
    )
    row = (", ".join(found.outputs), len(found.labels), f"{found.difference:.1e}", f"{found.bytes / 1e6:.1f}")
    data = {"source": encoder.source, "dtype": options.dtype, **found.to_dict(), "set": options.set}
    lines.append(f"{found.file} gives what torch gives; {found.description.name} says how a picture goes in")
    return Result(data, ("outputs", "labels", "largest difference", "MB"), [row], lines)


def _head_of(options: Options, encoder: Encoder) -> tuple[FewShotClassifier, float, list[str]]:
    """(classifier, sure from, what to say) of a saved set."""
    from vitmsn import bundle, export
    from vitmsn.cli.fewshot import lesson_of

    gallery = bundle.load(options.set, encoder, re_embed=options.re_embed, progress=Bar("reading the set"))
    kept = gallery.settings.get("caution", 0.05)
    lesson = lesson_of(gallery, encoder, kept if isinstance(kept, float) else 0.05)
    used = export.linear_lesson(lesson, gallery, encoder) if lesson.method == "pixels" else lesson
    lines = [f"{used.method}: {used.sentence()}"]
    if used is not lesson:
        lines.append(f"the set learns raw pixels, which need no model; {used.method} was written instead")
    lines.append("'none of these' stays in the saved set; the description says when an answer is sure")
    return used.classifier, used.sure_from, lines
