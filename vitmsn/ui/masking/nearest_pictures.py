"""Retrieval under masking: the gallery pictures nearest to the full and to the masked picture, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn.nearest import NearPicture, PictureIndex, kept
from vitmsn.ui.locale import tr, tr_count, tr_html
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
    head = tr_html("<h3>Nearest pictures of the gallery</h3>")
    if index is None:
        return head + html.hint(tr("{name} is too large to compare with the gallery on this page.", name=name))
    full, masked = index.nearest(np.concatenate(embeddings), COUNT)
    rows = _row(tr("Full picture"), tr("Nearest to the full picture"), pictures[0], full, ())
    rows += _row(tr("Masked picture"), tr("Nearest to the masked picture"), pictures[1], masked, full)
    credits = tr_html('<details class="msn-credits"><summary>Credits</summary><p>{}.</p></details>').format(
        html.text(picture_gallery.credits(), 2000)
    )
    return Markup('<section class="msn-retrieval">{}{}<ol>{}</ol>{}{}</section>').format(
        head,
        html.sentence(sentence(full, masked, hidden)),
        rows,
        html.hint(tr("Ringed: near both. The gallery: {many} pieces of photographs.", many=len(index))),
        credits,
    )


def sentence(full: Sequence[NearPicture], masked: Sequence[NearPicture], hidden: float) -> str:
    """How many of the nearest pictures stay the same when a share of the patches is hidden."""
    if not hidden:
        return tr("Nothing is hidden, so the nearest pictures are the same.")
    same, many = kept(full, masked), len(full)
    if same == 0:
        return tr(
            "With {hidden} hidden, none of the {many} nearest pictures stays.",
            hidden=html.percent(hidden, whole=True),
            many=many,
        )
    if full[0].place != masked[0].place:
        first = tr("but another one is nearest")
    else:
        first = tr("and the nearest one is the same") if same == many else tr("the nearest one too")
    return tr_count(
        same,
        "With {hidden} hidden, {n} of the {many} nearest pictures stays, {first}.",
        "With {hidden} hidden, {n} of the {many} nearest pictures stay, {first}.",
        hidden=html.percent(hidden, whole=True),
        many=many,
        first=first,
    )


def _row(
    words: str, heard: str, picture: Image.Image, near: Sequence[NearPicture], others: Sequence[NearPicture]
) -> Markup:
    shown = picture.copy()
    shown.thumbnail((SIDE, SIDE))
    tiles = picture_gallery.strip(near, heard, {other.place for other in others})
    return Markup("<li><figure>{}<figcaption>{}</figcaption></figure>{}</li>").format(html.img(shown, ""), words, tiles)
