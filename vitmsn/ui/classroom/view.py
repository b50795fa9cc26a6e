"""What class mode shows: the dialog, the projector's side, the phone's side, the picture in squares, the board."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vitmsn import limits
from vitmsn.ui.classroom import address
from vitmsn.ui.classroom.address import Place
from vitmsn.ui.classroom.challenge import Challenge
from vitmsn.ui.classroom.room import BoardRow, Judged, Seat
from vitmsn.ui.locale import tr, tr_count, tr_html
from vitmsn.ui.shared import examples, html

DROPPED_AT_ONCE = 10  # by the button that drops some at random
MOST_IN_ONE_COLUMN = 8  # results on the board


def door() -> Markup:
    """The button in the header and the empty dialog that it opens; `classroom.js` fills it."""
    return tr_html(
        '<button type="button" class="msn-button" data-open aria-haspopup="dialog">Class</button>'
        '<dialog class="msn-class" aria-labelledby="class-title"><header>'
        '<h2 id="class-title" tabindex="-1" autofocus>Class</h2>'
        '<button type="button" class="msn-x" data-close aria-label="Close">×</button></header>'
        '<p class="msn-hint" role="status" data-said></p><div data-view></div></dialog>'
    )


# --- the projector ---------------------------------------------------------------------------------------------------


def projector(places: Sequence[Place], own_picture: bool) -> Markup:
    """The teacher's side: how to join, the round, the board."""
    return tr_html(
        '<div class="msn-class-screen"><section class="msn-class-join" aria-label="How to join">{}'
        '<p class="msn-class-count"><b data-phones>0</b> <span data-phones-word>phones</span> connected</p></section>'
        '<section class="msn-class-round"><div data-game></div>{}<div data-board></div>'
        '<div class="msn-class-bar"><button type="button" class="msn-button" data-new hidden>New round</button>'
        '<button type="button" class="msn-button" data-end>Close the class</button></div></section></div>'
    ).format(_how_to_join(places), _chooser(own_picture))


def _how_to_join(places: Sequence[Place]) -> Markup:
    if not places:
        return html.sentence(tr(address.NONE_FOUND))
    parts = [
        Markup(
            '<div data-place="{}"{}><div class="msn-class-qr">{}</div>'
            '<p class="msn-class-address"><a href="{}" target="_blank" rel="noreferrer">{}</a></p></div>'
        ).format(number, Markup(" hidden") if number else "", address.picture(place), place.url, _typed(place))
        for number, place in enumerate(places)
    ]
    if len(places) > 1:
        choice = Markup('<button type="button" class="msn-button" data-show="{}" aria-pressed="{}">{}</button>')
        buttons = Markup().join(
            choice.format(number, "false" if number else "true", html.text(f"{one.short} ({one.interface})"))
            for number, one in enumerate(places)
        )
        parts.append(
            tr_html(
                "<details><summary>{} addresses: which one?</summary><p class='msn-hint'>"
                "The one of the network that the phones are in.</p>{}</details>"
            ).format(len(places), buttons)
        )
    return Markup().join(parts)


def _typed(place: Place) -> Markup:
    """The address in large letters: where it is too long for a line, it breaks before the page's name."""
    host = place.short.removesuffix(address.PAGE)
    return Markup("{}<wbr>{}").format(host, address.PAGE)


def _chooser(own_picture: bool) -> Markup:
    """Pictures to start a round with; one click starts it."""
    mine = tr_html('<button type="button" class="msn-button" data-own>Your picture from this page</button>')
    pictures = Markup().join(
        Markup('<li><button type="button" data-example="{}">{}<span>{}</span></button></li>').format(
            html.text(one.name), html.img(examples.square(one.picture.rgb), ""), html.text(tr(one.title))
        )
        for one in examples.photographs()
    )
    return tr_html(
        '<div data-choose><h3>Which picture? A click starts the round.</h3><ul class="msn-class-pictures">{}</ul>'
        '<div class="msn-class-bar"><label class="msn-button">Choose a file<input type="file" '
        'accept="image/*,.heic,.heif,.avif,.tif,.tiff" data-file aria-label="Choose a file"></label>{}'
        '<button type="button" class="msn-button" data-again hidden>The same picture again</button></div></div>'
    ).format(pictures, mine if own_picture else "")


