"""Look at pictures through a model: classify, embed, attention, mask; and the page, where all of that is to click."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vitmsn.cli import bulk
from vitmsn.cli.inputs import Inputs, Options, load_encoder
from vitmsn.cli.output import Answer, PictureFiles, percent, write, write_table
from vitmsn.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from vitmsn.encoder import Classification, Encoder
    from vitmsn.image import Picture


# --- classify, embed -----------------------------------------------------------------------------------------------


def classify(options: Options) -> Answer | int:
    bulk.take_device(options)
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    if bulk.wanted(options):
        return bulk.classify(options, encoder, inputs)
    found, rows = [], []
    for names, pictures in inputs.chunks():
        for name, answer in zip(names, encoder.classify(pictures, top_k=options.top_k), strict=True):
            top = _top(answer)
            said = {"sure": answer.sure, "kind": answer.kind, "sentence": answer.sentence()}
            found.append({"file": name, "labels": top, **said})
            first, *others = [(entry["label"], percent(entry["probability"])) for entry in top]
            sure = "yes" if answer.sure else f"some {answer.kind}" if answer.kind else "no"
            rows.append((name, *first, sure, ", ".join(" ".join(other) for other in others[:2])))
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    result = Answer(data, ("file", "answer", "probability", "sure", "next"), rows, worked=bool(found))
    if options.out:
        write_table(result, options.out)
    return result


def _top(answer: Classification) -> list[dict[str, Any]]:
    pairs = zip(answer.labels, answer.probabilities, strict=True)
    return [{"label": label, "probability": round(share, 6)} for label, share in pairs]


def embed(options: Options) -> Answer | int:
    import numpy as np

    bulk.take_device(options)
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    if bulk.wanted(options):
        return bulk.embed(options, encoder, inputs)
    names, chunks = [], []
    for chunk, pictures in inputs.chunks():
        chunks.append(encoder.embed(pictures, size=options.size, layernorm=not options.pre_layernorm))
        names.extend(chunk)
    dim = encoder.config.hidden_size
    embeddings = np.concatenate(chunks) if chunks else np.zeros((0, dim), np.float32)
    numbers = [[round(float(value), 6) for value in row] for row in embeddings]
    data = {"model": encoder.name, "dim": dim, "files": names, "embeddings": numbers, "skipped": inputs.skipped}
    result = Answer(data, worked=bool(names), lines=[f"{len(names)} embeddings of {dim} numbers"])
    if options.out and options.out.endswith(".npz"):
        np.savez_compressed(write(options.out), files=np.array(names), embeddings=embeddings)
    elif options.out:
        result.header = ("file", *map(str, range(dim)))
        result.rows = [(name, *row) for name, row in zip(names, numbers, strict=True)]
        write_table(result, options.out)
    norms = np.linalg.norm(embeddings, axis=1)
    result.header = ("file", "norm", "first numbers")  # a terminal is no place for hundreds of columns
    result.rows = [
        (name, f"{norm:.3f}", " ".join(f"{value:.3f}" for value in row[:4]))
        for name, norm, row in zip(names, norms, embeddings, strict=True)
    ]
    return result


# --- attention, mask -----------------------------------------------------------------------------------------------


def seen(encoder: Encoder, picture: Picture) -> Image.Image:
    """The part of a picture that the model sees, in the picture's own resolution where it sees all of it."""
    from vitmsn import limits

    height, width = encoder.input_size
    whole = encoder.processor.crop is None
    shown = picture.rgb.copy() if whole else encoder.processor.view(picture, (4 * height, 4 * width))
    shown.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
    return shown


def _counted(value: int, name: str, most: int, least: int = 1) -> int:
    if not least <= value <= most:
        raise InputError(f"--{name} is {value}; it must be from {least} to {most} here.")
    return value


