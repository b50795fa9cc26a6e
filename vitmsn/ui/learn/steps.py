"""The eight steps of the walk through MSN, each as HTML: the sentence first, then the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from vitmsn import draw, masking, robustness
from vitmsn.encoder import Encoder
from vitmsn.ui.learn import picture_steps
from vitmsn.ui.learn.figures import enlarged, figure, percent, said
from vitmsn.ui.learn.walkthrough import View, Walk
from vitmsn.ui.locale import later, tr, tr_html
from vitmsn.ui.shared.html import milliseconds

BY = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"
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
    large = enlarged(seen, 2 * SIDE)
    pen = ImageDraw.Draw(large)
    for row in range(1, rows):
        y = round(row * large.height / rows)
        pen.line([(0, y), (large.width, y)], fill=(255, 255, 255), width=1)
    for column in range(1, columns):
        x = round(column * large.width / columns)
        pen.line([(x, 0), (x, large.height)], fill=(255, 255, 255), width=1)
    whole = lesson.picture.rgb
    own = (
        tr("the size this model was trained at")
        if lesson.ask.size == "own"
        else tr("another size than this model's own")
    )
    left, top, right, bottom = encoder.processor.seen(whole.size, (height, width))
    told = (
        tr(
            "Your picture's {size} pixels become {resized}; the network gets the {seen} in the middle, {own}, cut into "
            "{grid} = {many} patches of {patch} pixels."
        )
        if encoder.processor.crop is not None
        else tr(
            "Your picture's {size} pixels become {seen}, {own}, cut into {grid} = {many} patches of {patch} pixels."
        )
    )
    return said(
        told.format(
            size=f"{whole.width}{BY}{whole.height}",
            resized=f"{round(width / (right - left))}{BY}{round(height / (bottom - top))}",
            seen=f"{width}{BY}{height}",
            own=own,
            grid=f"{rows}{BY}{columns}",
            many=rows * columns,
            patch=_patch(encoder),
        )
    ) + figure(
        [
            (
                large,
                tr(
                    "The picture at {width} by {height} pixels with its {rows} by {columns} patches",
                    width=width,
                    height=height,
                    rows=rows,
                    columns=columns,
                ),
                "",
            )
        ],
        "wide",
    )


def views(encoder: Encoder, lesson: Walk) -> Markup:
    full, masked, *close = lesson.views
    small, most = min(view.share for view in close), max(view.share for view in close)
    shown = [
        (enlarged(view.picture.rgb, SIDE if view.size == full.size else SIDE // 2), _alt(view), _caption(view))
        for view in lesson.views
    ]
    return (
        said(
            tr(
                "One picture becomes {views} views, cropped at random. The teacher sees the full view "
                "({full} of the picture). The student must reach the same result from the masked view "
                "({masked}) and {close} close-ups ({small} to {most}).",
                views=len(lesson.views),
                full=percent(full.share),
                masked=percent(masked.share),
                close=len(close),
                small=percent(small),
                most=percent(most),
            )
        )
        + figure(
            [(_boxes(lesson), _where(lesson), tr("where they were cropped: F full, M masked, 1 to 4 close-ups"))],
            "wide",
        )
        + figure(shown, "row")
    )


def patches(encoder: Encoder, lesson: Walk) -> Markup:
    view, kept, total = lesson.views[1], len(lesson.kept), lesson.patches
    taken = robustness.steady_times(encoder, view.picture, lesson.kept)
    time = (
        ""
        if taken is None
        else tr(", in {masked} instead of {full}", masked=milliseconds(taken[1]), full=milliseconds(taken[0]))
    )
    grid = masking.to_grid(masking.painted_mask(_hidden(lesson)), lesson.grid)[0].numpy()
    seen = encoder.processor.view(view.picture, encoder.input_size)
    return said(
        tr(
            "Of the masked view's {total} patches {dropped} are dropped and {kept} stay. The network skips the "
            "dropped ones: it works on {tokens} tokens, CLS among them, instead of {all_tokens}{time}.",
            total=total,
            dropped=total - kept,
            kept=kept,
            tokens=1 + kept,
            all_tokens=1 + total,
            time=time,
        )
        if kept < total
        else tr("Nothing is dropped: all {total} patches enter the network.", total=total)
    ) + figure(
        [
            (
                enlarged(seen, SIDE),
                tr("The masked view before masking, all {total} patches", total=total),
                tr("all {total}", total=total),
            ),
            (
                draw.masked_picture(enlarged(seen, SIDE), grid),
                tr(
                    "The masked view with {dropped} of {total} patches gray: dropped", dropped=total - kept, total=total
                ),
                tr("{kept} stay", kept=kept),
            ),
        ],
        "row",
    )


STEPS: tuple[Step, ...] = (
    Step(
        later("A picture"),
        later(
            "A pixel is three numbers: red, green, blue. A patch is a small square of pixels, the word the network "
            "reads. There is no label: nobody says what the picture shows."
        ),
        picture,
    ),
    Step(
        later("Views"),
        later(
            "MSN trains two copies of one network. The student learns; the teacher is the slow average of the "
            "student's past. A view is a piece of the picture, cropped, mirrored and tinted at random. The paper "
            "calls the full view the target, and the masked view and the close-ups anchors."
        ),
        views,
    ),
    Step(
        later("Patches dropped"),
        later(
            "Masking means leaving patches out of the masked view: they cost nothing. From what is left, the "
            "student must still reach the teacher's result."
        ),
        patches,
    ),
    Step(
        later("Tokens"),
        later(
            "A token is a row of numbers, one for each patch, that the network rewrites layer by layer. In each layer "
            "every token looks at the others and takes something from them. CLS is one more token, without a patch: it "
            "sums up the picture."
        ),
        picture_steps.tokens,
    ),
    Step(
        later("Embeddings"),
        later(
            "An embedding is the last CLS token: the picture as a row of numbers. Pictures that the network finds "
            "alike have embeddings that point the same way, so each is shown by its nearest pictures in a small "
            "gallery."
        ),
        picture_steps.embeddings,
    ),
    Step(
        later("Prototypes"),
        later(
            "Prototypes are groups the network invented, without names. A picture belongs to each of them by some "
            "share, 100 % in all. The temperature τ decides how clear that is: a low one gives nearly all to the "
            "nearest."
        ),
        picture_steps.prototypes,
        head=True,
    ),
    Step(
        later("Sharpening, Sinkhorn and me-max"),
        later(
            "Sharpening makes the teacher pick a side. That alone would lead to collapse: one prototype for every "
            "picture. Sinkhorn and me-max (mean entropy maximization) prevent it: many pictures together must use many "
            "prototypes. Entropy, in nats, is 0 for a certain answer."
        ),
        picture_steps.sharpening,
        head=True,
    ),
    Step(
        later("Loss"),
        later(
            "The loss is the one number that training lowers. Cross-entropy measures how much the student's answer "
            "to a view disagrees with the teacher's. λ is the weight of me-max."
        ),
        picture_steps.loss,
        head=True,
    ),
)


def answer(step: int, encoder: Encoder, lesson: Walk, name: str) -> Markup:
    """Step `step` (from 0) as HTML; steps that need prototypes say so where the model has none."""
    told = STEPS[step]
    if told.head and lesson.assigned is None:
        body = said(
            tr(
                "{name} has no prototypes, so this step cannot be shown; steps 1 to 5 can. Choose tiny/8 "
                "in the menu of models to see all eight.",
                name=name,
            )
        )
    else:
        body = told.show(encoder, lesson)
    return tr_html('<h3 class="msn-step-title" data-say="Step"><span>{} of {}</span> {}</h3>{}').format(
        step + 1, len(STEPS), tr(told.title), body
    )


# -------------------------------------------------------------------------------------------------------------- pieces


def _boxes(lesson: Walk) -> Image.Image:
    """The picture with a frame for each view: thick for the full one, thin for the others."""
    shown = lesson.picture.rgb.copy()
    shown.thumbnail((2 * SIDE, 2 * SIDE))
    pen = ImageDraw.Draw(shown)
    for place, view in enumerate(lesson.views):
        left, top, right, bottom = (
            round(v * (side - 1)) for v, side in zip(view.box, (shown.width, shown.height) * 2, strict=True)
        )
        for ink, width in (((0, 0, 0), 5 if place == 0 else 3), ((255, 255, 255), 3 if place == 0 else 1)):
            pen.rectangle([left, top, right, bottom], outline=ink, width=width)
        letter = "FM1234"[place] if place < 6 else str(place - 1)
        pen.rectangle([left, top, left + 16, top + 16], fill=(255, 255, 255))
        pen.text((left + 5, top + 3), letter, fill=(0, 0, 0))
    return shown


def _where(lesson: Walk) -> str:
    return tr("Your picture with a frame for each view: ") + ", ".join(
        f"{view.title} {percent(view.share)}" for view in lesson.views
    )


def _alt(view: View) -> str:
    return tr(
        "The {name}: {share} of the picture at {width} by {height} pixels",
        name=view.title,
        share=percent(view.share),
        width=view.size[1],
        height=view.size[0],
    )


def _caption(view: View) -> str:
    return f"{view.title}, {view.size[1]} px"


def _hidden(lesson: Walk) -> np.ndarray:
    """(rows, columns) bool, True where a patch is dropped."""
    hidden = np.ones(lesson.patches, bool)
    hidden[lesson.kept] = False
    return hidden.reshape(lesson.grid)


def _patch(encoder: Encoder) -> str:
    return f"{encoder.patch_size[1]}{BY}{encoder.patch_size[0]}"
