"""The Attention tab's controls, the map they ask for, and the sentence about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image

from vitmsn import attention, draw, limits
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.look import OF_A_PATCH, Look, look
from vitmsn.masking import Keep
from vitmsn.outputs import ViTMSNOutput
from vitmsn.ui.locale import later, tr, tr_number
from vitmsn.ui.shared import html, patch_grid
from vitmsn.ui.shared.checks import choice, whole
from vitmsn.ui.visits import Call

KINDS = {
    "cls": later("CLS"),
    "rollout": later("Rollout"),
    "relevance": later("Relevance"),
    "patch": later("From a patch"),
    "to": later("To a patch"),
    "similar": later("Like a patch"),
    "colors": later("Colors"),
}
COSTLY_SIDE = 256  # of the input in pixels
SHAPES = {"overlay": later("overlay"), "contour": later("contour")}


@dataclass(frozen=True)
class AttentionControls:
    """The values of the tab's controls.

    Layers, heads, rows and columns count from 1; layer 0 is the last, head 0 the mean and -1 the largest of all.
    """

    kind: str = "cls"
    layer: int = 0
    head: int = 0
    keep: int = 100  # percent of the attention that is marked
    size: int = 0  # side of the input in pixels; 0: the model's own
    strength: int = 50  # percent of the map over the photograph
    start: int = 1  # rollout and relevance go back to this layer
    row: int = 1
    column: int = 1
    label: str = ""  # the class that relevance explains; "" is the model's answer
    palette: str = "magma"
    shape: str = "overlay"
    aspect: bool = False  # keep the picture's proportions
    some: list[int] = field(default_factory=list)  # heads for the mean or the maximum; empty: all
    order: str = "layer"  # of the small maps
    beside: str = ""  # what to compare with
    other: str = "coffee"  # the other picture
    ratio: int = 70  # percent hidden of the other view
    seed: int = 0

    @property
    def costly(self) -> bool:
        """Whether these take seconds: large inputs, and relevance, which goes forward and back."""
        return self.kind == "relevance" or self.size >= COSTLY_SIDE

    def input_size(self, encoder: Encoder, picture: Picture) -> patch_grid.Size:
        return patch_grid.proportioned(encoder, picture, self.size) if self.aspect else self.size


@dataclass(frozen=True)
class Sight:
    """The maps of an answer: `values` (rows, columns) is the map asked for, `maps` (layers, heads, rows, columns) what
    the chosen token attends to in every head. Values are shares of all attention, CLS included, or of all relevance."""

    ask: AttentionControls
    values: np.ndarray
    maps: np.ndarray
    tokens: ViTMSNOutput
    colors: np.ndarray | None = None
    explained: np.ndarray | None = None
    label: str | None = None
    look: Look | None = None  # the library call that gives the values

    @property
    def grid(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def signed(self) -> bool:
        """Whether the values may be negative: similarities, not shares."""
        return self.ask.kind in ("similar", "colors")

    @property
    def scale(self) -> draw.Scale:
        if not self.signed:
            return draw.own_scale(self.values)
        return float(np.nanmin(self.values)), float(np.nanmax(self.values))

    @property
    def what(self) -> str:
        """What the color scale measures."""
        if self.ask.kind == "to":
            return tr("of a patch's attention, on {place}", place=self.place)
        if self.ask.kind == "similar":
            return tr("cosine similarity to {place}", place=self.place)
        if self.ask.kind == "relevance":
            return tr("of all relevance, on one patch")
        if self.ask.kind == "rollout":
            return tr("reaches CLS from one patch")
        return tr("of the attention, on one patch")

    @property
    def place(self) -> str:
        return tr("the patch at row {row}, column {column}", row=self.ask.row, column=self.ask.column)

    @property
    def whom(self) -> str:
        """'CLS', or 'the patch at row 2, column 3'."""
        return self.place if self.ask.kind in ("patch", "to") else "CLS"

    @property
    def together(self) -> str:
        """'head 2', 'mean of heads', 'largest of heads 1 and 3'."""
        if self.ask.head > 0:
            return tr("head {number}", number=self.ask.head)
        if self.ask.some:
            how = tr("mean of heads {listed}") if self.ask.head == 0 else tr("largest of heads {listed}")
            return how.format(listed=_listed(self.ask.some))
        return tr("mean of heads") if self.ask.head == 0 else tr("largest of heads")

    @property
    def subject(self) -> str:
        """'layer 6, mean of heads', for sentences and alternative texts."""
        ask = self.ask
        if ask.kind in ("rollout", "relevance"):
            last = len(self.maps)
            if ask.kind == "rollout":
                return tr("rollout from layer {start} to {last}", start=ask.start, last=last)
            through = tr("relevance from layer {start} to {last}", start=ask.start, last=last)
            return tr("{through} for {label}", through=through, label=self.label) if self.label else through
        if ask.kind in ("similar", "colors"):
            return tr("tokens after layer {layer}", layer=ask.layer)
        return tr("layer {layer}, {together}", layer=ask.layer, together=self.together)

    @property
    def alt(self) -> str:
        row, column = patch_grid.peak(self.values)
        if self.ask.kind == "colors":
            return tr("Principal components of the {subject} as colors", subject=self.subject)
        if self.ask.kind == "similar":
            return tr("Similarity to {place} of the {subject}", place=self.place, subject=self.subject)
        whose = {
            "relevance": tr("{subject}, peak at row {row}, column {column}"),
            "rollout": tr("Attention {subject}, peak at row {row}, column {column}"),
            "to": tr("Attention paid to the patch in {subject}, peak at row {row}, column {column}"),
        }.get(self.ask.kind, tr("Attention of {subject}, peak at row {row}, column {column}"))
        said = whose.format(subject=self.subject, row=row, column=column)
        return said[0].upper() + said[1:]


def see(encoder: Encoder, picture: Picture, ask: AttentionControls, keep_indices: Keep = None) -> Sight:
    """The map asked for and all heads' maps. InputError: this model or grid has no such layer, head, patch or class."""
    choice(ask.kind, "kind", KINDS)
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    layer = whole(ask.layer, "layer", 0, layers) or layers
    head = whole(ask.head, "head", -1, many)
    start = whole(ask.start, "start", 1, layers)
    size = whole(ask.size, "size", 0, 4096)
    some = [whole(number, "head", 1, many) for number in ask.some or []]
    ask = replace(ask, layer=layer, head=head, size=size, start=start, some=some)
    pixels = ask.input_size(encoder, picture)
    rows, columns = patch_grid.grid(encoder, pixels)
    row, column = whole(ask.row, "row", 1, rows), whole(ask.column, "column", 1, columns)
    chosen = [head - 1] if head > 0 else [number - 1 for number in some] or None
    found: Look = look(
        encoder,
        picture,
        ask.kind,
        layer=layer - 1,
        heads=chosen,
        how="max" if head == -1 else "mean",
        patch=(row - 1) * columns + column - 1,
        start_layer=start - 1,
        label=ask.label or None,
        size=pixels or None,
        keep_indices=keep_indices,
    )
    ask = replace(ask, row=row, column=column)
    return Sight(ask, found.shares, found.maps, found.tokens, found.colors, found.explained, found.label, found)


