"""`attention`: maps of all kinds over pictures, as a table, or side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitmsn import limits
from vitmsn.cli.inputs import Inputs, Options, load_encoder
from vitmsn.cli.output import PictureFiles, Result, percent, whole
from vitmsn.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from vitmsn.encoder import Encoder
    from vitmsn.image import Picture
    from vitmsn.look import Look


@dataclass(frozen=True)
class Seen:
    """A picture, a model, and the model's map of it."""

    name: str
    encoder: Encoder
    picture: Picture
    look: Look


def seen(encoder: Encoder, picture: Picture, size: tuple[int, int] | None = None) -> Image.Image:
    """The part of a picture that the model sees, in the picture's own resolution where it sees all of it."""
    return encoder.processor.part(picture, size)


def counted(value: int, name: str, most: int, least: int = 1) -> int:
    if not least <= value <= most:
        raise InputError(f"--{name} is {value}; it must be from {least} to {most} here.")
    return value


# --- attention -----------------------------------------------------------------------------------------------------


def attention(options: Options) -> Result:
    """A map of each picture; all heads with ``--all``; all on one scale with ``--compare`` or ``--against``."""
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    if options.all:
        return _all_heads(options, encoder, inputs)
    models = [encoder, load_encoder(_with_model(options, options.against))] if options.against else [encoder]
    together = options.compare or bool(options.against)
    numbers_only = bool(options.out and options.out.endswith(".npz"))
    files = PictureFiles(None if numbers_only or together else options.out, len(inputs.files) == 1, "attention")
    looks: list[Seen] = []  # only those drawn or written together
    found, rows = [], []
    for name, picture in inputs.each():
        for model in models:
            one = Seen(
                f"{name} ({model.name})" if options.against else name, model, picture, _look(options, model, picture)
            )
            out = None if together or numbers_only else files.save(_drawn(options, one), name)
            found.append({"file": one.name, **one.look.to_dict(), "out": out})
            rows.append(_row(one))
            if together or numbers_only:
                looks.append(one)
                counted(len(looks), "compare", limits.MAX_COMPARED)
    if options.out and looks:
        out = _save_numbers(options.out, looks) if numbers_only else _side_by_side(options, looks)
        found = [entry | {"out": out} for entry in found]
    return Result(
        {"model": encoder.name, "pictures": found, "skipped": inputs.skipped},
        ("file", "strongest patch", "its value", "half on", "entropy"),
        rows,
        [f"{_whose(options, encoder)}; patches as row.column, entropy in nats"],
        bool(found),
    )


def _with_model(options: Options, model: str) -> Options:
    other = type(options)(**vars(options))
    other.model = model
    return other


def _look(options: Options, encoder: Encoder, picture: Picture) -> Look:
    from vitmsn import attention as rows
    from vitmsn import look

    config = encoder.config
    layer = counted(options.layer, "layer", config.num_hidden_layers, 0) or config.num_hidden_layers
    head = counted(options.head, "head", config.num_attention_heads, -1)
    start = counted(options.start, "start", config.num_hidden_layers)
    size: Any = options.size
    if options.proportions:
        size = rows.fitting_size(picture.rgb.size, size or max(encoder.input_size), encoder.patch_size)
    grid = encoder.grid(size)
    row, column = counted(options.row, "row", grid[0]), counted(options.column, "column", grid[1])
    chosen = [head] if head > 0 else [counted(one, "heads", config.num_attention_heads) for one in options.heads or []]
    return look.look(
        encoder,
        picture,
        options.kind,
        layer=layer - 1,
        heads=[one - 1 for one in chosen] or None,
        how="max" if head == -1 else "mean",
        patch=(row - 1) * grid[1] + column - 1,
        start_layer=start - 1,
        label=options.label or None,
        size=size,
    )


def _row(one: Seen) -> tuple[str, ...]:
    import torch

    from vitmsn import attention as rows

    name, found = one.name, one.look
    values = found.shares
    peak = divmod(int(values.argmax()), values.shape[1])
    strongest = f"{peak[0] + 1}.{peak[1] + 1}"
    if found.signed:
        return name, strongest, f"{values.max():.2f}", "", ""
    flat = torch.from_numpy(values).flatten()
    half = f"{int(rows.mass_threshold(flat, 0.5).sum())} of {values.size}"
    return name, strongest, percent(float(values.max())), half, f"{float(rows.entropy(flat)):.2f}"


def _whose(options: Options, encoder: Encoder) -> str:
    from vitmsn import look

    said = look.KINDS[options.kind]
    if options.kind in look.THROUGH:
        return said
    said = f"{said} {options.layer or encoder.config.num_hidden_layers}"
    if options.kind in look.HEADLESS:
        return said
    together = {0: "mean of heads", -1: "largest of heads"}.get(options.head, f"head {options.head}")
    return f"{said}, {together}"


