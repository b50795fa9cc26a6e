"""A filmstrip: sixteen masks of the same ratio, each with its effect on the answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from markupsafe import Markup

from vitmsn import draw, robustness
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.locale import tr, tr_html, tr_said
from vitmsn.ui.masking import similarity
from vitmsn.ui.shared import html, patch_grid
from vitmsn.ui.shared.scripts import script

MANY = 16
SIDE = 160

SCRIPT = script(__file__, "filmstrip.js")


def strip(encoder: Encoder, name: str, picture: Picture, sample: Callable[[int], np.ndarray], first: int) -> Markup:
    """Sixteen masked pictures as buttons, each with its similarity and answer, and a sentence, as HTML.

    Args:
        name: the model's name.
        sample: gives the mask of a seed, (rows, columns) bool, True where a patch stays.
        first: the first seed.
    """
    seeds = range(first, first + MANY)
    kept = [sample(seed) for seed in seeds]
    seen = robustness.views(encoder, picture, np.stack([np.flatnonzero(one) for one in kept]))
    photo = patch_grid.seen(encoder, picture, side=SIDE)
    items = ""
    for place, (seed, one) in enumerate(zip(seeds, kept, strict=True)):
        centered = None if seen.centered is None else float(seen.centered[place])
        words = [similarity.alike(float(seen.similarity[place]), centered)]
        if seen.predictions is not None and seen.same is not None:
            now = tr("still {answer}") if seen.same[place] else tr("now {answer}")
            words.append(now.format(answer=tr_said(seen.predictions.name(place + 1))))
        said = ", ".join(words)
        items += tr_html(
            '<li><button type="button" data-seed="{}" aria-label="Take seed {}: {}">'
            "{}</button>"
            "<span><b>{}</b> {}</span></li>"
        ).format(seed, seed, html.text(said), html.img(draw.masked_picture(photo, one), ""), seed, html.text(said, 60))
    compared = html.hint(similarity.worth(name, seen.others, seen.centered is not None))
    return Markup('{}{}<ol class="msn-film">{}</ol>').format(html.sentence(sentence(seen)), compared, items)


def sentence(seen: robustness.Views) -> str:
    """What the masks have in common."""
    values = seen.similarity if seen.centered is None else seen.centered
    low, high = (html.similar(float(value)) for value in (values.min(), values.max()))
    if seen.predictions is None or seen.same is None:
        return tr("{many} masks: similarity {low} to {high}.", many=len(values), low=low, high=high)
    return tr(
        "{many} masks: similarity {low} to {high}, and {same} of them keep the answer, {answer}.",
        many=len(values),
        low=low,
        high=high,
        same=int(seen.same.sum()),
        answer=tr_said(seen.predictions.name(0)),
    )