def sizes(encoder: Encoder) -> list[tuple[str, int]]:
    """Input sizes to offer, as (label, side): 0 for the model's own, and multiples of its patch around it."""
    (height, width), patch = encoder.input_size, max(encoder.patch_size)
    if encoder.patch_size[0] != encoder.patch_size[1]:
        return [(f"{height} × {width}", 0)]
    small = max(height, width) <= 64
    factors = (1, 2, 3, 4) if small else (0.5, 1, 1.5, 2)
    sides = [round(max(height, width) * factor / patch) * patch for factor in factors]
    offered = {0 if (side, side) == (height, width) else side for side in sides}
    offered = {side for side in offered if (side // patch) ** 2 <= limits.MAX_TOKENS} | {0}
    own = f"{height}" if height == width else f"{height} × {width}"
    return [(str(side) if side else own, side) for side in sorted(offered, key=lambda side: side or max(height, width))]


# ------------------------------------------------------------------------------------------------------------ sentences


def sentence(found: Sight, mass: float) -> str:
    """What the map shows, in one sentence with numbers."""
    ask, total = found.ask, found.values.size
    row, column = patch_grid.peak(found.values)
    most = float(np.nanmax(found.values))
    if ask.kind == "colors":
        assert found.explained is not None
        share = html.share(float(found.explained.sum()))
        return tr(
            "After layer {layer}, three components explain {share} of how the {total} patch tokens vary.",
            layer=ask.layer,
            share=share,
            total=total,
        )
    if ask.kind == "similar":
        return _alike(found)
    if ask.kind == "relevance" and not most:
        return tr(
            "Through layers {start} to {last}, no head's attention speaks for {label}.",
            start=ask.start,
            last=len(found.maps),
            label=found.label,
        )
    average = tr("{times} the average patch", times=times(most / float(np.nanmean(found.values))))
    if ask.kind in ("rollout", "relevance"):
        through = (
            tr("Through layers {start} to {last}, row {row}, column {column} reaches CLS most: {most}, {average}")
            if ask.kind == "rollout"
            else tr(
                "Through layers {start} to {last}, row {row}, column {column} speaks for {label} most: {most}, "
                "{average}"
            )
        )
        said = through.format(
            start=ask.start,
            last=len(found.maps),
            row=row,
            column=column,
            label=found.label,
            most=html.share(most),
            average=average,
        )
    elif ask.kind == "to":
        said = tr(
            "In {subject}, {place} is looked at most by row {row}, column {column}, "
            "which gives it {most} of its attention, {average}",
            subject=found.subject,
            place=found.place,
            row=row,
            column=column,
            most=html.share(most),
            average=average,
        )
    else:
        said = tr(
            "In {subject}, {whom} looks most at row {row}, column {column}: {most} of its attention, {average}",
            subject=found.subject,
            whom=found.whom,
            row=row,
            column=column,
            most=html.share(most),
            average=average,
        )
    if mass < 1:
        kept = int(brightest(found.values, mass).sum())
        held = {
            "relevance": tr("; {mass} of the relevance is on {kept} of {total} patches"),
            "to": tr("; {mass} of the attention it gets comes from {kept} of {total} patches"),
        }.get(ask.kind, tr("; {mass} of the attention on patches is on {kept} of {total} patches"))
        said += held.format(mass=html.share(mass), kept=kept, total=total)
    return f"{said}."


def _alike(found: Sight) -> str:
    others = found.values.copy()
    others[found.ask.row - 1, found.ask.column - 1] = np.nan  # itself
    if np.isnan(others).all():
        return tr("After layer {layer}, {place} is the only one.", layer=found.ask.layer, place=found.place)
    (row, column), (last_row, last_column) = patch_grid.peak(others), patch_grid.peak(-others)
    return tr(
        "After layer {layer}, {place} is most like row {row}, column {column} (similarity {highest}) "
        "and least like row {last_row}, column {last_column} ({lowest}); the mean is {mean}.",
        layer=found.ask.layer,
        place=found.place,
        row=row,
        column=column,
        highest=html.similar(float(np.nanmax(others))),
        last_row=last_row,
        last_column=last_column,
        lowest=html.similar(float(np.nanmin(others))),
        mean=html.similar(float(np.nanmean(others))),
    )


def times(ratio: float) -> str:
    """How many times the average patch: "8 ×", "1.4 ×"."""
    return tr_number(f"{ratio:.0f} ×" if ratio >= 2.95 else f"{float(f'{ratio:.2g}'):g} ×")


def drawn(found: Sight, photo: Image.Image, scale: draw.Scale | None = None) -> Image.Image:
    """The map drawn over the photograph, as the controls ask."""
    ask = found.ask
    mass, strength = whole(ask.keep, "keep", 5, 100) / 100, whole(ask.strength, "strength", 0, 100) / 100
    choice(ask.shape, "shape", SHAPES)
    if found.colors is not None:
        shown = draw.tinted(photo, found.colors, strength)
    else:
        kept = brightest(found.values, mass) if mass < 1 and not found.signed else None
        if ask.shape == "contour":
            shown = draw.contour(photo, inside(found))
        else:
            shown = draw.overlay(photo, found.values, strength, scale or found.scale, kept, ask.palette)
    if ask.kind in OF_A_PATCH:
        shown = draw.highlight(shown, ask.row - 1, ask.column - 1, found.grid)
    return shown


def inside(found: Sight) -> np.ndarray:
    """The patches inside the contour: bool, in the map's shape."""
    if found.signed:
        return found.values > sum(found.scale) / 2
    return brightest(found.values, found.ask.keep / 100 if found.ask.keep < 100 else 0.5)


def brightest(values: np.ndarray, mass: float) -> np.ndarray:
    """The smallest set of patches that holds `mass` of the map: bool, in its shape."""
    known = torch.from_numpy(np.nan_to_num(values, nan=0.0)).flatten()
    return attention.mass_threshold(known, mass).view(values.shape).numpy()


def code(call: Call, found: Sight) -> list[str]:
    """Python lines that give the same map, after the imports and the encoder."""
    ask = found.ask
    words = [f"encoder, {patch_grid.file_name(call)!r}, {ask.kind!r}"]
    if ask.kind not in ("rollout", "relevance"):
        words.append(f"layer={ask.layer - 1}")
    if ask.kind in ("cls", "patch", "to"):
        chosen = [ask.head - 1] if ask.head > 0 else [number - 1 for number in ask.some]
        words += [f"heads={chosen}"] if chosen else []
        words += ["how='max'"] if ask.head == -1 else []
    if ask.kind in OF_A_PATCH:
        words.append(f"patch={(ask.row - 1) * found.grid[1] + ask.column - 1}")
    if ask.kind in ("rollout", "relevance") and ask.start > 1:
        words.append(f"start_layer={ask.start - 1}")
    if ask.kind == "relevance" and ask.label:
        words.append(f"label={ask.label!r}")
    if size := ask.input_size(call.encoder, call.picture):
        words.append(f"size={size}")
    shown = "colors" if ask.kind == "colors" else "values"
    return [f"found = look({', '.join(words)})", f"print(found.{shown}.round(4))"]


def _listed(numbers: list[int]) -> str:
    words = [str(number) for number in numbers]
    if len(words) == 1:
        return words[0]
    return tr("{first} and {last}", first=", ".join(words[:-1]), last=words[-1])
