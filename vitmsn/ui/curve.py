"""How similar an embedding stays when patches are hidden: measured over the share hidden, and drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitmsn import image
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui import examples

RATIOS = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # percent hidden
SEEDS = 4
MILLISECONDS = 1500  # what the views may cost, and once more the other pictures; a slow model gets fewer, or none

Sampler = Callable[[int, int], np.ndarray]  # percent hidden, seed -> patches kept


def cosine(one: np.ndarray, many: np.ndarray) -> list[float]:
    """Cosine similarity of a row (1, D) to each of (N, D)."""
    norms = np.maximum(np.linalg.norm(one) * np.linalg.norm(many, axis=1), np.finfo(np.float32).tiny)
    return [float(value) for value in ((many @ one[0]) / norms).clip(-1, 1)]


def similar(value: float) -> str:
    """A cosine with two digits, or as many more as tell it from 1."""
    digits = next((digits for digits in (2, 3, 4) if round(value, digits) < 1), 2)
    return f"{value:.{digits}f}"


def measure(encoder: Encoder, picture: Picture, sample: Sampler, cost: float) -> dict[int, list[float]]:
    """Percent hidden -> similarities of masked views to the full one; `cost`: milliseconds of a full view."""
    afford = int(MILLISECONDS / max(cost / 2, 0.1))  # a masked view costs about half a full one
    ratios = RATIOS if afford >= len(RATIOS) else RATIOS[::2]
    seeds = range(min(SEEDS, max(1, afford // len(ratios))))
    if encoder.processor.crop is None:  # the same input, resized once rather than for each view
        picture = image.decode(encoder.processor.view(picture), name=picture.name)
    full = encoder.embed(picture)
    found = {}
    for ratio in ratios:
        kept = np.stack([sample(ratio, seed) for seed in seeds])
        found[ratio] = cosine(full, encoder.embed([picture] * len(seeds), keep_indices=kept))
    return found


def others(encoder: Encoder, picture: Picture, cost: float) -> float | None:
    """Median similarity of the picture to the examples that are other pictures: what a similarity is worth here.

    None where it would cost too much.
    """
    known = [example.picture for example in examples.photographs() if example.picture.digest != picture.digest]
    if not known or cost * len(known) > MILLISECONDS:
        return None
    embedded = np.concatenate(
        [encoder.embed(other) for other in known]
    )  # one by one: each is remembered with its tokens
    return float(np.median(cosine(encoder.embed(picture), embedded)))


def chart(points: dict[int, list[float]], mark: tuple[float, float], views: str, other: float | None) -> str:
    """The measured similarities as inline SVG, in the page's own colours.

    Args:
        mark: percent hidden and similarity of the view above.
        views: what kind they are, in a word.
        other: similarity of other pictures, or None.
    """
    known = [value for values in points.values() for value in values]
    low, step = axis(min([*known, mark[1], 1.0 if other is None else other]))
    left, right, top, bottom = 48, 376, 12, 168

    def place(percent: float, value: float) -> tuple[float, float]:
        return left + (right - left) * percent / 100, top + (bottom - top) * (1 - value) / (1 - low)

    shapes = []
    for number in range(round((1 - low) / step) + 1):
        value = low + number * step
        _, y = place(0, value)
        shapes.append(
            f'<path d="M{left} {y:.1f}H{right}"/><text x="{left - 8}" y="{y + 4:.1f}" class="end">{value:g}</text>'
        )
    for percent in (0, 25, 50, 75, 100):
        x, y = place(percent, low)
        shapes.append(
            f'<text x="{x:.1f}" y="{y + 18:.1f}" class="middle">{percent}{" %" if percent == 100 else ""}</text>'
        )
    means = {0: 1.0} | {ratio: float(np.mean(values)) for ratio, values in points.items()}
    if other is not None:
        shapes.append(f'<path class="other" d="M{left} {place(0, other)[1]:.1f}H{right}"/>')
    line = " ".join("{:.1f},{:.1f}".format(*place(ratio, mean)) for ratio, mean in means.items())
    shapes.append(f'<polyline points="{line}"/>')
    for ratio, values in points.items():
        shapes += ['<circle cx="{:.1f}" cy="{:.1f}" r="2.5"/>'.format(*place(ratio, value)) for value in values]
    shapes.append('<circle class="here" cx="{:.1f}" cy="{:.1f}" r="7"/>'.format(*place(*mark)))
    label = "Similarity to the full view over the share of patches hidden: "
    label += "; ".join(f"{similar(mean)} at {ratio} %" for ratio, mean in means.items())
    label += f"; this view {similar(mark[1])} at {mark[0]:.0f} %"
    said = f"Similarity to the full view over the patches hidden. Dots: {views} views, measured on this machine now; "
    said += "ring: the view above"
    if other is not None:
        said += f"; dashes: how similar other pictures are, {similar(other)}"
    return (
        f'<figure class="msn-chart"><svg viewBox="0 0 400 196" role="img" aria-label="{label}">{"".join(shapes)}</svg>'
        f"<figcaption>{said}.</figcaption></figure>"
    )


def axis(least: float) -> tuple[float, float]:
    """Where an axis that ends at 1 begins to hold `least`, and the step of its marks (at most five)."""
    steps = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    step = next(step for step in steps if least >= 1 - 4 * step - 1e-9)
    return round(1 - max(1, int(np.ceil((1 - least) / step - 1e-9))) * step, 4), step
