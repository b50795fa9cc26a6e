"""Arrays -> pictures: maps over photographs, hidden patches, and charts (matplotlib's Figure, never its pyplot).

Sequential values are drawn in magma (or cividis, or grey), perceptually even and color-blind safe; classes in
Okabe and Ito's order with a letter beside each color, so that no reading depends on color alone. Every function is
pure and may be called from any thread. Rows and columns of a grid are patches, row 0 on top.
"""

from __future__ import annotations

import io
import string
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitmsn import extras
from vitmsn.errors import InputError

if TYPE_CHECKING:  # matplotlib is imported when used: every page needs colors, few need charts
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scale = tuple[float, float]  # the values at the dark and at the bright end

# Okabe and Ito 2008, with grey for black: visible on light and dark backgrounds
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C")
HIDDEN = (128, 128, 128)  # patches that the model does not see
MARK = "#56B4E9"  # outlines: magma has no blue this light
PALETTES = ("magma", "cividis", "grey")  # all even to the eye and told apart by lightness alone

_LOCK = threading.Lock()  # matplotlib's settings and font caches are the process's


# ------------------------------------------------------------------------------------------------------------- colors


def class_style(index: int) -> tuple[str, str]:
    """Color ("#RRGGBB") and letter of a class: A to Z, then AA, AB, ...; colors come round after eight."""
    if index < 0:
        raise InputError(f"The class index is {index}; it must be at least 0.")
    letters, rest = "", index + 1
    while rest:
        rest, place = divmod(rest - 1, 26)
        letters = string.ascii_uppercase[place] + letters
    return OKABE_ITO[index % len(OKABE_ITO)], letters


@lru_cache(maxsize=len(PALETTES))
def _table(palette: str) -> np.ndarray:
    """(256, 3) uint8, dark to bright."""
    with extras.named():
        from matplotlib import colormaps

    if palette not in PALETTES:
        raise InputError(f"The palette is {palette!r}; choose one of {', '.join(PALETTES)}.")
    ramp = colormaps["gray" if palette == "grey" else palette](np.arange(256))
    return np.asarray((ramp[:, :3] * 255).round(), dtype=np.uint8)


def ramp(steps: int = 9, palette: str = "magma") -> list[str]:
    """The colors of a map from its low to its high end as "#rrggbb", for legends drawn elsewhere."""
    places = np.linspace(0, 255, steps).round().astype(int)
    return ["#{:02x}{:02x}{:02x}".format(*_table(palette)[place]) for place in places]


def color(values: np.ndarray, scale: Scale, palette: str = "magma") -> np.ndarray:
    """Numbers (...) -> uint8 RGB (..., 3) on ``scale``; outside it takes the nearer end's color, NaN is grey."""
    low, high = scale
    unknown = np.isnan(values)
    shares = (np.where(unknown, low, values) - low) / max(high - low, np.finfo(float).tiny)
    pixels = _table(palette)[(shares.clip(0, 1) * 255).round().astype(int)]
    pixels[unknown] = HIDDEN
    return pixels


def percent(share: float) -> str:
    """A share of 1 with two significant digits: 0.0412 -> "4.1 %"."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def own_scale(values: np.ndarray) -> Scale:
    """From 0 to the largest value; NaN is left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        raise InputError("The map holds no number to draw.")
    return 0.0, float(known.max()) or 1.0


# -------------------------------------------------------------------------------------------------- over a photograph


