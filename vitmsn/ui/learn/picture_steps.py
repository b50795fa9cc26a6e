"""Steps 4 to 8 of the walk, in pictures: what tokens attend to, nearest pictures, prototypes as strips of pictures."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageChops

from vitmsn import draw
from vitmsn.encoder import Encoder
from vitmsn.nearest import kept
from vitmsn.ui.learn.figures import (
    Level,
    enlarged,
    leading,
    name,
    nats,
    percent,
    said,
    strip,
    strips,
)
from vitmsn.ui.learn.walkthrough import NEAR, Assigned, TokenAttention, View, Walk, entropy
from vitmsn.ui.locale import ENGLISH, current, later, tr, tr_html
from vitmsn.ui.shared import examples, html, patch_grid, picture_gallery

LARGE, SMALL = 384, 144  # pixels of CLS's picture, and of another token's
SOURCE = 96  # pixels of a view beside its result
DARKEST = 0.12  # brightness of a patch without attention
COLUMNS = 4  # prototypes in the table of the loss
NO_GALLERY = later("This model is too large to compare with the gallery here, so numbers stand in for pictures.")


# ------------------------------------------------------------------------------------------------------------- tokens


def tokens(encoder: Encoder, lesson: Walk) -> Markup:
    view, (cls, *patches) = lesson.views[1], lesson.looks
    seen = enlarged(encoder.processor.view(view.picture, encoder.input_size), LARGE)
    row, column = patch_grid.peak(cls.values)
    most, even = float(np.nanmax(cls.values)), 1 / len(lesson.kept)
    others = Markup().join(_look(seen, look, SMALL) for look in patches)
    return (
        said(
            tr(
                "The {kept} patches that are left become {kept} tokens, and CLS joins them. In layer "
                "{layer} of {layers} CLS looks most at row {row}, column {column}: {most} of its attention, "
                "{times:.1f} × an even share.",
                kept=len(lesson.kept),
                layer=lesson.ask.layer,
                layers=encoder.config.num_hidden_layers,
                row=row,
                column=column,
                most=percent(most),
                times=most / even,
            )
        )
        + Markup('<div class="msn-looks">{}<div>{}</div></div>').format(_look(seen, cls, LARGE), others)
        + html.hint(
            tr(
                "Each picture is one token: the brighter a patch, the more the token looks at it (mean of heads). "
                "Its own patch is outlined. Gray patches were dropped: no token can look there."
            )
        )
    )


def _look(seen: Image.Image, look: TokenAttention, side: int) -> Markup:
    """One token as the picture of what it attends to."""
    height = round(side * seen.height / seen.width)
    shown = spotlight(seen, look.values).resize((side, height), Image.Resampling.BOX)
    to_row, to_column = patch_grid.peak(look.values)
    if look.patch is None:
        who, caption = tr("CLS"), tr("CLS, the summary")
    else:
        row, column = divmod(look.patch, look.values.shape[1])
        shown = draw.highlight(shown, row, column, look.values.shape)
        who = caption = tr("row {row}, column {column}", row=row + 1, column=column + 1)
    alt = tr(
        "What the token {who} attends to: most to row {to_row}, column {to_column}",
        who=who,
        to_row=to_row,
        to_column=to_column,
    )
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(html.img(shown, alt), caption)


def spotlight(seen: Image.Image, values: np.ndarray) -> Image.Image:
    """The picture, each patch as bright as its share of `values` (rows, columns); gray where that is NaN."""
    share = np.sqrt(np.nan_to_num(values) / np.nanmax(values))  # the eye tells dark shades apart better than bright
    light = Image.fromarray((255 * (DARKEST + (1 - DARKEST) * share)).astype(np.uint8))
    lit = ImageChops.multiply(seen, Image.merge("RGB", [light.resize(seen.size, Image.Resampling.NEAREST)] * 3))
    return draw.masked_picture(lit, ~np.isnan(values))


# --------------------------------------------------------------------------------------------------------- embeddings


def embeddings(encoder: Encoder, lesson: Walk) -> Markup:
    title = tr(examples.by_name(lesson.ask.other).title)
    masked, *close = lesson.similarity
    numbers = [1.0, masked, *close, lesson.other]
    sources = [(view.title, _seen(lesson, view)) for view in lesson.views]
    sources.append((title, examples.by_name(lesson.ask.other).picture.rgb))
    rows = Markup()
    for place, ((words, picture), number) in enumerate(zip(sources, numbers, strict=True)):
        near = Markup()
        if lesson.near:
            mine, same = lesson.near[place], {picture.place for picture in lesson.near[0]}
            ringed = same if place else set()
            near = picture_gallery.strip(mine, tr("Gallery pictures nearest to the {words}", words=words), ringed)
        said_of = (
            "" if place == 0 else Markup("<span>{}</span>").format(tr("similarity {value}", value=html.similar(number)))
        )
        rows += Markup("<li>{}<p><b>{}</b>{}</p>{}</li>").format(_source(picture, words), words, said_of, near)
    shown = Markup('<ol class="msn-alike">{}</ol>').format(rows)
    if not lesson.near:
        return (
            said(
                tr(
                    "The last CLS token is the embedding. The masked view's is {masked} similar to the "
                    "full view's, another picture's {other}.",
                    masked=html.similar(masked),
                    other=html.similar(lesson.other),
                )
            )
            + shown
            + html.hint(tr(NO_GALLERY))
        )
    first = lesson.near[0]
    counts = [kept(first, near) for near in lesson.near[1:]]
    found = tr("the close-ups {least} to {most}", least=min(counts[1:-1]), most=max(counts[1:-1]))
    ring = tr("Ringed: also nearest to the full view. Similarity is with the full view: 1 = same, 0 = unrelated.")
    return (
        said(
            tr(
                "Of the full view's {near} nearest pictures the masked view finds {masked}, {close}, and "
                "another picture ({title}) {other}.",
                near=NEAR,
                masked=counts[0],
                close=found,
                title=examples.inside(title),
                other=counts[-1],
            )
        )
        + shown
        + html.hint(ring)
    )


def _seen(lesson: Walk, view: View) -> Image.Image:
    """A view as the network sees it: the masked view with its dropped patches gray."""
    if view is not lesson.views[1]:
        return view.picture.rgb
    there = np.zeros(lesson.grid, bool)
    there.flat[lesson.kept] = True
    return draw.masked_picture(view.picture.rgb, there)


def _source(picture: Image.Image, words: str) -> Markup:
    """A small picture of what a result comes from."""
    shown = picture.copy()
    shown.thumbnail((SOURCE, SOURCE))
    return html.img(shown, words, "msn-source")


# --------------------------------------------------------------------------------------------------------- prototypes


def prototypes(encoder: Encoder, lesson: Walk) -> Markup:
    found = _assigned(lesson)
    full, masked = found.views[0], found.views[1]
    first, also = int(full.argmax()), int(masked.argmax())
    verdict = tr("the same") if first == also else tr("another one, prototype {number}", number=also + 1)
    agree = sum(int(row.argmax()) == first for row in found.views[2:])
    close = len(found.views) - 2
    return (
        said(
            tr(
                "Of {many} prototypes the full view belongs most to prototype {first} ({share}). The "
                "masked view's first is {verdict} ({masked}); {agree} of {close} close-ups agree.",
                many=len(full),
                first=first + 1,
                share=percent(full[first]),
                verdict=verdict,
                masked=percent(masked[also]),
                agree=agree,
                close=close,
            )
        )
        + strips(
            lesson.index,
            leading(full, masked),
            [Level(tr("full view"), full, "msn-before"), Level(tr("masked view"), masked, "msn-after")],
        )
        + _gallery_hint(lesson)
    )


def _gallery_hint(lesson: Walk) -> Markup:
    if lesson.index is None:
        return html.hint(tr(NO_GALLERY))
    return html.hint(
        tr(
            "Each strip: the pictures of the gallery ({many} pieces of photographs) nearest to it.",
            many=len(lesson.index),
        )
    )


# --------------------------------------------------------------------------------------------------------- sharpening


def sharpening(encoder: Encoder, lesson: Walk) -> Markup:
    found = _assigned(lesson)
    full, first = found.views[0], int(found.views[0].argmax())
    levels = [
        Level(tr("full view"), full, "msn-before"),
        Level(tr("sharpened"), found.sharp, "msn-after"),
        Level(tr("Sinkhorn"), found.balanced, "msn-third"),
    ]
    return (
        said(
            tr(
                "Sharpening takes prototype {first} from {full} to {sharp}: the teacher picks a side. "
                "Sinkhorn then shares the prototypes out over many pictures: {balanced} are left.",
                first=first + 1,
                full=percent(full[first]),
                sharp=percent(found.sharp[first]),
                balanced=percent(found.balanced[first]),
            )
        )
        + strips(lesson.index, leading(full, found.balanced), levels)
        + _batch(lesson, found)
    )


def _batch(lesson: Walk, found: Assigned) -> Markup:
    """What Sinkhorn and me-max are for: how evenly a whole batch uses the prototypes."""
    before, after = found.batch
    even = 1 / len(before)
    busiest = int(before.argmax())
    most = math.log(len(before))
    if lesson.index is None:
        return html.hint(tr(NO_GALLERY))
    return (
        tr_html("<h4>The whole batch: your picture and {} of the gallery</h4>").format(found.pictures - 1)
        + html.hint(
            tr(
                "Sharpened, {name} takes {before:.0f} × an even share; after Sinkhorn {after:.1f} ×. "
                "me-max asks the student for the same: the mean over all its pictures has an entropy of "
                "{entropy:.1f} nats, at most {most:.1f}.",
                name=name(busiest).lower() if current() == ENGLISH else name(busiest),
                before=before[busiest] / even,
                after=after[busiest] / even,
                entropy=entropy(found.mean),
                most=most,
            )
        )
        + strips(
            lesson.index,
            [busiest],
            [Level(tr("sharpened"), before, "msn-after"), Level(tr("Sinkhorn"), after, "msn-third")],
            large=False,
        )
    )


# --------------------------------------------------------------------------------------------------------------- loss


def loss(encoder: Encoder, lesson: Walk) -> Markup:
    found = _assigned(lesson)
    surprise, spread = found.cross_entropies, entropy(found.mean)
    worst = lesson.views[1 + int(surprise.argmax())].title
    numbers = leading(found.sharp, found.views[1], COLUMNS - 1, 1)
    least, guess = entropy(found.sharp), math.log(len(found.mean))
    rows = _loss_row(lesson, lesson.views[0], found.sharp, numbers, None)
    for view, shares, value in zip(lesson.views[1:], found.views[1:], surprise, strict=True):
        rows += _loss_row(lesson, view, shares, numbers, float(value))
    heads = Markup().join(
        tr_html('<th scope="col">{}<span class="msn-aside">Prototype </span>{}</th>').format(
            strip(lesson.index, number, 4, across=2), number + 1
        )
        for number in numbers
    )
    return (
        said(
            tr(
                "The loss is {surprise} − {weight:g} × {spread} = {loss} nats: the mean disagreement "
                "with the teacher ({worst} disagrees most), minus the weighted entropy of the mean. "
                "Training changes the student so that it falls.",
                surprise=nats(surprise.mean()),
                weight=lesson.ask.weight,
                spread=nats(spread),
                loss=nats(round(float(surprise.mean()), 2) - lesson.ask.weight * round(float(spread), 2)),  # as shown
                worst=worst,
            )
        )
        + tr_html(
            '<div class="msn-scroll" tabindex="0" role="region" aria-label="Loss by view and prototype">'
            '<table class="msn-loss"><thead><tr><th scope="col">View</th><th scope="col">Disagrees</th>{}</tr>'
            "</thead><tbody>{}</tbody></table></div>"
        ).format(heads, rows)
        + html.hint(
            tr(
                "The first row is the teacher's sharpened answer. How much a view disagrees is the "
                "cross-entropy in nats: {least} is full agreement, {guess} a guess.",
                least=nats(least),
                guess=nats(guess),
            )
        )
    )


def _loss_row(lesson: Walk, view: View, shares: np.ndarray, numbers: list[int], value: float | None) -> Markup:
    cells = Markup().join(
        Markup('<td style="--share:{:.1f}%">{}</td>').format(100 * float(shares[number]), percent(shares[number]))
        for number in numbers
    )
    words = tr("teacher") if value is None else nats(value)
    return Markup('<tr class="{}"><th scope="row"><span>{}{}</span></th><td>{}</td>{}</tr>').format(
        "msn-teacher" if value is None else "", _source(_seen(lesson, view), ""), view.title, words, cells
    )


def _assigned(lesson: Walk) -> Assigned:
    assert lesson.assigned is not None
    return lesson.assigned
