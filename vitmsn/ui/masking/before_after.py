"""The loss as a picture: the prototypes of the full and the masked view, and where both attend."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vitmsn import draw, look, robustness
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.locale import later, tr, tr_html
from vitmsn.ui.shared import html, patch_grid

SIDE = 400
WHAT = later(
    "Prototypes are groups the network invented. The loss measures how differently the masked and the full picture are "
    "grouped."
)


def prototypes(encoder: Encoder, full: np.ndarray, masked: np.ndarray, name: str) -> str:
    """Paired bars of the main prototypes, and the cross-entropy with its meaning, as HTML.

    Args:
        full, masked: embeddings (1, D).
    """
    head = tr_html("<h3>Prototypes before and after</h3>")
    if not encoder.has_msn_head:
        return head + html.hint(tr("{name} has no prototypes, so there is no loss to show.", name=name))
    found = robustness.assignment(encoder, full, masked)
    rows = Markup().join(
        pair(tr("prototype {number}", number=index + 1), float(found.target[index]), float(found.anchor[index]))
        for index in found.prominent()
    )
    return tr_html(
        '<section class="msn-pairs">{}{}<p class="msn-hint"><i class="msn-before"></i> full '
        'picture, sharpened <i class="msn-after"></i> masked picture</p><ol>{}</ol>'
        "{}</section>"
    ).format(head, html.hint(tr(WHAT)), rows, html.hint(meaning(found)))


def meaning(found: robustness.Assignment) -> str:
    """The cross-entropy in one sentence."""
    best = int(found.target.argmax())
    return tr(
        "Loss (cross-entropy): {cross_entropy:.2f} nats, where {least:.2f} is full agreement and "
        "{even:.2f} a guess. Prototype {best}, the first for the full picture, has {target} there "
        "and {anchor} in the masked picture, which is not sharpened.",
        cross_entropy=found.cross_entropy,
        least=found.least,
        even=found.even,
        best=best + 1,
        target=html.percent(float(found.target[best])),
        anchor=html.percent(float(found.anchor[best])),
    )


def pair(label: str, before: float, after: float) -> Markup:
    """One line with two bars, before and after, each with its number."""
    names = tr("full picture"), tr("masked picture")
    bars = Markup().join(
        Markup(
            '<span class="msn-bar" aria-hidden="true"><span class="{}" style="width:{:.2f}%"></span></span>'
            '<span class="msn-bar-value"><span class="msn-aside">{} </span>{}</span>'
        ).format(css, 100 * value, name, html.percent(value))
        for name, css, value in zip(names, ("msn-before", "msn-after"), (before, after), strict=True)
    )
    return Markup('<li><span class="msn-bar-label">{}</span><span class="msn-pair">{}</span></li>').format(
        html.text(label, 80), bars
    )


def attention(encoder: Encoder, picture: Picture, kept: np.ndarray) -> Markup:
    """What CLS attends to in the last layer, mean of heads: with all patches, and with the kept ones only."""
    views = [None, np.flatnonzero(kept)] if not kept.all() else [None]
    maps = [look.look(encoder, picture, keep_indices=rows).values for rows in views]
    scale = 0.0, max(float(np.nanmax(values)) for values in maps)
    photo = patch_grid.seen(encoder, picture, side=SIDE)
    figures = ""
    for name, values in zip((tr("Full picture"), tr("Masked picture")), maps, strict=False):
        row, column = patch_grid.peak(values)
        alt = tr("{name}: CLS looks most at row {row}, column {column}", name=name, row=row, column=column)
        shown = draw.overlay(photo, values, 0.5, scale, ~np.isnan(values))
        most = html.share(float(np.nanmax(values)))
        caption = tr("{name}: most at row {row}, column {column}, {most}", name=name, row=row, column=column, most=most)
        figures += Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(html.img(shown, alt), caption)
    legend = patch_grid.legend(scale, tr("of CLS's attention in the last layer, mean of heads"))
    return tr_html('<section class="msn-beside"><h3>Attention before and after</h3><div>{}</div>{}{}</section>').format(
        figures, legend, html.hint(tr("Hidden patches are dark; their share goes to the patches that are left."))
    )