def _drawn(options: Options, one: Seen, scale: Any = None) -> Image.Image:
    import torch

    from vitmsn import attention as rows
    from vitmsn import draw, look

    found, patch = one.look, one.encoder.patch_size
    values = found.shares
    photo = seen(one.encoder, one.picture, (found.grid[0] * patch[0], found.grid[1] * patch[1]))
    kept = None
    if not found.signed and (options.keep < 100 or options.contour):
        share = counted(options.keep, "keep", 100) / 100
        share = 0.5 if share == 1 else share
        kept = rows.mass_threshold(torch.from_numpy(values).flatten(), share).view(values.shape).numpy()
    if found.colors is not None:
        shown = draw.tinted(photo, found.colors, options.opacity)
    elif options.contour:
        shown = draw.contour(photo, kept if kept is not None else values > (values.min() + values.max()) / 2)
    else:
        own = (float(values.min()), float(values.max())) if found.signed else draw.own_scale(values)
        shown = draw.overlay(photo, values, options.opacity, scale or own, kept, options.palette)
        if not found.signed:
            shown = draw.with_legend(shown, scale or own, _of(found), options.palette)
    if found.kind in look.OF_A_PATCH:
        shown = draw.highlight(shown, options.row - 1, options.column - 1, found.grid)
    return shown


def _of(found: Look) -> str:
    return "of all relevance" if found.kind == "relevance" else "of the attention"


def _side_by_side(options: Options, looks: list[Seen]) -> str:
    """All maps in a row on one color scale."""
    from vitmsn import draw
    from vitmsn.cli.output import save_picture

    values = [one.look.shares for one in looks]
    low = min(float(each.min()) for each in values) if looks[0].look.signed else 0.0
    scale = low, max(float(each.max()) for each in values)
    return save_picture(
        draw.beside([_drawn(options, one, scale) for one in looks], [one.name for one in looks]), options.out
    )


def _save_numbers(out: str, looks: list[Seen]) -> str:
    """Maps, and those of all heads, of every picture as NPZ."""
    import numpy as np

    arrays: dict[str, np.ndarray] = {"files": np.array([one.name for one in looks])}
    for number, one in enumerate(looks):
        arrays |= {f"map_{number}": one.look.shares, f"heads_{number}": one.look.maps}
        if one.look.colors is not None:
            arrays[f"colors_{number}"] = one.look.colors
    with whole(out) as fresh:
        np.savez_compressed(fresh, **arrays)  # type: ignore[arg-type]  # its stub takes the names for options
    return out


def _all_heads(options: Options, encoder: Encoder, inputs: Inputs) -> Result:
    """Every layer and head of each picture: its CLS map, distance and entropy."""
    import torch

    from vitmsn import attention as rows
    from vitmsn import draw

    files, found, table = PictureFiles(options.out, len(inputs.files) == 1, "heads"), [], []
    for name, picture in inputs.each():
        one = _look(options, encoder, picture)
        maps = torch.from_numpy(one.maps).flatten(2)  # (L, H, N)
        statistics = rows.head_statistics(encoder.model, one.tokens)
        distance, entropy, agreement = statistics.distance[0], rows.entropy(maps), rows.agreement(maps)
        reasons = {(s.layer, s.head): s.reason for s in rows.suggest(maps, distance)}
        sheet = draw.head_grid(one.maps.transpose(1, 0, 2, 3), palette=options.palette)  # heads down, layers across
        heads = []
        for layer in range(maps.shape[0]):
            for head in range(maps.shape[1]):
                numbers = [float(values[layer, head]) for values in (distance, entropy, agreement)]
                why = reasons.get((layer, head), "")
                entry: dict[str, Any] = {"layer": layer + 1, "head": head + 1}
                entry |= dict(zip(("distance", "entropy", "agreement"), (round(n, 4) for n in numbers), strict=True))
                heads.append(entry | {"suggested": why or None})
                words = (f"{numbers[0]:.2f}", f"{numbers[1]:.2f}", percent(numbers[2]), why)
                table.append((name, layer + 1, head + 1, *words))
        found.append({"file": name, "heads": heads, "out": files.save(sheet, name)})
    return Result(
        {"model": encoder.name, "pictures": found, "skipped": inputs.skipped},
        ("file", "layer", "head", "distance", "entropy", "agreement", "worth a look"),
        table,
        ["distance: patches, mean over all patches; entropy (nats) and agreement with the layer's mean: of CLS's maps"],
        bool(found),
    )
