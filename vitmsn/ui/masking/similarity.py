"""Similarity and other measures over the mask ratio: a quick chart, and all curves while they are measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from markupsafe import Markup

from vitmsn import robustness
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.locale import tr, tr_number
from vitmsn.ui.shared import charts, examples, html
from vitmsn.ui.shared.charts import Axis, Line

RATIOS = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # percent hidden
SEEDS = 4
HIDDEN = Axis(0, 100, [(percent, f"{percent}{' %' if percent == 100 else ''}") for percent in (0, 25, 50, 75, 100)])
MILLISECONDS = 1500  # for the masked views, and again for other pictures; a slow model gets fewer or none

Sampler = Callable[[int, int], np.ndarray]  # percent hidden, seed -> patches kept
Points = dict[int, list[float]]  # percent hidden -> similarities of some draws


def alike(plain: float, centered: float | None) -> str:
    """The similarity in words, centered if the model has a feature mean: "similarity 0.94"."""
    return tr("similarity {value}", value=html.similar(plain if centered is None else centered))


def mean(views: robustness.Views) -> tuple[float, float | None]:
    """The mean similarity over some draws, plain and centered."""
    return float(views.similarity.mean()), None if views.centered is None else float(views.centered.mean())


def worth(name: str, other: float | None, centered: bool) -> str:
    """What a similarity means for this model, in one sentence.

    Args:
        name: the model's name.
        other: plain similarity of other pictures, or None if unknown.
        centered: whether the model has a feature mean to center on.
    """
    if centered:
        return tr("Similarity: 1 = same, 0 = unrelated. What all pictures have in common is subtracted.")
    if other is None:
        return tr("{name} has no feature mean to subtract, so unrelated pictures may look similar too.", name=name)
    return tr(
        "{name} has no feature mean to subtract: unrelated pictures have a similarity of about {other}.",
        name=name,
        other=html.similar(other),
    )


def measure(encoder: Encoder, picture: Picture, sample: Sampler, cost: float) -> tuple[Points, Points | None]:
    """Similarities of masked views to the full one, plain and centered (None: the model has no mean).

    `cost`: milliseconds per full view.
    """
    afford = int(MILLISECONDS / max(cost / 2, 0.1))  # a masked view costs about half a full one
    ratios = RATIOS if afford >= len(RATIOS) else RATIOS[::2]
    seeds = range(min(SEEDS, max(1, afford // len(ratios))))
    full = encoder.embed(picture)
    plain: Points = {}
    centered: Points = {}
    for ratio in ratios:
        kept = np.stack([sample(ratio, seed) for seed in seeds])
        masked = encoder.embed([picture] * len(seeds), keep_indices=kept)
        plain[ratio] = robustness.cosine(full, masked).tolist()
        around = robustness.centered(encoder, full, masked)
        if around is not None:
            centered[ratio] = around.tolist()
    return plain, centered or None


def others(encoder: Encoder, picture: Picture, cost: float) -> float | None:
    """The typical plain similarity of other pictures to this one: the baseline for a similarity.

    From the model's feature mean; without one, the median over the examples, or None where that would cost too much.
    """
    if encoder.feature_mean is not None:
        return robustness.others(encoder, encoder.embed(picture))
    known = [example.picture for example in examples.photographs() if example.picture.digest != picture.digest]
    if not known or cost * len(known) > MILLISECONDS:
        return None
    embedded = np.concatenate([encoder.embed(other) for other in known])  # one by one: tokens are cached
    return float(np.median(robustness.cosine(encoder.embed(picture), embedded)))


def chart(
    points: Points,
    mark: tuple[float, float],
    views: str,
    other: float | None,
    centered: tuple[Points, float] | None = None,
) -> Markup:
    """The measured similarities as inline SVG, in the page's own colors.

    Args:
        mark: percent hidden and similarity of the current mask.
        views: their kind, in a word.
        other: plain similarity of other pictures, or None.
        centered: centered similarities, drawn instead of the plain ones; unrelated pictures have 0 there.
    """
    line, here = centered or (points, mark[1])
    other = 0.0 if centered else other
    known = [here, *(value for values in line.values() for value in values)]
    low, step = axis(min([*known, 1.0 if other is None else other]))
    lines = [] if other is None else [Line([(0, other), (100, other)], tr("unrelated"), kind="other")]
    means = {0: 1.0} | {ratio: float(np.mean(values)) for ratio, values in line.items()}
    dots = [(ratio, value, "") for ratio, values in line.items() for value in values]
    lines.append(Line(list(means.items()), dots=dots, ring=(mark[0], here)))
    told = "; ".join(tr("{mean} at {ratio} %", mean=html.similar(mean), ratio=ratio) for ratio, mean in means.items())
    told += tr("; this mask {here} at {mark:.0f} %", here=html.similar(here), mark=mark[0])
    said = tr(
        "Similarity to the full picture, by mask ratio. Dots: {kind} masks; line: their mean; ring: the mask above",
        kind=views,
    )
    if other is not None:
        said += tr("; dashes: unrelated pictures, {value}", value="0" if centered else html.similar(other))
    marks = [low + number * step for number in range(round((1 - low) / step) + 1)]
    return charts.chart(
        lines,
        HIDDEN,
        Axis(low, 1, [(value, tr_number(f"{value:g}".replace("-", "−"))) for value in marks]),
        alt=tr("Similarity to the full picture by mask ratio: {told}", told=told),
        caption=f"{said}.",
    )


def axis(least: float) -> tuple[float, float]:
    """The start of an axis from at most `least` to 1, and the step of its ticks (at most five)."""
    steps = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    step = next(step for step in steps if least >= 1 - 4 * step - 1e-9)
    return round(1 - max(1, int(np.ceil((1 - least) / step - 1e-9))) * step, 4), step


def ceiling(most: float) -> float:
    """The end of an axis from 0 that holds `most`: a round number, whose half is one too."""
    power = 10.0 ** math.floor(math.log10(max(most, 1e-9)))
    return next(share * power for share in (1, 2, 3, 4, 5, 6, 8, 10) if share * power >= most)


# --------------------------------------------------------------------------------------------------------- all curves


def panels(points: list[robustness.CurvePoint]) -> Markup:
    """Four small charts over the mask ratio, from the measurements so far, as HTML: similarity, answers kept,
    cross-entropy, and the time where it is a median. Dots are single draws; the line is their mean."""
    if not points:
        return Markup()
    shares = [100 * point.ratio for point in points]
    draws = len(points[0].views.similarity)
    centered = [point.views.centered for point in points if point.views.centered is not None]
    other = 0.0 if centered else points[0].views.others
    similarity = centered or [point.views.similarity for point in points]
    least = min(1.0 if other is None else other, *(float(values.min()) for values in similarity))
    beside = None if other is None else [other] * len(points)
    dashes = "" if other is None else tr("Dashes: unrelated pictures.")
    ends = axis(least)[0], 1.0
    made = [_panel(tr("Similarity to the full picture"), shares, similarity, ends, "{:.2f}", beside, dashes)]
    kept = [point.views.same for point in points if point.views.same is not None]
    if kept:
        means = [np.array([100 * values.mean()]) for values in kept]
        made.append(
            _panel(tr("Masks that keep the answer, % of {draws}", draws=draws), shares, means, (0.0, 100.0), "{:.0f} %")
        )
    surprise = [point.views.cross_entropy for point in points if point.views.cross_entropy is not None]
    if surprise:
        top = ceiling(max(float(values.max()) for values in surprise))
        made.append(_panel(tr("Prototype cross-entropy, nats"), shares, surprise, (0.0, top), tr("{:.2f} nats")))
    if all(point.steady for point in points):
        taken = [np.array([100 * took(point, points[0].kept)]) for point in points]
        left = [100 * tokens(point, points[0].kept) for point in points]
        ends = 0.0, ceiling(max(100.0, *(float(value[0]) for value in taken)))
        dashes = tr("Medians of several rounds, each beside the full view. Dashes: the share of tokens left.")
        made.append(_panel(tr("Time, % of the full view"), shares, taken, ends, "{:.0f} %", left, dashes))
    return Markup('<section class="msn-depth"><div>{}</div></section>').format(Markup().join(made))


def tokens(point: robustness.CurvePoint, patches: int) -> float:
    """The share of the tokens of a full view with so many patches, CLS among them."""
    return (1 + point.kept) / (1 + patches)


def took(point: robustness.CurvePoint, patches: int) -> float:
    """The time of a masked view as a share of that of the full one, both measured in turns: what else the machine does
    affects both."""
    return point.milliseconds / point.ideal * tokens(point, patches)


def told(points: list[robustness.CurvePoint]) -> str:
    """The curves in one sentence."""
    last = points[-1]
    half = min(points, key=lambda point: abs(point.ratio - 0.5))
    said = tr("With {hidden:.0f} % hidden: {alike}", hidden=100 * half.ratio, alike=alike(*mean(half.views)))
    if half.views.same is not None:
        same = half.views.same
        said += tr(", and {same} of {total} masks keep the answer", same=int(same.sum()), total=len(same))
    left, share = tokens(last, points[0].kept), took(last, points[0].kept)
    end = (
        tr(
            "{said}. With {hidden:.0f} % hidden: {alike}, in {time:.0f} % of the time, with {tokens:.0f} % of the "
            "tokens."
        )
        if all(point.steady for point in points)
        else tr("{said}. With {hidden:.0f} % hidden: {alike}, with {tokens:.0f} % of the tokens.")
    )
    return end.format(
        said=said, hidden=100 * last.ratio, alike=alike(*mean(last.views)), time=100 * share, tokens=100 * left
    )


def _panel(
    title: str,
    shares: list[float],
    runs: list[np.ndarray],
    ends: tuple[float, float],
    form: str,
    other: list[float] | None = None,
    caption: str = "",
) -> Markup:
    (low, high), means = ends, [float(values.mean()) for values in runs]
    lines = [] if other is None else [Line(list(zip(shares, other, strict=True)), kind="other")]
    dots = [(share, float(value), "") for share, values in zip(shares, runs, strict=True) for value in values]
    lines.append(Line(list(zip(shares, means, strict=True)), dots=dots))
    rows = "; ".join(
        tr("{value} at {share:.0f} %", value=tr_number(form.format(mean)), share=share)
        for share, mean in zip(shares, means, strict=True)
    )
    marks = [low + share * (high - low) for share in (0.0, 0.5, 1.0)]
    return charts.chart(
        lines,
        HIDDEN,
        Axis(low, high, [(value, tr_number(f"{float(f'{value:.3g}'):g}")) for value in marks]),
        alt=tr("{title}, by mask ratio: {rows}", title=title, rows=rows),
        title=title,
        caption=caption,
        narrow=True,
    )
