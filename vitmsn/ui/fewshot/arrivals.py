"""Pictures that arrive for Few-shot: decoded one at a time, and what went differently than expected, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitmsn.errors import ImageError
from vitmsn.gallery import Added
from vitmsn.image import Picture
from vitmsn.ui.locale import tr, tr_said
from vitmsn.ui.shared.photo import check_total, read_picture, sent
from vitmsn.ui.visits import Call

FEW = 3  # sentences of a message; more files than that are also listed


def decoded(call: Call, refused: list[str], notes: list[str]) -> Iterator[Picture]:
    """Decode the uploads one at a time; collect refusals and notes on the way."""
    paths = sent(call)
    check_total(paths)
    for number, path in enumerate(paths):
        call.progress(number, len(paths))
        try:
            picture = read_picture(path)
        except ImageError as error:
            refused.append(tr_said(str(error)))
            continue
        if picture.notes:
            notes.append(f"{picture.name}: {', '.join(map(tr_said, picture.notes))}")
        yield picture


def told(added: Added, refused: Sequence[str], notes: Sequence[str]) -> list[str]:
    """What went differently than expected, one sentence each: duplicates, refusals, notes; empty if all went well."""
    doubles = [skip for skip in added.skipped if skip.reason.startswith("the same picture")]
    rest = [skip for skip in added.skipped if skip not in doubles]
    alike: dict[str, list[str]] = {}
    for skip in rest:
        alike.setdefault(skip.reason, []).append(skip.name)
    others = [
        tr_said(reason) if reason.startswith(names[0]) else f"{_several(names)}: {tr_said(reason)}"
        for reason, names in alike.items()
    ]
    said = [*(text.rstrip(".") for text in [*refused, *others]), *map(tr_said, notes)]
    if doubles:
        first = tr_said(f"{doubles[0].name} is {doubles[0].reason}")
        said.insert(
            0,
            first
            if len(doubles) == 1
            else tr("{many} pictures were here already ({first})", many=len(doubles), first=first),
        )
    return said


def sentence(said: Sequence[str]) -> str:
    more = tr("; and {many} more like these", many=len(said) - FEW) if len(said) > FEW else ""
    return f"{'; '.join(said[:FEW])}{more}." if said else ""


def tell(call: Call, added: Added, refused: Sequence[str], notes: Sequence[str]) -> None:
    """Say what went differently: one sentence, or a list with one line each; files named together can be unfolded."""
    said = told(added, refused, notes)
    left_out = [
        tr_said(skip.reason) if skip.reason.startswith(skip.name) else f"{skip.name}: {tr_said(skip.reason)}"
        for skip in added.skipped
    ]
    every = [*notes, *refused, *left_out]
    if len(said) == 1:
        call.message = f"{said[0]}."
        call.details = tuple(every if len(every) > FEW else [])
    elif said:
        call.details = tuple(said if len(said) >= len(every) else every)


def _several(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else tr("{many} files, {first} among them", many=len(names), first=names[0])
