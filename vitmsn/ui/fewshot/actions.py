"""What the small buttons of Few-shot do: to examples, to classes, and to what is looked at more closely.

Each change can be undone. What a button is about comes from the page and is not trusted: names and ids are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vitmsn import attention, draw, image
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError, GalleryError
from vitmsn.fewshot import LearningCurve, Lesson
from vitmsn.ui.shared import html
from vitmsn.ui.shared.html import many
from vitmsn.ui.shared.workspace import Studio
from vitmsn.ui.visits import Call


def _ids(call: Call, id: str) -> list[str]:
    """The examples that a button is about: several, when they were chosen together."""
    ids = call.chosen("ids")
    return [str(one) for one in ids] if isinstance(ids, list) and ids else [id]


def _several(studio: Studio, ids: Sequence[str]) -> str:
    return studio.gallery[ids[0]].name if len(ids) == 1 else many(len(ids), "picture")


def _remove(call: Call, studio: Studio, id: str, text: str) -> None:
    ids = _ids(call, id)
    with studio.change(f"removed {_several(studio, ids)} from {studio.gallery[ids[0]].label}") as shown:
        shown.remove(ids)


def _move(call: Call, studio: Studio, id: str, text: str) -> None:
    ids, label = _ids(call, id), studio.gallery.label(text)
    with studio.change(f"moved {_several(studio, ids)} to {label}") as shown:
        shown.move(ids, label)


def _remove_class(call: Call, studio: Studio, id: str, text: str) -> None:
    with studio.change(f"removed the class {studio.gallery.label(id)}") as shown:
        shown.remove_class(id)


def _merge(call: Call, studio: Studio, id: str, text: str) -> None:
    with studio.change(f"merged {studio.gallery.label(id)} into {studio.gallery.label(text)}") as shown:
        shown.merge(id, text)


def _rest(call: Call, studio: Studio, id: str, text: str) -> None:
    with studio.change(f"left out {studio.gallery.label(id)}") as shown:
        shown.enable_class(id, False)


def _wake(call: Call, studio: Studio, id: str, text: str) -> None:
    with studio.change(f"counted {studio.gallery.label(id)} again") as shown:
        shown.enable_class(id)


def _correct(call: Call, studio: Studio, id: str, text: str) -> None:
    studio.adopt(id, text)


def _take_back(call: Call, studio: Studio, id: str, text: str) -> None:
    studio.take_back()


def _cell(call: Call, studio: Studio, id: str, text: str) -> None:
    """Open the pictures behind a cell of the confusion matrix, or close them."""
    studio.cell = None if studio.cell == (id, text) else (studio.gallery.label(id), studio.gallery.label(text))


def _sort(call: Call, studio: Studio, id: str, text: str) -> None:
    studio.order = {"": "up", "up": "down", "down": ""}[studio.order]


def _unfold(call: Call, studio: Studio, id: str, text: str) -> None:
    studio.unfolded.add(studio.gallery.label(id))


def _rename(call: Call, studio: Studio, old: str, new: str) -> None:
    """A refused name is said, and the page is drawn again so that the old one stands there."""
    try:
        with studio.change(f"renamed {studio.gallery.label(old)}") as shown:
            shown.rename(old, new)
    except GalleryError as error:
        studio.version += 1
        call.message = str(error)


CHANGES: dict[str, Callable[[Call, Studio, str, str], None]] = {
    "rename": _rename,
    "remove": _remove,
    "move": _move,
    "remove-class": _remove_class,
    "merge": _merge,
    "rest": _rest,
    "wake": _wake,
    "correct": _correct,
    "undo": _take_back,
    "cell": _cell,
    "sort": _sort,
    "unfold": _unfold,
}


def look(studio: Studio, encoder: Encoder, id: str) -> None:
    """Show what the model looked at in a query, or the query again."""
    query = studio.queries[id]
    if studio.kept.pop(("look", id), None) is None:
        picture = image.decode(query.thumbnail, name=query.name)
        tokens = encoder.tokens(picture)
        maps = attention.cls_attention(encoder.model, tokens)[:, -1].mean(1)  # of the last layer, the mean of its heads
        seen = encoder.processor.view(picture) if encoder.processor.crop is not None else picture.rgb.copy()
        seen.thumbnail((128, 128))
        shown = draw.overlay(seen, attention.to_grid(maps, tokens)[0].numpy(), 0.6)
        studio.kept["look", id] = html.data_url(shown, quality=75)


def curve(studio: Studio, lesson: Lesson) -> None:
    """Measure whether more examples would help this lesson."""
    found: LearningCurve | str
    try:
        found = lesson.curve()
    except FewShotError as error:
        found = str(error)
    studio.kept["curve"] = lesson, found