def overlay(
    rgb: Image.Image,
    values: np.ndarray,
    opacity: float = 0.6,
    scale: Scale | None = None,
    kept: np.ndarray | None = None,
    palette: str = "magma",
) -> Image.Image:
    """A map of patches over the photograph they were cut from.

    Args:
        values: (rows, columns); NaN where a patch was dropped, drawn grey.
        opacity: of the map, 0 (only the photograph) to 1 (only the map). The photograph loses its colors as the map
            gains on it, so that its colors are not read as the map's.
        scale: values of the dark and the bright end; 0 to the largest value by default.
        kept: (rows, columns) bool; elsewhere the photograph shows through, dim and without the map.

    Returns:
        A picture of the photograph's size.
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"The opacity is {opacity}; it must be from 0 to 1.")
    values = _grid(values, "map").astype(float)
    photo = np.asarray(rgb.convert("RGB"), dtype=np.float32)
    rows, columns = _places(rgb.size, values.shape)
    grey = np.asarray(rgb.convert("L"), dtype=np.float32)[..., None]
    photo = photo + (grey - photo) * min(1.0, 2 * opacity)
    tint = color(values, scale or own_scale(values), palette)[rows][:, columns].astype(np.float32)
    mixed = photo + (tint - photo) * opacity
    if kept is not None:
        kept = _grid(kept, "set of patches kept").astype(bool)
        if kept.shape != values.shape:
            raise InputError(f"The set of patches kept is {kept.shape} and the map {values.shape}; they must be equal.")
        mixed = np.where(kept[rows][:, columns, None], mixed, 0.35 * grey)
    return Image.fromarray(mixed.round().astype(np.uint8))


def masked_picture(rgb: Image.Image, kept: np.ndarray) -> Image.Image:
    """The photograph with grey patches where ``kept`` (rows, columns) is False: what a masked view shows the model."""
    kept = _grid(kept, "mask").astype(bool)
    rows, columns = _places(rgb.size, kept.shape)
    shown = np.asarray(rgb.convert("RGB")).copy()
    shown[~kept[rows][:, columns]] = HIDDEN
    return Image.fromarray(shown)


def highlight(picture: Image.Image, row: int, column: int, grid: tuple[int, int], color: str = MARK) -> Image.Image:
    """The picture with an outline around one patch of ``grid`` (rows, columns)."""
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise InputError(f"There is no patch at row {row}, column {column} of {grid[0]} x {grid[1]}; rows start at 0.")
    marked = picture.convert("RGB")
    width, height = marked.size
    left, right = round(column * width / grid[1]), round((column + 1) * width / grid[1]) - 1
    top, bottom = round(row * height / grid[0]), round((row + 1) * height / grid[0]) - 1
    pen = max(2, round(max(picture.size) / 200))
    drawn = ImageDraw.Draw(marked)
    drawn.rectangle((left - pen, top - pen, max(right, left) + pen, max(bottom, top) + pen), outline="black", width=pen)
    drawn.rectangle((left, top, max(right, left), max(bottom, top)), outline=color, width=pen)
    return marked


def tinted(rgb: Image.Image, colors: np.ndarray, opacity: float = 0.6) -> Image.Image:
    """Colors of patches (rows, columns, 3) from 0 to 1 over the photograph, which goes grey; NaN is a hidden patch."""
    if not 0 <= opacity <= 1:
        raise InputError(f"The opacity is {opacity}; it must be from 0 to 1.")
    known = np.where(np.isnan(colors), np.array(HIDDEN) / 255, colors)
    rows, columns = _places(rgb.size, known.shape[:2])
    photo = np.asarray(rgb.convert("RGB"), dtype=np.float32)
    grey = np.asarray(rgb.convert("L"), dtype=np.float32)[..., None]
    photo = photo + (grey - photo) * min(1.0, 2 * opacity)
    mixed = photo + (255 * known[rows][:, columns].astype(np.float32) - photo) * opacity
    return Image.fromarray(mixed.clip(0, 255).round().astype(np.uint8))


def contour(picture: Image.Image, kept: np.ndarray, color: str = MARK) -> Image.Image:
    """The picture with a line around a set of patches, (rows, columns) bool, on a black one: seen on any ground."""
    inside = _grid(kept, "set of patches").astype(bool)
    marked = picture.convert("RGB")
    drawn = ImageDraw.Draw(marked)
    (width, height), (rows, columns) = marked.size, inside.shape
    x = [round(column * width / columns) for column in range(columns + 1)]
    y = [round(row * height / rows) for row in range(rows + 1)]
    around = np.pad(inside, 1)
    upright = np.argwhere(around[1:-1, :-1] != around[1:-1, 1:])  # (row, line between columns)
    level = np.argwhere(around[:-1, 1:-1] != around[1:, 1:-1])
    lines = [((x[c], y[r]), (x[c], y[r + 1])) for r, c in upright]
    lines += [((x[c], y[r]), (x[c + 1], y[r])) for r, c in level]
    pen = max(2, round(max(picture.size) / 200))
    for ink, thick in (("black", 2 * pen), (color, pen)):
        for line in lines:
            drawn.line(line, fill=ink, width=thick)
    return marked


def beside(pictures: Sequence[Image.Image], captions: Sequence[str], side: int = 480, gap: int = 16) -> Image.Image:
    """Pictures in a row at one height, each with a line of text above it."""
    font, line = ImageFont.load_default(size=16), 28
    height = max(1, min(side, *(picture.height for picture in pictures)))
    scaled = [p.convert("RGB").resize((max(1, round(p.width * height / p.height)), height)) for p in pictures]
    sheet = Image.new("RGB", (sum(p.width for p in scaled) + gap * (len(scaled) - 1), height + line), "white")
    drawn, left = ImageDraw.Draw(sheet), 0
    for picture, caption in zip(scaled, captions, strict=True):
        words = _plain(caption, 60)
        while words and drawn.textlength(words, font) > picture.width:
            words = words[:-2].rstrip("…") + "…" if len(words) > 2 else ""
        drawn.text((left, 4), words, "black", font)
        sheet.paste(picture, (left, line))
        left += picture.width + gap
    return sheet


def head_grid(
    maps: np.ndarray, scale: Scale | None = None, zoom: int = 8, gap: int = 4, palette: str = "magma"
) -> Image.Image:
    """Small maps side by side on one scale.

    Args:
        maps: (rows of maps, columns of maps, rows, columns), like heads x layers of a model.
        scale: as for :func:`overlay`, over all maps.
        zoom: pixels of the side of a patch.
        gap: white pixels between maps; 0 puts them edge to edge.
    """
    maps = np.asarray(maps, dtype=float)
    if maps.ndim != 4 or not maps.size:
        raise InputError(f"The maps are {maps.shape}; (rows of maps, columns of maps, rows, columns) is needed.")
    pixels = color(maps, scale or own_scale(maps), palette).repeat(zoom, axis=2).repeat(zoom, axis=3)
    down, across, height, width, _ = pixels.shape
    sheet = np.full((down, across, height + gap, width + gap, 3), 255, dtype=np.uint8)
    sheet[:, :, :height, :width] = pixels
    joined = sheet.transpose(0, 2, 1, 3, 4).reshape(down * (height + gap), across * (width + gap), 3)
    return Image.fromarray(joined[: joined.shape[0] - gap, : joined.shape[1] - gap])


def with_legend(picture: Image.Image, scale: Scale, what: str = "", palette: str = "magma") -> Image.Image:
    """The picture with the color scale of its shares underneath: the ramp, its two ends, and ``what`` is shared."""
    pad, text_height = 8, 14
    strip = Image.new("RGB", (picture.width, 3 * pad + 8 + text_height), "white")
    bar = Image.fromarray(_table(palette)[None]).resize((max(picture.width - 2 * pad, 1), 8), Image.Resampling.BILINEAR)
    strip.paste(bar, (pad, pad))
    drawn, font = ImageDraw.Draw(strip), ImageFont.load_default(size=text_height)
    line = 2 * pad + 8
    first, last = (percent(end) for end in scale)
    drawn.text((pad, line), first, "black", font)
    drawn.text((strip.width - pad, line), last, "black", font, anchor="ra")
    between = strip.width - 4 * pad - drawn.textlength(first, font) - drawn.textlength(last, font)
    if drawn.textlength(what, font) <= between:
        drawn.text((strip.width / 2, line), what, "black", font, anchor="ma")
    joined = Image.new("RGB", (picture.width, picture.height + strip.height))
    joined.paste(picture, (0, 0))
    joined.paste(strip, (0, picture.height))
    return joined


# -------------------------------------------------------------------------------------------------------------- charts


def curve(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float] | np.ndarray],
    *,
    x_label: str,
    y_label: str,
    mark: tuple[float, float] | None = None,
    dark: bool = False,
) -> Image.Image:
    """Lines over ``x``: one in each color, named at its end.

    Args:
        lines: name -> (points,), or (repeats, points), drawn as their mean in a band from the least to the largest.
        mark: a point to show, like "you are here".
        dark: on a dark ground.
    """
    at = np.asarray(x, dtype=float)
    with _LOCK:
        figure, axes = _figure(6.0, 3.4, dark)
        for index, (name, values) in enumerate(lines.items()):
            runs = np.atleast_2d(np.asarray(values, dtype=float))
            if runs.shape[1] != at.size:
                raise InputError(f"The line {name!r} has {runs.shape[1]} points and x has {at.size}; they must match.")
            tone, letter = class_style(index)
            axes.plot(at, runs.mean(0), color=tone, linewidth=2, marker="o", markersize=4)
            if len(runs) > 1:
                axes.fill_between(at, runs.min(0), runs.max(0), color=tone, alpha=0.2, linewidth=0)
            end = f"{letter} {name}" if len(lines) > 1 else name
            axes.annotate(
                _plain(end),
                (at[-1], runs.mean(0)[-1]),
                (6, 0),
                textcoords="offset points",
                va="center",
                color=_ink(dark),
            )
        if mark is not None:
            axes.plot(*mark, "o", markersize=11, markerfacecolor="none", markeredgewidth=2, color=_ink(dark))
        axes.set_xlabel(_plain(x_label, 60))
        axes.set_ylabel(_plain(y_label, 60))
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        return _picture(figure)


def confusion(matrix: np.ndarray, classes: Sequence[str], dark: bool = False) -> Image.Image:
    """A confusion matrix: (C, C) counts, rows the true class, columns the answer; shade is the share of its row."""
    counts = np.asarray(matrix)
    many = len(classes)
    if counts.shape != (many, many) or not many:
        raise InputError(
            f"The confusion matrix is {counts.shape} and there are {many} classes; (classes, classes) is needed."
        )
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(1.8 + 0.5 * many, 11.0)
    letters = [class_style(index)[1] for index in range(many)]
    with _LOCK:
        figure, axes = _figure(side + 1.2, side, dark)
        axes.imshow(shares, cmap="magma", vmin=0, vmax=1)
        size = 10 if many <= 12 else 7
        axes.set_xticks(range(many), letters, fontsize=size)
        names = [_plain(f"{letter} {name}") for letter, name in zip(letters, classes, strict=True)]
        axes.set_yticks(range(many), names, fontsize=size)
        axes.set_xlabel("answer")
        axes.set_ylabel("true class")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row, column in np.argwhere(counts > 0) if many <= 25 else ():
            ink = "black" if shares[row, column] > 0.6 else "white"
            axes.text(column, row, f"{counts[row, column]:g}", ha="center", va="center", color=ink, fontsize=size)
        return _picture(figure)


def scatter(
    points: np.ndarray,
    labels: Sequence[str],
    classes: Sequence[str] | None = None,
    *,
    title: str = "",
    dark: bool = False,
) -> Image.Image:
    """A map of labelled points: (N, 2), one label each, colored and lettered by class.

    Args:
        classes: the order that gives colors and letters; the labels as they first appear by default.
    """
    at = np.asarray(points, dtype=float)
    if at.ndim != 2 or at.shape[1] != 2 or len(at) != len(labels) or not np.isfinite(at).all():
        raise InputError(
            f"The map has points {at.shape} and {len(labels)} labels; finite (N, 2) and N labels are needed."
        )
    order = list(dict.fromkeys(labels if classes is None else classes))
    if missing := set(labels) - set(order):
        raise InputError(f"The label {min(missing)!r} is not among the classes; add it.")
    owners = np.array([order.index(label) for label in labels], dtype=int)
    named = [_plain(f"{class_style(index)[1]} {name}") for index, name in enumerate(order)]
    lettered = len(at) <= 150  # beyond that letters cover one another; one at the middle of each class then
    with _LOCK:
        figure, axes = _figure(8.0, 5.0, dark)
        for index, name in enumerate(named):
            own = at[owners == index]
            tone, letter = class_style(index)
            axes.scatter(own[:, 0], own[:, 1], s=130 if lettered else 24, color=tone, linewidths=0, label=name)
            middle = own.mean(0, keepdims=True) if len(own) else own
            for place in own if lettered else middle:
                _letter(axes, letter, place, tone, alone=not lettered)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.margins(0.06)
        if title:
            axes.set_title(_plain(title, 80), fontsize=11)
        if 0 < len(order) <= 30:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=_ink(dark))
        return _picture(figure)


def _letter(axes: Axes, letter: str, place: np.ndarray, tone: str, alone: bool) -> None:
    """A class's letter on its point, in an ink that reads on its color; `alone`, larger, on a plate of it."""
    red, green, blue = (int(tone[at : at + 2], 16) for at in (1, 3, 5))
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 115 else "white"
    box = {"boxstyle": "round,pad=0.3", "facecolor": tone, "edgecolor": "none"} if alone else None
    axes.text(place[0], place[1], letter, ha="center", va="center", fontsize=11 if alone else 7, color=ink, bbox=box)


