"""Retrieval under masking: the gallery pictures nearest to the full and to the masked picture, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn.nearest import NearPicture, PictureIndex, kept
from vitmsn.ui.shared import html, picture_gallery

COUNT = 5
SIDE = 160  # pixels of the picture beside its nearest ones


def section(
    index: PictureIndex | None,
    pictures: tuple[Image.Image, Image.Image],
    embeddings: tuple[np.ndarray, np.ndarray],
    hidden: float,
    name: str,
) -> Markup:
    """The nearest pictures of both views, with how many stay the same, as HTML.

    Args:
        index: the gallery, or None for a model too large for it.
        pictures: the full picture and the masked one.
        embeddings: theirs, (1, D) each.
        hidden: the share of patches hidden.
        name: the model's name.
    """
    head = Markup("<h3>Nearest pictures of the gallery</h3>")
    if index is None:
        return head + html.hint(f"{name} is too large to compare with the gallery on this page.")
    full, masked = index.nearest(np.concatenate(embeddings), COUNT)
    rows = _row("Full picture", pictures[0], full, ()) + _row("Masked picture", pictures[1], masked, full)
    credits = Markup('<details class="msn-credits"><summary>Credits</summary><p>{}.</p></details>').format(
        html.text(picture_gallery.credits(), 2000)
    )
    return Markup('<section class="msn-retrieval">{}{}<ol>{}</ol>{}{}</section>').format(
        head,
        html.sentence(sentence(full, masked, hidden)),
        rows,
        html.hint(f"Ringed: near both. The gallery: {len(index)} pieces of photographs."),
        credits,
    )


def sentence(full: Sequence[NearPicture], masked: Sequence[NearPicture], hidden: float) -> str:
    """How many of the nearest pictures stay the same when a share of the patches is hidden."""
    if not hidden:
        return "Nothing is hidden, so the nearest pictures are the same."
    same, many = kept(full, masked), len(full)
    first = "the nearest one too" if full[0].place == masked[0].place else "but another one is nearest"
    if same == 0:
        return f"With {html.percent(hidden, whole=True)} hidden, none of the {many} nearest pictures stays."
    if full[0].place == masked[0].place and same == many:
        first = "and the nearest one is the same"
    verb = "stays" if same == 1 else "stay"
    return f"With {html.percent(hidden, whole=True)} hidden, {same} of the {many} nearest pictures {verb}, {first}."


def _row(words: str, picture: Image.Image, near: Sequence[NearPicture], others: Sequence[NearPicture]) -> Markup:
    shown = picture.copy()
    shown.thumbnail((SIDE, SIDE))
    tiles = picture_gallery.strip(near, f"Nearest to the {words.lower()}", {other.place for other in others})
    return Markup("<li><figure>{}<figcaption>{}</figcaption></figure>{}</li>").format(html.img(shown, ""), words, tiles)
