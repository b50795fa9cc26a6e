"""What the small buttons of Few-shot do: change examples and classes, and open details.

Each change can be undone. Names and ids come from the page and are not trusted: they are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vitmsn import attention, draw, image
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError, GalleryError
from vitmsn.ui.locale import tr
from vitmsn.ui.shared import html
from vitmsn.ui.shared.html import pictures
from vitmsn.ui.shared.workspace import Workspace
from vitmsn.ui.visits import Call

if TYPE_CHECKING:
    from vitmsn.fewshot import LearningCurve, Lesson


def _ids(call: Call, id: str) -> list[str]:
    """The examples that a button acts on: several if they were chosen together."""
    ids = call.chosen("ids")
    return [str(one) for one in ids] if isinstance(ids, list) and ids else [id]


def _several(workspace: Workspace, ids: Sequence[str]) -> str:
    return workspace.gallery[ids[0]].name if len(ids) == 1 else pictures(len(ids))


def _remove(call: Call, workspace: Workspace, id: str, text: str) -> None:
    ids = _ids(call, id)
    with workspace.change(
        tr("removed {what} from {label}", what=_several(workspace, ids), label=workspace.gallery[ids[0]].label)
    ) as shown:
        shown.remove(ids)


def _move(call: Call, workspace: Workspace, id: str, text: str) -> None:
    ids, label = _ids(call, id), workspace.gallery.label(text)
    with workspace.change(tr("moved {pictures} to {label}", pictures=_several(workspace, ids), label=label)) as shown:
        shown.move(ids, label)


def _remove_class(call: Call, workspace: Workspace, id: str, text: str) -> None:
    with workspace.change(tr("removed the class {label}", label=workspace.gallery.label(id))) as shown:
        shown.remove_class(id)


def _merge(call: Call, workspace: Workspace, id: str, text: str) -> None:
    with workspace.change(
        tr("merged {label} into {other}", label=workspace.gallery.label(id), other=workspace.gallery.label(text))
    ) as shown:
        shown.merge(id, text)


def _rest(call: Call, workspace: Workspace, id: str, text: str) -> None:
    with workspace.change(tr("left out {label}", label=workspace.gallery.label(id))) as shown:
        shown.enable_class(id, False)


def _wake(call: Call, workspace: Workspace, id: str, text: str) -> None:
    with workspace.change(tr("counted {label} again", label=workspace.gallery.label(id))) as shown:
        shown.enable_class(id)


def _correct(call: Call, workspace: Workspace, id: str, text: str) -> None:
    workspace.adopt(id, text)


def _take_back(call: Call, workspace: Workspace, id: str, text: str) -> None:
    workspace.take_back()


def _cell(call: Call, workspace: Workspace, id: str, text: str) -> None:
    """Open the pictures behind a cell of the confusion matrix, or close them."""
    workspace.cell = (
        None if workspace.cell == (id, text) else (workspace.gallery.label(id), workspace.gallery.label(text))
    )


def _sort(call: Call, workspace: Workspace, id: str, text: str) -> None:
    workspace.order = {"": "up", "up": "down", "down": ""}[workspace.order]


def _unfold(call: Call, workspace: Workspace, id: str, text: str) -> None:
    workspace.unfolded.add(workspace.gallery.label(id))


def _rename(call: Call, workspace: Workspace, old: str, new: str) -> None:
    """Rename a class. If the name is refused, say so, and draw the page again so that it shows the old name."""
    try:
        with workspace.change(tr("renamed {label}", label=workspace.gallery.label(old))) as shown:
            shown.rename(old, new)
    except GalleryError as error:
        workspace.version += 1
        call.message = str(error)


CHANGES: dict[str, Callable[[Call, Workspace, str, str], None]] = {
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


def look(workspace: Workspace, encoder: Encoder, id: str) -> None:
    """Show what the model looked at in a query, or the query again."""
    query = workspace.queries[id]
    if workspace.kept.pop(("look", id), None) is None:
        picture = image.decode(query.thumbnail, name=query.name)
        tokens = encoder.tokens(picture)
        maps = attention.cls_attention(encoder.model, tokens)[:, -1].mean(1)  # of the last layer, the mean of its heads
        seen = encoder.processor.part(picture)
        seen.thumbnail((128, 128))
        shown = draw.overlay(seen, attention.to_grid(maps, tokens)[0].numpy(), 0.6)
        workspace.kept["look", id] = html.data_url(shown, quality=75)


def curve(workspace: Workspace, lesson: Lesson) -> None:
    """Measure whether more examples would help this lesson."""
    found: LearningCurve | str
    try:
        found = lesson.curve()
    except FewShotError as error:
        found = str(error)
    workspace.kept["curve"] = lesson, found
