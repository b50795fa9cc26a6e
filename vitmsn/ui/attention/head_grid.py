"""All heads of a model at a glance: small maps as buttons, by layer or sorted, and suggestions which to look at."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from markupsafe import Markup

from vitmsn import attention, draw
from vitmsn.ui.locale import later, tr, tr_html
from vitmsn.ui.shared import html, patch_grid
from vitmsn.ui.shared.scripts import script

ORDERS = {
    "layer": later("Layer"),
    "entropy": later("Most focused"),
    "distance": later("Farthest"),
    "agreement": later("Most unusual"),
}
ORDER = later("Focused: few patches. Far: across the picture. Unusual: differs from its layer.")
REASONS = {  # of `attention.suggest`
    "focused": later("most focused: half of its attention falls on {value:.0f} of {patches} patches"),
    "alone": later("most unusual: only {percent} overlap with its layer"),
    "far": later("looks farthest: its patches attend {value:.1f} patches away on average"),
    "near": later("looks nearest: its patches attend {value:.1f} patches away on average"),
}

SCRIPT = script(__file__, "head_grid.js")


def heads(
    maps: np.ndarray,
    chosen: tuple[int, int],
    layer: int,
    whom: str,
    order: str = "layer",
    distance: np.ndarray | None = None,
    palette: str = "magma",
) -> Markup:
    """The small maps on one color scale, as HTML.

    Args:
        maps: (layers, heads, rows, columns), shares of the attention of `whom`.
        chosen: (layer, head) of the map that is shown large, from 1; head 0: none.
        layer: where the Tab key lands when none is shown large.
        order: one of `ORDERS`.
        distance: (layers, heads), from `attention.head_statistics`, if measured.
    """
    layers, many, rows, columns = maps.shape
    top = float(np.quantile(maps, 0.98)) or 1.0  # otherwise a few very bright patches would leave all others black
    stop = chosen if chosen[1] else (layer, 1)
    flat = torch.from_numpy(maps).flatten(2)  # (L, H, N)
    values = ranked(flat, order, distance)
    cells = []
    if values is None:
        names = Markup().join(
            tr_html('<span style="--head:{}">head {}</span>').format(head, head) for head in range(1, many + 1)
        )
        corner = tr_html('<span style="--head:0">layer</span>')
        cells.append(Markup('<div class="msn-names" aria-hidden="true">{}{}</div>').format(corner, names))
        for number in range(1, layers + 1):
            found = [_cell(maps, (number, head), (number, head), chosen, stop) for head in range(1, many + 1)]
            layer_name = tr_html("<span><b>layer </b>{}</span>").format(number)
            cells.append(
                Markup('<div class="msn-layer" style="--layer:{}">{}<div>{}</div></div>').format(
                    number, layer_name, Markup().join(found)
                )
            )
    else:
        if not chosen[1]:
            stop = _first(values, many)
        for place, index in enumerate(np.argsort(values, axis=None, kind="stable")):
            here = int(index) // many + 1, int(index) % many + 1
            at = place % layers + 1, place // layers + 1
            cells.append(
                Markup("<div>{}<span>{}.{}</span></div>").format(_cell(maps, here, at, chosen, stop), here[0], here[1])
            )
    label = tr("What {whom} looks at in every layer and head; arrow keys move, Enter enlarges", whom=whom)
    style = f"--layers:{layers};--heads:{many};--aspect:{columns}/{rows};--sheet:url({_sheet(maps, top, palette)})"
    kind = "" if values is None else " msn-sorted"
    named = (
        "" if values is None else html.hint(tr("{order} first; the numbers are layer.head.", order=tr(ORDERS[order])))
    )
    return Markup(
        '<section class="msn-heads">{}<div class="msn-heads-scroll">'
        '<div class="msn-heads-grid{}" role="group" aria-label="{}" style="{}">{}</div>'
        "</div>{}"
        "{}</section>"
    ).format(
        named,
        kind,
        label,
        style,
        Markup().join(cells),
        patch_grid.legend((0.0, top), tr("or more of the attention, on one patch"), palette),
        suggested(flat, distance, maps.shape[2] * maps.shape[3]),
    )


def ranked(maps: torch.Tensor, order: str, distance: np.ndarray | None) -> np.ndarray | None:
    """(L, H) sort keys for the maps (L, H, N), smallest first; None for layer order."""
    if order == "entropy":
        return attention.entropy(maps).numpy()
    if order == "agreement":
        return attention.agreement(maps).numpy()
    return None if order != "distance" or distance is None else -distance


def suggested(maps: torch.Tensor, distance: np.ndarray | None, total: int) -> Markup:
    """Heads worth a look, as buttons that enlarge them, each with its reason."""
    far = None if distance is None else torch.from_numpy(distance)
    items = ""
    for found in attention.suggest(maps, far):
        why = tr(
            REASONS[found.reason],
            value=found.value,
            patches=total,
            percent=html.share(found.value) if found.reason == "alone" else "",
        )
        place = Markup('data-layer="{}" data-head="{}"').format(found.layer + 1, found.head + 1)
        name = tr("Layer {layer}, head {head}", layer=found.layer + 1, head=found.head + 1)
        items += Markup('<li><button type="button" {}>{}</button> {}</li>').format(place, name, html.text(why))
    return tr_html('<h4>Worth a look</h4><ul class="msn-suggested">{}</ul>').format(items)


def _first(values: np.ndarray, many: int) -> tuple[int, int]:
    layer, head = divmod(int(values.argmin()), many)
    return layer + 1, head + 1


def _cell(
    maps: np.ndarray, here: tuple[int, int], at: tuple[int, int], chosen: tuple[int, int], stop: tuple[int, int]
) -> Markup:
    layer, head = here
    row, column = patch_grid.peak(maps[layer - 1, head - 1])
    return tr_html(
        '<button type="button" data-layer="{}" data-head="{}" data-x="{}" data-y="{}" '
        'tabindex="{}" aria-pressed="{}" '
        'aria-label="Layer {}, head {}: peak at row {}, column {}" '
        'style="--head:{};background-position:{} {}"></button>'
    ).format(
        layer,
        head,
        at[0],
        at[1],
        0 if here == stop else -1,
        "true" if here == chosen else "false",
        layer,
        head,
        row,
        column,
        head,
        _place(layer, maps.shape[0]),
        _place(head, maps.shape[1]),
    )


def _sheet(maps: np.ndarray, top: float, palette: str) -> str:
    """All maps edge to edge, one pixel per patch, as a lossless data: URL."""
    buffer = io.BytesIO()
    sheet = draw.head_grid(maps.transpose(1, 0, 2, 3), (0.0, top), zoom=1, gap=0, palette=palette)
    sheet.quantize(256).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _place(number: int, count: int) -> str:
    return f"{100 * (number - 1) / max(count - 1, 1):.4f}%"