# ---------------------------------------------------------------------------------------------------------------- how


def _grid(values: np.ndarray, what: str) -> np.ndarray:
    grid = np.asarray(values)
    if grid.ndim != 2 or not grid.size:
        raise InputError(f"The {what} is {grid.shape}; (rows, columns) is needed.")
    return grid


def _places(size: tuple[int, int], grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which row and which column of the grid each pixel row and column of a (width, height) picture belongs to."""
    width, height = size
    rows = (np.arange(height) + 0.5) * grid[0] / height
    columns = (np.arange(width) + 0.5) * grid[1] / width
    return rows.astype(int), columns.astype(int)


def _ink(dark: bool) -> str:
    return "#e8eaf1" if dark else "#1c2030"


def _figure(width: float, height: float, dark: bool) -> tuple[Figure, Axes]:
    """An empty figure (inches) with one pair of axes in the page's colors; inside the lock only."""
    with extras.named():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    ground = "#12141a" if dark else "#ffffff"
    figure = Figure(figsize=(width, height), dpi=150, facecolor=ground, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=ground)
    ink = _ink(dark)
    axes.tick_params(colors=ink)
    axes.spines[:].set_edgecolor(ink)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(ink)
    return figure, axes


def _picture(figure: Figure) -> Image.Image:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)  # a class called "$5" is no formula
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    """The characters that matplotlib's own font has."""
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


def _plain(text: str, length: int = 24) -> str:
    """One short line of characters that the font has; others become boxes."""
    line = " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in str(text)).split())
    short = line if len(line) <= length else line[: length - 1] + "…"
    return "".join(c if ord(c) in _drawable() else "□" for c in short)
