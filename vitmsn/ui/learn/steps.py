"""The eight steps of the walk through MSN, each as HTML: the sentence first, then the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from vitmsn import draw, masking
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.learn.walkthrough import View, Walk, entropy
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.html import milliseconds

BY = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"
SHOWN = 5  # prototypes in a chart
SIDE = 208  # pixels of a view on the page
SIZES = {"half": 0.5, "own": 1.0, "double": 2.0}


@dataclass(frozen=True)
class Step:
    """One step: its title, its terms explained, and the function that draws its answer."""

    title: str
    words: str
    show: Callable[[Encoder, Walk], Markup]
    head: bool = False  # needs the projector and the prototypes


# --------------------------------------------------------------------------------------------------------- the answers


def picture(encoder: Encoder, lesson: Walk) -> Markup:
    side = SIZES[lesson.ask.size]
    height, width = (
        max(1, round(side * length / patch)) * patch
        for length, patch in zip(encoder.input_size, encoder.patch_size, strict=True)
    )
    rows, columns = encoder.grid((height, width))
    seen = encoder.processor.view(lesson.picture, (height, width))
    large = _large(seen, 2 * SIDE)
    pen = ImageDraw.Draw(large)
    for row in range(1, rows):
        y = round(row * large.height / rows)
        pen.line([(0, y), (large.width, y)], fill=(255, 255, 255), width=1)
    for column in range(1, columns):
        x = round(column * large.width / columns)
        pen.line([(x, 0), (x, large.height)], fill=(255, 255, 255), width=1)
    whole = lesson.picture.rgb
    own = "what this model was made for" if lesson.ask.size == "own" else "another size than this model's own"
    return said(
        f"Your picture has {whole.width}{BY}{whole.height} pixels; the network gets {width}{BY}{height} of them, "
        f"{own}, cut into {rows}{BY}{columns} = {rows * columns} patches of {_patch(encoder)} pixels."
    ) + figure([(large, f"The picture at {width} by {height} pixels with its {rows} by {columns} patches", "")], "wide")


def views(encoder: Encoder, lesson: Walk) -> Markup:
    target, random, *focal = lesson.views
    small, most = min(view.share for view in focal), max(view.share for view in focal)
    shown = [
        (_large(view.picture.rgb, SIDE if view.size == target.size else SIDE // 2), _alt(view), _caption(view))
        for view in lesson.views
    ]
    return (
        said(
            f"One picture becomes {len(lesson.views)} views, cropped at random: the target shows "
            f"{_percent(target.share)} "
            f"of it, the random anchor {_percent(random.share)}, the {len(focal)} small focal anchors "
            f"{_percent(small)} to {_percent(most)}; the network must give the same result for all."
        )
        + figure([(_boxes(lesson), _where(lesson), "where they were cropped")], "wide")
        + figure(shown, "row")
    )


def patches(encoder: Encoder, lesson: Walk) -> Markup:
    view, kept, total = lesson.views[1], len(lesson.kept), lesson.patches
    full, masked = _times(encoder, view.picture, lesson.kept)
    grid = masking.to_grid(masking.painted_mask(_hidden(lesson)), lesson.grid)[0].numpy()
    seen = encoder.processor.view(view.picture, encoder.input_size)
    return said(
        f"Of the random anchor's {total} patches {total - kept} are dropped and {kept} stay. The "
        f"network skips the dropped ones: {milliseconds(masked)} instead of {milliseconds(full)} with all of them."
        if kept < total
        else f"Nothing is dropped: all {total} patches enter the network, in {milliseconds(full)}."
    ) + figure(
        [
            (_large(seen, SIDE), f"The random anchor, all {total} patches", f"all {total}"),
            (
                draw.masked_picture(_large(seen, SIDE), grid),
                f"The random anchor with {total - kept} of {total} patches grey: dropped",
                f"{kept} stay",
            ),
        ],
        "row",
    )


def tokens(encoder: Encoder, lesson: Walk) -> Markup:
    states, layers = lesson.states, encoder.config.num_hidden_layers
    cls, rest = states[:1], states[1:]
    cosine = (rest @ cls[0]) / np.maximum(np.linalg.norm(rest, axis=1) * np.linalg.norm(cls), 1e-9)
    best = int(cosine.argmax())
    row, column = divmod(int(lesson.kept[best]), lesson.grid[1])
    bound = float(np.percentile(np.abs(states), 99)) or 1.0
    strips = Image.fromarray(draw.color(states, (-bound, bound), "cividis"))
    tall = max(2, min(8, 320 // len(states)))
    strips = strips.resize((2 * states.shape[1], tall * len(states)), Image.Resampling.NEAREST)
    where = "Before the first layer" if lesson.ask.layer == 0 else f"After layer {lesson.ask.layer} of {layers}"
    return said(
        f"{where} the view is {len(states)} tokens, rows of {states.shape[1]} numbers: one for each of the "
        f"{len(rest)} patches that stay, and CLS, which is most like the patch in row {row + 1}, column {column + 1} "
        f"(cosine {cosine[best]:.2f})."
    ) + figure(
        [
            (
                strips,
                f"{len(states)} rows of {states.shape[1]} numbers as colors, CLS first",
                f"first row: CLS; dark to bright: {-bound:.1f} to {bound:.1f}",
            )
        ],
        "wide",
    )


def embeddings(encoder: Encoder, lesson: Walk) -> Markup:
    random, *focal = lesson.similarity
    title = examples.by_name(lesson.ask.other).title
    same = lesson.views[0].picture.digest == examples.by_name(lesson.ask.other).picture.digest
    centered = "" if encoder.feature_mean is None else "; what all pictures have in common is subtracted"
    rows = [(view.name, value) for view, value in zip(lesson.views[1:], lesson.similarity, strict=True)]
    lowest = min(lesson.similarity)
    verdict = "less than any view" if lesson.other < lowest else "more than the least similar view"
    return said(
        f"CLS after the last layer is the embedding: the random anchor's is {random:.2f} similar to the target's, the "
        f"focal anchors' {min(focal):.2f} to {max(focal):.2f}, and another picture's {lesson.other:.2f}, {verdict}."
    ) + bars(
        [*rows, (f"another picture: {title.lower()}", lesson.other)],
        1.0,
        f"Cosine similarity to the target's embedding{centered}.",
        mark=-1 if not same else None,
    )


def prototypes(encoder: Encoder, lesson: Walk) -> Markup:
    assert lesson.assigned is not None
    target, anchor = lesson.assigned[0], lesson.assigned[1]
    first, also = int(target.argmax()), int(anchor.argmax())
    agree = "the same" if first == also else "another one"
    count = sum(int(row.argmax()) == first for row in lesson.assigned[1:])
    return said(
        f"Of {len(target)} prototypes the target is nearest to no. {first + 1} ({_percent(target[first])}), the random "
        f"anchor to no. {also + 1} ({_percent(anchor[also])}): {agree}; {count} of {len(lesson.assigned) - 1} anchors "
        "agree with the target."
    ) + pairs(target, anchor, ("target", "random anchor"))


def sharpening(encoder: Encoder, lesson: Walk) -> Markup:
    assert lesson.assigned is not None and lesson.sharp is not None and lesson.mean is not None
    soft, sharp = lesson.assigned[0], lesson.sharp
    first, most = int(soft.argmax()), math.log(len(soft))
    return said(
        f"Sharpening takes the target's first prototype from {_percent(soft[first])} to {_percent(sharp[first])} "
        f"(entropy {entropy(soft):.1f} to {entropy(sharp):.1f} nats); me-max asks that the mean over pictures stays "
        f"spread, and over these {lesson.pictures} its entropy is {entropy(lesson.mean):.1f} of at most {most:.1f}."
    ) + pairs(soft, sharp, ("target", "sharpened"))


def loss(encoder: Encoder, lesson: Walk) -> Markup:
    assert lesson.mean is not None
    surprise, spread = lesson.cross_entropies, entropy(lesson.mean)
    worst = lesson.views[1 + int(surprise.argmax())].name
    rows = [(view.name, float(value)) for view, value in zip(lesson.views[1:], surprise, strict=True)]
    return said(
        f"The loss is {surprise.mean():.2f} − {lesson.ask.weight:g} × {spread:.2f} = {lesson.loss:.2f} nats: the mean "
        f"cross-entropy of the anchors (the {worst} agrees least, {surprise.max():.2f}) minus the weighted entropy of "
        "the mean; training turns the weights so that it falls."
    ) + bars(
        rows,
        max(float(surprise.max()), math.log(len(lesson.mean))),
        f"Cross-entropy with the sharpened target, in nats; a guess has "
        f"{math.log(len(lesson.mean)):.2f}, full width or more.",
    )


STEPS: tuple[Step, ...] = (
    Step(
        "A picture",
        "A pixel is three numbers: red, green, blue. A patch is a small square of pixels, the word the network reads. "
        "There is no label: nobody says what the picture shows.",
        picture,
    ),
    Step(
        "Views",
        "A view is a piece of the picture, cropped, mirrored and tinted at random. The target view sets the result; "
        "the anchor views must reach the same result from less.",
        views,
    ),
    Step(
        "Patches dropped",
        "Masking means leaving patches out: they cost nothing. From the rest, the network must still reach the "
        "result of the target view. Times are measured on this machine, now.",
        patches,
    ),
    Step(
        "Tokens",
        "A token is a row of numbers that the network rewrites layer by layer. In each layer, tokens look at each "
        "other. CLS is one more token, without a patch, that sums up the picture.",
        tokens,
    ),
    Step(
        "Embeddings",
        "An embedding is the last CLS token: the picture as a row of numbers. Cosine similarity compares directions: 1 "
        "is the same, 0 is unrelated.",
        embeddings,
    ),
    Step(
        "Prototypes",
        "Prototypes are groups the network invented, without names. The temperature turns similarities into shares "
        "that sum to 100 %: a low one gives nearly all to the nearest prototype.",
        prototypes,
        head=True,
    ),
    Step(
        "Sharpening and me-max",
        "Sharpening makes the target pick a side. That alone would lead to collapse: one prototype for every picture. "
        "me-max (mean entropy maximization) rewards using many prototypes. Entropy, in nats, is 0 for a certain "
        "answer.",
        sharpening,
        head=True,
    ),
    Step(
        "Loss",
        "The loss is the one number that training lowers. Cross-entropy measures how much an anchor disagrees with "
        "the target. λ is the weight of me-max.",
        loss,
        head=True,
    ),
)


def answer(step: int, encoder: Encoder, lesson: Walk, name: str) -> Markup:
    """Step `step` (from 0) as HTML; steps that need the MSN head say so where the model has none."""
    told = STEPS[step]
    if told.head and lesson.assigned is None:
        body = said(
            f"{name} has no projector and prototypes, so the last steps cannot be shown. Choose tiny/8 in the menu of "
            "models."
        )
    else:
        body = told.show(encoder, lesson)
    return Markup('<h3 class="msn-step-title"><span>{} of {}</span> {}</h3>{}').format(
        step + 1, len(STEPS), told.title, body
    )


# -------------------------------------------------------------------------------------------------------------- pieces


def said(message: str) -> Markup:
    """The sentence of a step. All eight are on the page, so none is a live region that screen readers announce."""
    return Markup('<p class="msn-sentence">{}</p>').format(html.text(message, 600))


def figure(pictures: Sequence[tuple[Image.Image, str, str]], css: str) -> Markup:
    """Pictures side by side: (picture, alternative text, caption)."""
    shown = Markup().join(
        Markup("<figure>{}{}</figure>").format(
            html.img(shown, alt), Markup("<figcaption>{}</figcaption>").format(html.text(words)) if words else ""
        )
        for shown, alt, words in pictures
    )
    return Markup('<div class="msn-seen msn-seen-{}">{}</div>').format(css, shown)


def bars(rows: Sequence[tuple[str, float]], full: float, caption: str, mark: int | None = None) -> Markup:
    """Numbers as bars; a value of `full` has full width, and the row `mark` is there for comparison."""
    items = []
    for place, (label, value) in enumerate(rows):
        quiet = Markup(' class="msn-aside-row"') if mark is not None and place == mark % len(rows) else ""
        width = 100 * min(max(value / full, 0), 1)
        items.append(
            Markup(
                '<li{}><span class="msn-bar-label">{}</span>'
                '<span class="msn-bar-value">{:.2f}</span>'
                '<span class="msn-bar" aria-hidden="true"><span style="width:{:.2f}%"></span></span></li>'
            ).format(quiet, html.text(label, 80), value, width)
        )
    return Markup('<ol class="msn-bars msn-even">{}</ol>{}').format(Markup().join(items), html.hint(caption))


def pairs(one: np.ndarray, other: np.ndarray, names: tuple[str, str]) -> Markup:
    """The prototypes with the largest shares in either, with two bars each."""
    order = list(np.argsort(-one, kind="stable")[:SHOWN])
    order += [index for index in np.argsort(-other, kind="stable")[:1] if index not in order]
    top = max(float(one.max()), float(other.max()))
    rows = ""
    for index in order:
        both = Markup().join(
            Markup(
                '<span class="msn-bar" aria-hidden="true"><span class="{}" style="width:{:.2f}%">'
                '</span></span><span class="msn-bar-value"><span class="msn-aside">{} </span>'
                "{}</span>"
            ).format(css, 100 * value / top, name, html.percent(value))
            for css, name, value in (
                ("msn-before", names[0], float(one[index])),
                ("msn-after", names[1], float(other[index])),
            )
        )
        rows += Markup('<li><span class="msn-bar-label">no. {}</span><span class="msn-pair">{}</span></li>').format(
            index + 1, both
        )
    return Markup(
        '<section class="msn-pairs"><p class="msn-hint"><i class="msn-before"></i> upper bar: {} '
        '<i class="msn-after"></i> lower bar: {}</p><ol>{}</ol></section>'
    ).format(names[0], names[1], rows)


def _times(encoder: Encoder, picture: Picture, kept: np.ndarray) -> tuple[float, float]:
    """Median milliseconds of the full and the masked view, measured in turns so that other work affects both."""
    rounds = [[encoder.time(picture, keep_indices=keep, repeats=1) for keep in (None, kept)] for _ in range(3)]
    full, masked = np.median(rounds, axis=0)
    return float(full), float(masked)


def _large(shown: Image.Image, side: int) -> Image.Image:
    """The picture enlarged without smoothing, so that its pixels show."""
    scale = side / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    return shown.convert("RGB").resize(size, Image.Resampling.NEAREST)


def _boxes(lesson: Walk) -> Image.Image:
    """The picture with a frame for each view: thick for the target, thin for the random anchor, numbered for focal."""
    shown = lesson.picture.rgb.copy()
    shown.thumbnail((2 * SIDE, 2 * SIDE))
    pen = ImageDraw.Draw(shown)
    for place, view in enumerate(lesson.views):
        left, top, right, bottom = (
            round(v * (side - 1)) for v, side in zip(view.box, (shown.width, shown.height) * 2, strict=True)
        )
        for ink, width in (((0, 0, 0), 5 if place == 0 else 3), ((255, 255, 255), 3 if place == 0 else 1)):
            pen.rectangle([left, top, right, bottom], outline=ink, width=width)
        letter = "TR1234"[place] if place < 6 else str(place - 1)
        pen.rectangle([left, top, left + 16, top + 16], fill=(255, 255, 255))
        pen.text((left + 5, top + 3), letter, fill=(0, 0, 0))
    return shown


def _where(lesson: Walk) -> str:
    return "Your picture with a frame for each view: " + ", ".join(
        f"{view.name} {_percent(view.share)}" for view in lesson.views
    )


def _alt(view: View) -> str:
    return f"The {view.name}: {_percent(view.share)} of the picture at {view.size[1]} by {view.size[0]} pixels"


def _caption(view: View) -> str:
    return f"{view.name}, {view.size[1]} px"


def _hidden(lesson: Walk) -> np.ndarray:
    """(rows, columns) bool, True where a patch is dropped."""
    hidden = np.ones(lesson.patches, bool)
    hidden[lesson.kept] = False
    return hidden.reshape(lesson.grid)


def _patch(encoder: Encoder) -> str:
    return f"{encoder.patch_size[1]}{BY}{encoder.patch_size[0]}"


def _percent(value: float) -> str:
    return html.percent(float(value)).replace(" %", "\N{NO-BREAK SPACE}%")
