"""Hide patches until the answer changes: the patches that decide it, and the steps that find them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vitmsn import look, robustness
from vitmsn.encoder import Encoder
from vitmsn.encodings import Progress
from vitmsn.image import Picture
from vitmsn.ui.locale import later, tr, tr_count, tr_html, tr_said
from vitmsn.ui.shared import html, patch_grid
from vitmsn.ui.shared.checks import choice
from vitmsn.ui.shared.scripts import script

SCRIPT = script(__file__, "mask_bits.js", "deciding_patches.js")
BY = {"attention": later("What CLS looks at most"), "relevance": later("What speaks most for the answer")}
SIDE = 400


def run(encoder: Encoder, picture: Picture, by: str, progress: Progress | None = None) -> robustness.Search:
    """Run the search, ordered by attention of the last layer or by relevance."""
    choice(by, "by", BY)
    kind = "cls" if by == "attention" else "relevance"
    scores = look.look(encoder, picture, kind).values.ravel()
    return robustness.search(encoder, picture, scores, progress=progress)


def sentence(encoder: Encoder, picture: Picture, found: robustness.Search) -> str:
    """What was found, in words, and whether the model was sure of its answer to begin with."""
    if found.kind == "prototype":
        said = tr("Without a classifier the answer is the nearest prototype: {answer}.", answer=tr_said(found.answer))
    else:
        [result] = encoder.classify(picture, top_k=1)
        first = tr("Answer: {answer} ({share}).") if result.sure else tr("Not sure. Closest match: {answer} ({share}).")
        said = first.format(answer=found.answer, share=html.percent(result.probabilities[0]))
    if found.flip is None:
        said += tr(" Hiding all patches but one does not change it.")
    else:
        changes = (
            tr(" Hiding {count} of {patches} changes it to {other}{chance}.")
            if found.flip_steps[-1].sure
            else tr(" Hiding {count} of {patches} makes {other} the closest match, not sure{chance}.")
        )
        said += changes.format(
            count=_count(len(found.flip)),
            patches=found.patches,
            other=tr_said(found.changes_to or ""),
            chance=_chance(found.flip_random),
        )
    keeps = (
        tr(" {count} alone can keep it{chance}.")
        if found.keep_steps[-1].sure
        else tr(" {count} alone can keep it the closest match, not sure{chance}.")
    )
    return said + keeps.format(count=_count(len(found.keep)), chance=_chance(found.keep_random))


def _chance(sizes: Sequence[int | None]) -> str:
    words = [tr("never") if size is None else str(size) for size in sizes]
    return tr(" (in random order: {sizes} and {last})", sizes=", ".join(words[:-1]), last=words[-1])


def _count(number: int) -> str:
    return tr_count(number, "{n} patch", "{n} patches")


def shown(encoder: Encoder, picture: Picture, found: robustness.Search) -> Markup:
    """Both searches as HTML: a picture that loses patches one by one, a slider through the steps, the answer."""
    grid = found.grid
    photo = html.img(patch_grid.seen(encoder, picture, side=SIDE), tr("Your picture; hidden patches are gray"))
    pieces = []
    if found.flip is not None:
        pieces.append(_way(tr("Hidden until the answer changes"), photo, found.flip_steps, grid, found.answer))
    pieces.append(_way(tr("Hidden as long as the answer stays"), photo, found.keep_steps, grid, found.answer))
    note = html.hint(
        tr(
            "Patches go in the order chosen; the last step gives back, or takes away, every patch that makes no "
            "difference. The smallest set we found; a smaller one may exist."
        )
    )
    return Markup('<div class="msn-search">{}</div>{}').format(Markup().join(pieces), note)


def _way(title: str, photo: str, steps: list[robustness.SearchStep], grid: tuple[int, int], answer: str) -> Markup:
    told = [
        {"hidden": _hex(step.hidden, grid[0] * grid[1]), "said": _said(step, grid[0] * grid[1], answer)}
        for step in steps
    ]
    gone = set(steps[-1].hidden.tolist())
    cells = Markup().join(
        Markup('<i class="msn-gone"></i>') if n in gone else Markup("<i></i>") for n in range(grid[0] * grid[1])
    )
    data = json.dumps(told)
    last = len(steps) - 1
    return tr_html(
        '<section data-steps="{}"><h3>{}</h3><div class="msn-cells-over">{}'
        '<div class="msn-cells" style="--columns:{}" aria-hidden="true">{}</div></div>'
        '<div class="msn-scrub"><input type="range" min="0" max="{}" value="{}" aria-label="Step: {}" '
        'aria-valuetext="{}"><button type="button" data-play>Play</button></div>'
        '<output aria-live="off">{}</output></section>'
    ).format(
        data, title, photo, grid[1], cells, last, last, title, html.text(told[-1]["said"]), html.text(told[-1]["said"])
    )


def _said(step: robustness.SearchStep, patches_in_all: int, answer: str) -> str:
    told = {
        (True, True): tr("{hidden} of {total} hidden: still {answer} ({share})"),
        (True, False): tr("{hidden} of {total} hidden: not sure, closest match still {answer} ({share})"),
        (False, True): tr("{hidden} of {total} hidden: now {now} ({share}); {answer} {left}"),
        (False, False): tr("{hidden} of {total} hidden: not sure, closest match now {now} ({share}); {answer} {left}"),
    }[step.same, step.sure]
    return told.format(
        hidden=len(step.hidden),
        total=patches_in_all,
        now=tr_said(step.answer),
        share=html.percent(step.probability),
        answer=tr_said(answer),
        left=html.percent(step.first),
    )


def _hex(hidden: np.ndarray, patches_in_all: int) -> str:
    """Hidden patches as hexadecimal digits, four patches each, the first in the highest bit."""
    flags = np.zeros(-(-patches_in_all // 4) * 4, dtype=int)
    flags[hidden] = 1
    return "".join(f"{value:x}" for value in flags.reshape(-1, 4) @ [8, 4, 2, 1])