def screen(challenge: Challenge) -> Markup:
    """The round on the projector: the task, the picture, what the model says of it."""
    return Markup('<div class="msn-class-task">{}<div>{}{}{}</div></div>').format(
        Markup('<img src="{}" alt="{}">').format(challenge.picture, html.text(tr(challenge.title))),
        _task(challenge),
        _answer(challenge),
        html.hint(
            tr("Dropped one by one without looking, a random choice needs {chance}.", chance=_left(challenge.chance))
        ),
    )


# --- the phone -------------------------------------------------------------------------------------------------------


def phone(seat: Seat) -> Markup:
    """The phone's side: the round, the nickname, the board, and how a teacher's page says that it is one."""
    return tr_html(
        '<div class="msn-class-play"><div data-game>{}</div>'
        '<form data-name><label for="class-name">You are <b data-title>{}</b>. Another nickname?</label>'
        '<div class="msn-class-bar"><input id="class-name" type="text" maxlength="{}" autocomplete="off" value="{}">'
        '<button type="submit" class="msn-button">Save</button></div>{}</form><div data-board></div>'
        '<details><summary>I am the teacher</summary><form data-teacher><label for="class-code">The code that the '
        'terminal shows</label><div class="msn-class-bar"><input id="class-code" type="text" maxlength="20" '
        'autocomplete="off" autocapitalize="characters"><button type="submit" class="msn-button">Lead the class'
        "</button></div></form></details></div>"
    ).format(
        html.sentence(tr("You are in. The round starts when the teacher chooses a picture.")),
        html.text(seat.title),
        limits.CLASS_NAME_LENGTH,
        html.text(seat.name),
        html.hint(tr("Name and result are on the projector, and gone when the teacher closes the class.")),
    )


