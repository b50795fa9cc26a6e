"""Pieces of HTML that the steps of the walk share: sentences, pictures, and prototypes as strips of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn.nearest import PictureIndex
from vitmsn.ui.locale import tr, tr_number
from vitmsn.ui.shared import html, picture_gallery

TILES = 6  # pictures of a prototype's strip


@dataclass(frozen=True)
class Level:
    """One bar under each strip: its name, its probabilities (P,), and the CSS class that colors it."""

    name: str
    shares: np.ndarray
    css: str


def said(message: str) -> Markup:
    """The sentence of a step."""
    return html.sentence(message)


def figure(pictures: Sequence[tuple[Image.Image, str, str]], css: str) -> Markup:
    """Pictures side by side: (picture, alternative text, caption)."""
    shown = Markup().join(
        Markup("<figure>{}{}</figure>").format(
            html.img(shown, alt), Markup("<figcaption>{}</figcaption>").format(html.text(words)) if words else ""
        )
        for shown, alt, words in pictures
    )
    return Markup('<div class="msn-seen msn-seen-{}">{}</div>').format(css, shown)


def enlarged(shown: Image.Image, side: int) -> Image.Image:
    """The picture enlarged without smoothing, so that its pixels show."""
    scale = side / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    return shown.convert("RGB").resize(size, Image.Resampling.NEAREST)


def percent(value: float) -> str:
    return html.percent(float(value))


def nats(value: float) -> str:
    return tr_number(f"{value:.2f}".replace("-", "−"))


# ------------------------------------------------------------------------------------------------------------- strips


def name(number: int) -> str:
    """A prototype's name on the page."""
    return tr("Prototype {number}", number=number + 1)


def strip(index: PictureIndex | None, number: int, tiles: int = TILES, across: int = 0) -> Markup:
    """A prototype as its nearest gallery pictures, `across` in a row (all); empty without a gallery."""
    if index is None:
        return Markup()
    pictures = index.prototype(number, tiles).pictures
    return picture_gallery.strip(pictures, tr("Pictures nearest to {name}", name=name(number)), across=across)


def strips(
    index: PictureIndex | None, numbers: Sequence[int], levels: Sequence[Level], *, large: bool = True
) -> Markup:
    """Prototypes as strips, under each a bar for each level; the first strip is larger than the others."""
    top = max((float(level.shares[list(numbers)].max()) for level in levels), default=1.0) or 1.0
    rows = Markup()
    for place, number in enumerate(numbers):
        bars = Markup().join(
            Markup(
                '<div><dt>{}</dt><dd class="msn-bar" aria-hidden="true"><span class="{}" style="width:{:.2f}%"></span>'
                "</dd><dd>{}</dd></div>"
            ).format(level.name, level.css, 100 * float(level.shares[number]) / top, percent(level.shares[number]))
            for level in levels
        )
        css = "msn-proto msn-first" if large and place == 0 else "msn-proto"
        rows += Markup('<li class="{}"><p>{}</p>{}<dl>{}</dl></li>').format(
            css, name(number), strip(index, number), bars
        )
    return Markup('<ol class="msn-protos">{}</ol>').format(rows)


def leading(one: np.ndarray, other: np.ndarray, first: int = 3, more: int = 1) -> list[int]:
    """The prototypes with the largest shares of `one` (P,), then those of `other` that are not among them."""
    numbers = [int(number) for number in np.argsort(-one, kind="stable")[:first]]
    others = [int(number) for number in np.argsort(-other, kind="stable") if number not in numbers]
    return numbers + others[:more]
