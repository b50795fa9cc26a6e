"""The class cards as HTML: names, pictures, ways to add more.

Names of classes and files are visitors' own and always escaped. What can be
clicked carries `data-act`; fewshot.js listens.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitmsn import draw, limits
from vitmsn.gallery import Example
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.workspace import Studio

THUMBNAILS = 240  # shown in all cards together; the others count without being shown
ON_A_CARD = 24


def picture(studio: Studio, example: Example, alt: str) -> str:
    """A small picture of an example or query."""
    return f'<img src="{studio.url(example)}" alt="{html.text(alt)}">'


def cards(studio: Studio) -> str:
    """A card for each class: name, pictures, ways to add more; then what the set is and how much room is left."""
    shown = studio.gallery
    members: dict[str, list[Example]] = {label: [] for label in shown.classes}
    for example in shown.examples:
        members[example.label].append(example)
    most = max(4, min(ON_A_CARD, THUMBNAILS // max(1, len(members))))
    items = "".join(
        _card(studio, i, label, own, len(own) if label in studio.unfolded else most)
        for i, (label, own) in enumerate(members.items())
    )
    undo = f'<button type="button" class="msn-button" data-act="undo">Undo: {html.text(studio.undo)}</button>'
    credit = next((known.credit for known in examples.starter_sets() if known.name == studio.starter), "")
    room = (
        f"{len(shown)} of at most {limits.MAX_EXAMPLES} pictures in {len(members)} of at most {limits.MAX_CLASSES} "
        f"classes; {limits.MAX_IMAGE_BYTES // limits.MIB} MB a picture. Click pictures to move or remove them."
    )
    own = " data-own" if studio.own else ""
    return (
        f'<div class="msn-cards" data-version="{studio.version}"{own}>{items}</div>{_picked(list(members))}'
        f"{undo if studio.undo else ''}"
        f"{html.hint(room)}{html.hint(f'Pictures: {credit}.') if credit else ''}"
    )


def _card(studio: Studio, index: int, label: str, members: list[Example], most: int) -> str:
    letter, name = draw.class_style(index)[1], html.text(label)
    thumbnails = "".join(
        f'<li><button type="button" data-pick="{example.id}" aria-pressed="false" title="{html.text(example.name)}">'
        f"{picture(studio, example, f'{example.name} in {label}')}</button></li>"
        for example in members[-most:]
    )
    hidden = len(members) - most
    unfold = f'<li><button type="button" class="msn-more" data-act="unfold" data-id="{name}">and {hidden} more</button>'
    more = f"{unfold}</li>" if hidden > 0 else ""
    resting = bool(members) and not any(example.enabled for example in members)
    others = "".join(
        f'<option value="{html.text(other)}">{html.text(other, 40)}</option>'
        for other in studio.gallery.classes
        if other != label
    )
    turn = f'<button type="button" class="msn-button" data-act="{"wake" if resting else "rest"}" data-id="{name}">'
    merge = (
        f'<select class="msn-select" data-merge="{name}" aria-label="Merge class {name} into">'
        f'<option value="">Merge into …</option>{others}</select>'
    )
    menu = (
        f'<details class="msn-menu"><summary aria-label="More for class {name}" title="More">⋯</summary><div>'
        f"{turn}{'Count it again' if resting else 'Leave it out'}</button>{merge if others else ''}</div></details>"
    )
    return (
        f'<section class="msn-card{" msn-resting" if resting else ""}" data-drop="{name}" '
        f'aria-label="Class {letter}: {name}">'
        f'<header>{html.badge(index)}<input data-rename="{name}" value="{name}" maxlength="{limits.MAX_NAME_LENGTH}" '
        f'autocomplete="off" aria-label="Name of class {letter}"><span>{len(members)}</span>{menu}'
        f'<button type="button" class="msn-x" data-act="remove-class" data-id="{name}" title="Remove this class" '
        f'aria-label="Remove class {name}">×</button></header>'
        f"{html.hint('Left out: it is kept and does not count.') if resting else ''}"
        f"<ul>{thumbnails}{more}</ul><footer>{ways('Add pictures', f'Add pictures to {label}')}</footer>"
        '<p data-said role="status"></p></section>'
    )


def _picked(labels: Sequence[str]) -> str:
    """What can be done with the pictures that were clicked; fewshot.js shows it while there are any."""
    options = "".join(f'<option value="{html.text(label)}">{html.text(label, 40)}</option>' for label in labels)
    return (
        '<div class="msn-picked" role="group" aria-label="Chosen pictures" hidden><span role="status"></span>'
        f'<select class="msn-select" data-move aria-label="Move the chosen pictures to"><option value="">Move to …'
        f'</option>{options}</select><button type="button" class="msn-button" data-remove>Remove</button>'
        '<button type="button" class="msn-button" data-let-go>Let go</button></div>'
    )


def ways(words: str, title: str) -> str:
    """The ways to send pictures: a file chooser and the camera."""
    said = html.text(title)
    return (
        f'<label class="msn-button">{words}<input type="file" accept="image/*" multiple aria-label="{said}"></label>'
        f'<button type="button" class="msn-button" data-camera="{said}" aria-label="{said} by camera">Camera</button>'
    )