def game(challenge: Challenge) -> Markup:
    """The picture as squares to press, with the model's answer and the buttons under it."""
    rows, columns = challenge.squares
    cell = Markup('<button type="button" data-cell="{}" aria-pressed="false" aria-label="{}" tabindex="{}"></button>')
    cells = Markup().join(
        cell.format(
            place,
            tr("Row {row}, column {column}", row=place // columns + 1, column=place % columns + 1),
            -1 if place else 0,
        )
        for place in range(challenge.count)
    )
    finer = (
        tr(" Each square is {patches} × {patches} patches.", patches=challenge.patches) if challenge.patches > 1 else ""
    )
    return tr_html(
        '{}<div class="msn-class-cells" role="group" aria-label="{}" data-columns="{}" style="--columns:{};--rows:{}">'
        '{}</div><p class="msn-class-answer" role="status" data-answer>{}</p><p class="msn-hint" data-best></p>'
        '<div class="msn-class-bar"><button type="button" class="msn-button" data-drop="{}">Drop {} at random</button>'
        '<button type="button" class="msn-button" data-undo disabled>Undo</button>'
        '<button type="button" class="msn-button" data-all disabled>Reset</button></div>'
    ).format(
        _task(challenge),
        html.text(tr("{title}, in squares: press one to drop it, again to bring it back", title=tr(challenge.title))),
        columns,
        columns,
        rows,
        cells,
        html.text(
            tr(
                "{count}: {name}, {probability}. Tap one to drop it.{finer}",
                count=_count(challenge, challenge.count),
                name=challenge.answer.name,
                probability=html.percent(challenge.answer.probability),
                finer=finer,
            )
        ),
        DROPPED_AT_ONCE,
        DROPPED_AT_ONCE,
    )


def sentence(judged: Judged) -> str:
    """What the model says of a phone's choice."""
    said, challenge = judged.said, judged.challenge
    left = _count(challenge, judged.kept)
    if judged.same:
        return tr(
            "{left}: still {name}, {probability}.",
            left=left,
            name=said.name,
            probability=html.percent(said.probability),
        )
    return tr(
        "{left}: now {name}, {probability}; {answer} has {wanted}. Bring one back.",
        left=left,
        name=said.name,
        probability=html.percent(said.probability),
        answer=challenge.answer.name,
        wanted=html.percent(said.wanted),
    )


def best(seat: Seat) -> str:
    """The phone's best result so far."""
    return tr("Your best: {kept}.", kept=_left(seat.best.kept)) if seat.best else ""


# --- both ------------------------------------------------------------------------------------------------------------


def board(rows: Sequence[BoardRow], challenge: Challenge | None, for_teacher: bool) -> Markup:
    """The results, fewest patches first, with the random choice in its place among them."""
    if challenge is None:
        return Markup()
    if not rows:
        return tr_html("<h3>Board</h3>{}").format(html.hint(tr("No result yet. Drop a patch to be the first.")))
    lines = [_line(place, row, challenge, for_teacher) for place, row in enumerate(rows, start=1)]
    chance = tr_html(
        '<li class="msn-class-chance"><span></span><span></span><span>A random choice</span><b>{}</b></li>'
    )
    lines.insert(sum(row.kept < challenge.chance for row in rows), chance.format(challenge.chance))
    many = Markup(' class="msn-class-many"') if len(rows) > MOST_IN_ONE_COLUMN else ""
    lesson = html.hint(_lesson(rows[0], challenge))
    return tr_html("<h3>Board</h3>{}<ol{}>{}</ol>").format(lesson, many, Markup().join(lines))


def _line(place: int, row: BoardRow, challenge: Challenge, for_teacher: bool) -> Markup:
    title = html.text(row.title)
    take = tr_html(
        '<button type="button" class="msn-x" data-take="{}" aria-label="Take the nickname {} away">×</button>'
    ).format(row.number, title)
    return Markup('<li data-phone="{}"><span>{}</span>{}<span>{}</span><b>{}</b>{}</li>').format(
        row.number, place, _mask(row, challenge), title, row.kept, take if for_teacher else ""
    )


def _mask(row: BoardRow, challenge: Challenge) -> Markup:
    """A small picture of what a phone kept: the shared picture, with the dropped squares drawn over it."""
    rows, columns = challenge.squares
    holes = " ".join(f"M{place % columns} {place // columns}h1v1h-1z" for place in sorted(row.dropped))
    return Markup('<svg viewBox="0 0 {} {}" aria-hidden="true" preserveAspectRatio="none"><path d="{}"/></svg>').format(
        columns, rows, holes
    )


def _lesson(first: BoardRow, challenge: Challenge) -> str:
    if first.kept >= challenge.chance:
        return tr("A random choice needs {chance}: who finds the patches that matter?", chance=_left(challenge.chance))
    return tr(
        "{title} needs {kept}, a random choice {chance}: which patches stay matters more than how many.",
        title=html.plain(first.title),
        kept=_left(first.kept),
        chance=challenge.chance,
    )


def _task(challenge: Challenge) -> Markup:
    return tr_html("<h3>Keep <em>{}</em> with the fewest patches</h3>").format(html.text(challenge.answer.name))


def _answer(challenge: Challenge) -> Markup:
    probability = html.percent(challenge.answer.probability)
    return html.sentence(
        tr(
            "Of the whole picture the model says {name}, {probability}.",
            name=challenge.answer.name,
            probability=probability,
        )
    )


def _left(count: int) -> str:
    return tr_count(count, "{n} patch", "{n} patches")


def _count(challenge: Challenge, kept: int) -> str:
    return tr("{kept} of {count} left", kept=kept, count=challenge.count)