def attention(options: Options) -> Answer:
    from vitmsn import attention as maps
    from vitmsn import draw

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    model, config, kind = encoder.model, encoder.config, options.kind
    layer = _counted(options.layer, "layer", config.num_hidden_layers, 0) or config.num_hidden_layers
    head = _counted(options.head, "head", config.num_attention_heads, 0)
    which = {"layer": None, "head": None} if kind == "rollout" else {"layer": layer, "head": head}
    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "attention"), [], []
    for name, picture in inputs.each():
        tokens = encoder.tokens(picture, size=options.size)
        place = [_counted(options.row, "row", tokens.grid[0]), _counted(options.column, "column", tokens.grid[1])]
        row, column = (number - 1 for number in place)
        if kind == "rollout":
            values = maps.rollout(model, tokens)  # (1, patches)
        else:
            heads = (
                maps.cls_attention(model, tokens)[:, layer - 1]
                if kind == "cls"
                else maps.patch_attention(model, tokens, row * tokens.grid[1] + column, layer - 1)
            )  # (1, heads, patches)
            values = heads.mean(1) if head == 0 else heads[:, head - 1]
        grid = maps.to_grid(values, tokens)[0].numpy()
        shown = draw.overlay(seen(encoder, picture), grid, options.opacity)
        if kind == "patch":
            shown = draw.highlight(shown, row, column, tokens.grid)
        out = files.save(draw.with_legend(shown, draw.own_scale(grid), "of the attention"), name)
        entropy = round(float(maps.entropy(values)[0]), 4)
        numbers = {"grid": list(tokens.grid), "map": grid.astype(float).round(6).tolist(), "entropy": entropy}
        found.append({"file": name, "kind": kind, **which, **numbers, "out": out})
        peak = divmod(int(grid.argmax()), grid.shape[1])
        rows.append((name, f"{peak[0] + 1}.{peak[1] + 1}", percent(float(grid.max())), f"{entropy:.2f}"))
    whose = kind if kind == "rollout" else f"{kind}, layer {layer}, {f'head {head}' if head else 'mean of heads'}"
    return Answer(
        {"model": encoder.name, "pictures": found, "skipped": inputs.skipped},
        ("file", "strongest patch", "its share", "entropy"),
        rows,
        [f"{whose}; patches as row.column, entropy in nats"],
        bool(found),
    )


def mask(options: Options) -> Answer:
    import numpy as np
    import torch

    from vitmsn import draw, masking

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    (height, width), (patch_height, patch_width) = encoder.input_size, encoder.patch_size
    grid = height // patch_height, width // patch_width
    if options.paint is not None:
        keep = masking.painted_mask(masking.read_painted(options.paint, grid))
    else:
        drawn = {"random": masking.random_mask, "focal": masking.focal_mask, "block": masking.block_mask}
        keep = drawn[options.kind](grid, options.ratio, torch.Generator().manual_seed(options.seed))
    kept = masking.to_grid(keep, grid)[0].numpy()
    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "mask"), [], []
    for name, picture in inputs.each():
        pair = np.concatenate([encoder.embed(picture), encoder.embed(picture, keep_indices=keep)])
        full, masked = pair / np.maximum(np.linalg.norm(pair, axis=1, keepdims=True), 1e-12)
        answers = encoder.classify_embeddings(pair, top_k=options.top_k) if encoder.has_classifier else []
        before, after = [_top(answer) for answer in answers] or (None, None)
        similarity, times = float(full @ masked), [encoder.time(picture), encoder.time(picture, keep_indices=keep)]
        found.append(
            {
                "file": name,
                "kept": int(kept.sum()),
                "total": kept.size,
                "similarity": round(similarity, 6),
                "milliseconds_full": round(times[0], 3),
                "milliseconds_masked": round(times[1], 3),
                "top_before": before,
                "top_after": after,
                "out": files.save(draw.masked_picture(seen(encoder, picture), kept), name),
            }
        )
        labels = [answer.labels[0] for answer in answers] or ("", "")
        numbers = (f"{number:.2f}" for number in (similarity, *times))
        rows.append((name, f"{kept.sum()} of {kept.size}", *numbers, *labels))
    return Answer(
        {"model": encoder.name, "pictures": found, "skipped": inputs.skipped},
        ("file", "kept", "similarity", "ms full", "ms masked", "before", "after"),
        rows,
        worked=bool(found),
    )


# --- serve -----------------------------------------------------------------------------------------------------------


def serve(options: Options) -> int:
    # Gradio reads these when it is imported
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from vitmsn.ui.build import serve as serve_page

    return serve_page(options.model, options.host, options.port)
