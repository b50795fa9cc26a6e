"""The class cards as HTML: names, pictures, ways to add more.

Names of classes and files are visitors' own and always escaped. What can be
clicked carries `data-act`; fewshot.js listens.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vitmsn import draw, limits
from vitmsn.gallery import Example
from vitmsn.ui.locale import tr, tr_html
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.workspace import Workspace

THUMBNAILS = 240  # pictures shown in all cards together; the others count but are not shown
ON_A_CARD = 24


def picture(workspace: Workspace, example: Example, alt: str) -> Markup:
    """A small picture of an example or query."""
    return Markup('<img src="{}" alt="{}">').format(workspace.url(example), html.text(alt))


def cards(workspace: Workspace) -> Markup:
    """A card for each class: name, pictures, ways to add more; then a summary of the set and the room left."""
    shown = workspace.gallery
    members: dict[str, list[Example]] = {label: [] for label in shown.classes}
    for example in shown.examples:
        members[example.label].append(example)
    most = max(4, min(ON_A_CARD, THUMBNAILS // max(1, len(members))))
    items = Markup().join(
        _card(workspace, i, label, own, len(own) if label in workspace.unfolded else most)
        for i, (label, own) in enumerate(members.items())
    )
    undo = tr_html('<button type="button" class="msn-button" data-act="undo">Undo: {}</button>').format(
        html.text(workspace.undo)
    )
    credit = next((tr(known.credit) for known in examples.starter_sets() if known.name == workspace.starter), "")
    room = tr(
        "{many} of at most {most} pictures in {classes} of at most {most_classes} classes; "
        "{size} MB a picture. Click pictures to move or remove them.",
        many=len(shown),
        most=limits.MAX_EXAMPLES,
        classes=len(members),
        most_classes=limits.MAX_CLASSES,
        size=limits.MAX_IMAGE_BYTES // limits.MIB,
    )
    set_name = workspace.starter or ("own" if len(shown) else "")
    unsaved = workspace.own and workspace.saved != workspace.version
    return Markup('{}<div class="msn-cards" tabindex="-1" data-version="{}" data-set="{}"{}>{}</div>{}{}{}{}').format(
        _unsaved(len(shown)) if unsaved else "",
        workspace.version,
        set_name,
        Markup(" data-own") if unsaved else "",
        items,
        _picked(list(members)),
        undo if workspace.undo else "",
        html.hint(room),
        html.hint(tr("Pictures: {credit}.", credit=credit)) if credit else "",
    )


def _card(workspace: Workspace, index: int, label: str, members: list[Example], most: int) -> Markup:
    letter, name = draw.class_style(index)[1], html.text(label)
    thumbnails = Markup().join(
        Markup('<li><button type="button" data-pick="{}" aria-pressed="false" title="{}">{}</button></li>').format(
            example.id,
            html.text(example.name),
            picture(workspace, example, tr("{name} in {label}", name=example.name, label=label)),
        )
        for example in members[-most:]
    )
    hidden = len(members) - most
    unfold = tr_html(
        '<li><button type="button" class="msn-more" data-act="unfold" data-id="{}">and {} more</button>'
    ).format(name, hidden)
    more = Markup("{}</li>").format(unfold) if hidden > 0 else ""
    resting = bool(members) and not any(example.enabled for example in members)
    others = Markup().join(
        Markup('<option value="{}">{}</option>').format(html.text(other), html.text(other, 40))
        for other in workspace.gallery.classes
        if other != label
    )
    turn = Markup('<button type="button" class="msn-button" data-act="{}" data-id="{}">').format(
        "wake" if resting else "rest", name
    )
    merge = tr_html(
        '<select class="msn-select" data-merge="{}" aria-label="Merge class {} into">'
        '<option value="">Merge into …</option>{}</select>'
    ).format(name, name, others)
    menu = tr_html(
        '<details class="msn-menu"><summary aria-label="More for class {}" title="More">⋯</summary><div>'
        "{}{}</button>{}</div></details>"
    ).format(name, turn, tr("Count this class again") if resting else tr("Pause this class"), merge if others else "")
    return tr_html(
        '<section class="msn-card{}" data-drop="{}" '
        'aria-label="Class {}: {}">'
        '<header>{}<input data-rename="{}" value="{}" maxlength="{}" '
        'autocomplete="off" aria-label="Name of class {}"><span>{}</span>{}'
        '<button type="button" class="msn-x" data-act="remove-class" data-id="{}" title="Remove this class" '
        'aria-label="Remove class {}">×</button></header>'
        "{}"
        "<ul>{}{}</ul><footer>{}</footer>"
        '<p data-said role="status"></p></section>'
    ).format(
        " msn-resting" if resting else "",
        name,
        letter,
        name,
        html.badge(index),
        name,
        name,
        limits.MAX_NAME_LENGTH,
        letter,
        len(members),
        menu,
        name,
        name,
        html.hint(tr("Left out: it is kept and does not count.")) if resting else "",
        thumbnails,
        more,
        ways(tr("Add pictures"), tr("Add pictures to {label}", label=label)),
    )


def _unsaved(count: int) -> Markup:
    """The bar that saves the visitor's own set; it stays in sight above the cards."""
    return tr_html(
        '<div class="msn-save"><span>{}, not saved</span>'
        '<button type="button" class="msn-button" data-save>Save set (.zip)</button></div>'
    ).format(html.pictures(count))


def _picked(labels: Sequence[str]) -> Markup:
    """The bar of actions on the chosen pictures; fewshot.js shows it while there are any."""
    options = Markup().join(
        Markup('<option value="{}">{}</option>').format(html.text(label), html.text(label, 40)) for label in labels
    )
    return tr_html(
        '<div class="msn-picked" role="group" aria-label="Chosen pictures" hidden><span role="status"></span>'
        '<select class="msn-select" data-move aria-label="Move the chosen pictures to"><option value="">Move to …'
        '</option>{}</select><button type="button" class="msn-button" data-remove>Remove</button>'
        '<button type="button" class="msn-button" data-let-go>Clear selection</button></div>'
    ).format(options)


def ways(words: str, title: str) -> Markup:
    """The ways to send pictures: a file chooser and the camera."""
    said = html.text(title)
    return tr_html(
        '<label class="msn-button">{}<input type="file" multiple aria-label="{}"></label>'
        '<button type="button" class="msn-button" data-camera="{}" aria-label="{} by camera">Camera</button>'
    ).format(words, said, said, said)
