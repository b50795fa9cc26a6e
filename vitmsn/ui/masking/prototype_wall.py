"""The prototype wall: prototypes as small strips of pictures, and which of them stay when patches are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn.encoder import Encoder
from vitmsn.nearest import PictureIndex
from vitmsn.ui.locale import later, tr, tr_count, tr_html
from vitmsn.ui.shared import html, picture_gallery, scripts
from vitmsn.ui.shared.checks import whole
from vitmsn.ui.shared.scripts import script

SCRIPT = script(scripts.__file__, "grid_keys.js") + script(__file__, "prototype_wall.js")
SHOW = script(__file__, "prototype_opened.js")
LEADING = 6  # prototypes of a view that count as its own
MOST = 96  # prototypes on the wall
TILES = 4  # pictures of a prototype on the wall
LARGE = 8  # pictures of the one that was clicked
SIDE = 160  # pixels of the masked picture


STANDINGS = (later("stays"), later("lost"), later("new"))  # fields of `Standing`, and their words on the page


@dataclass(frozen=True)
class Standing:
    """What hiding patches does to the first prototypes of a picture, as their numbers from 0.

    Attributes:
        stays: first for the full and for the masked picture, in the full picture's order.
        lost: first for the full picture only.
        new: first for the masked picture only.
    """

    stays: tuple[int, ...]
    lost: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.stays + self.lost + self.new

    def of(self, number: int) -> str:
        """ "stays", "lost" or "new"; "" for a prototype that is first for neither."""
        return next((word for word in STANDINGS if number in getattr(self, word)), "")


def standing(full: np.ndarray, masked: np.ndarray) -> Standing:
    """Compare the first prototypes of two views, from their probabilities (P,)."""
    before, after = (
        [int(number) for number in np.argsort(-shares, kind="stable")[:LEADING]] for shares in (full, masked)
    )
    return Standing(
        tuple(number for number in before if number in after),
        tuple(number for number in before if number not in after),
        tuple(number for number in after if number not in before),
    )


def wall(
    encoder: Encoder,
    index: PictureIndex | None,
    embeddings: tuple[np.ndarray, np.ndarray],
    masked_picture: Image.Image,
    hidden: float,
    name: str,
) -> Markup:
    """The wall for a picture and its masked view, as HTML; a sentence where the model has no prototypes.

    Args:
        index: the gallery, or None for a model too large for it.
        embeddings: of the full and the masked view, (1, D) each.
        masked_picture: what the model sees.
        hidden: the share of patches hidden.
        name: the model's name.
    """
    if not encoder.has_msn_head:
        return html.sentence(
            tr("{name} has no prototypes, so there is no wall. The nearest pictures above need none.", name=name)
        )
    if index is None:
        return html.sentence(
            tr("{name} is too large to compare with the gallery on this page, so there is no wall.", name=name)
        )
    full, masked = encoder.assign_embeddings(np.concatenate(embeddings))
    found = standing(full, masked)
    others = [number for number in index.prototypes_in_use() if number not in found.numbers]
    numbers = [*found.numbers, *others][:MOST]
    small = masked_picture.copy()
    small.thumbnail((SIDE, SIDE))
    cards = Markup().join(
        _card(index, number, place, found, float(full[number]), float(masked[number]))
        for place, number in enumerate(numbers)
    )
    return (
        Markup('<div class="msn-wall-head">{}{}</div>').format(
            html.img(small, tr("What the model sees")), html.sentence(sentence(found, hidden))
        )
        + tr_html(
            '<div class="msn-wall" role="group" aria-label="Prototypes; arrow keys move, Enter opens one">{}</div>'
        ).format(cards)
        + html.hint(
            tr(
                "{many} of {total} prototypes: the first {leading} of your picture, full and masked, "
                "then those that are first for most pictures of the gallery.",
                many=len(numbers),
                total=len(full),
                leading=LEADING,
            )
        )
    )


def sentence(found: Standing, hidden: float) -> str:
    """How many of the first prototypes stay."""
    many = len(found.stays) + len(found.lost)
    if not hidden:
        return tr("Your picture's first {many} prototypes. Hide patches and watch which of them stay.", many=many)
    return tr_count(
        len(found.stays),
        "With {hidden} hidden, {n} of your picture's first {many} prototypes stays.",
        "With {hidden} hidden, {n} of your picture's first {many} prototypes stay.",
        hidden=html.percent(hidden, whole=True),
        many=many,
    )


def _card(index: PictureIndex, number: int, place: int, found: Standing, full: float, masked: float) -> Markup:
    strip = index.prototype(number, TILES)
    word = found.of(number)
    tiles = Markup().join(picture_gallery.tile(picture.place) for picture in strip.pictures)
    shares = f"{html.percent(full)} → {html.percent(masked)}" if word else ""
    heard = tr("Prototype {number}, {name}", number=number + 1, name=tr(strip.pictures[0].name))
    heard += f", {tr(word)}, {shares}" if word else ""
    return Markup(
        '<button type="button" class="msn-card-{}" data-number="{}" tabindex="{}" aria-label="{}">'
        '<span class="msn-tiles" style="--tiles:2">{}</span><b>{}</b>{}</button>'
    ).format(
        word or "other",
        number,
        0 if place == 0 else -1,
        html.text(heard),
        tiles,
        number + 1,
        Markup("<span>{}</span><small>{}</small>").format(tr(word), shares) if word else "",
    )


def opened(index: PictureIndex, chosen: object) -> Markup:
    """The prototype that was clicked: its nearest pictures, large. InputError for a number that it does not have."""
    prototypes = 0 if index.assigned is None else index.assigned.shape[1]
    strip = index.prototype(whole(chosen, "prototype", 0, max(prototypes - 1, 0)), LARGE)
    figures = Markup().join(
        Markup("<figure>{}<figcaption>{}, {}</figcaption></figure>").format(
            html.img(picture_gallery.pieces()[picture.place].rgb, tr(picture.name)),
            html.text(tr(picture.name)),
            html.percent(picture.probability or 0.0),
        )
        for picture in strip.pictures
    )
    first = html.pictures(strip.first) if strip.first else tr("no picture")
    return (
        html.sentence(
            tr(
                "Prototype {number} is the first of {pictures} of the gallery's {many}.",
                number=strip.prototype + 1,
                pictures=first,
                many=len(index),
            )
        )
        + Markup('<div class="msn-wall-large">{}</div>').format(figures)
        + html.hint(tr("Its nearest pictures, and how much each of them belongs to it."))
    )
