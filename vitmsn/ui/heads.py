"""All heads of a model at a glance: small maps as buttons, one row for each head and one column for each layer."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch

from vitmsn import attention, draw
from vitmsn.ui import parts, patches

HEADLINE = 2  # heads named as the most focused

# Arrows move among the maps, a click (or Enter) enlarges one. The listener outlives the maps, which come anew with each
# answer; whoever was on a map is put back on it.
MAPS = """let back = false;
const maps = () => [...element.querySelectorAll("button[data-head]")];
element.addEventListener("click", (event) => {
  const map = event.target.closest("button[data-head]");
  if (!map) return;
  back = true;
  trigger("click", {layer: Number(map.dataset.layer), head: Number(map.dataset.head)});
});
element.addEventListener("keydown", (event) => {
  const here = event.target.closest("button[data-head]");
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!here || !step) return;
  event.preventDefault();
  const layer = Number(here.dataset.layer) + step[0], head = Number(here.dataset.head) + step[1];
  const next = maps().find((map) => Number(map.dataset.layer) === layer && Number(map.dataset.head) === head);
  if (!next) return;
  here.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
new MutationObserver(() => {
  if (!back || element.contains(document.activeElement)) return;
  back = false;
  element.querySelector("button[aria-pressed=true]")?.focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});"""


def heads(maps: np.ndarray, chosen: tuple[int, int], layer: int, whom: str) -> str:
    """The small maps on one colour scale, as HTML.

    Args:
        maps: (heads, layers, rows, columns), shares of the attention of `whom`.
        chosen: (layer, head) of the map that is shown large, from 1; head 0: none of these is.
        layer: where the Tab key lands when none is.
    """
    many, layers, rows, columns = maps.shape
    top = float(np.quantile(maps, 0.98)) or 1.0  # a few glaring patches would leave all the others black
    stop = chosen if chosen[1] else (layer, 1)
    cells = ["<span>layer</span>", *(f"<span>{number}</span>" for number in range(1, layers + 1))]
    for head in range(1, many + 1):
        cells.append(f"<span>head {head}</span>")
        cells += [_cell(maps, (number, head), chosen, stop) for number in range(1, layers + 1)]
    label = f"What {whom} looks at in every layer and head; arrow keys move, Enter enlarges"
    style = f"--layers:{layers};--heads:{many};--aspect:{columns}/{rows};--sheet:url({_sheet(maps, top)})"
    return (
        f'<section class="msn-heads"><h3>All heads</h3><div class="msn-heads-scroll">'
        f'<div class="msn-heads-grid" role="group" aria-label="{label}" style="{style}">{"".join(cells)}</div></div>'
        f"{patches.legend((0.0, top), 'or more of the attention, on one patch')}"
        f"{parts.hint(focused(maps))}</section>"
    )


def focused(maps: np.ndarray) -> str:
    """Which heads are the most focused, and why they count as that."""
    flat = torch.from_numpy(maps).flatten(2)  # (H, L, N)
    halves = attention.mass_threshold(flat, 0.5).sum(-1).flatten().tolist()  # patches that hold half of each map
    order = attention.entropy(flat).flatten().argsort()[:HEADLINE].tolist()
    layers, total = flat.shape[1], flat.shape[2]
    said = [
        f"layer {index % layers + 1} head {index // layers + 1} (half falls on {halves[index]} of {total} patches)"
        for index in order
    ]
    return f"Most focused: {' and '.join(said)}."


def peak(values: np.ndarray) -> tuple[int, int]:
    """Row and column, from 1, of the largest value of a map."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return int(row) + 1, int(column) + 1


def _cell(maps: np.ndarray, here: tuple[int, int], chosen: tuple[int, int], stop: tuple[int, int]) -> str:
    layer, head = here
    row, column = peak(maps[head - 1, layer - 1])
    return (
        f'<button type="button" data-layer="{layer}" data-head="{head}" tabindex="{0 if here == stop else -1}" '
        f'aria-pressed="{"true" if here == chosen else "false"}" '
        f'aria-label="Layer {layer}, head {head}: peak at row {row}, column {column}" '
        f'style="background-position:{_place(layer, maps.shape[1])} {_place(head, maps.shape[0])}"></button>'
    )


def _sheet(maps: np.ndarray, top: float) -> str:
    """All maps edge to edge, a pixel for each patch, as a data: URL without loss."""
    buffer = io.BytesIO()
    draw.head_grid(maps, (0.0, top), zoom=1, gap=0).quantize(256).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _place(number: int, count: int) -> str:
    return f"{100 * (number - 1) / max(count - 1, 1):.4f}%"
