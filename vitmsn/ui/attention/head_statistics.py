"""All heads, layer by layer: how far and how evenly patches attend (Dosovitskiy et al. 2021, figure 7)."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vitmsn import attention
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.outputs import ViTMSNOutput
from vitmsn.ui.attention.state import AttentionState, Depth
from vitmsn.ui.locale import tr, tr_number
from vitmsn.ui.shared import html
from vitmsn.ui.shared.charts import Axis, Line, chart
from vitmsn.ui.visits import Call

NUMBERS = 1e8  # attention weights that may be computed within an answer; more need the button


def measure(
    call: Call, encoder: Encoder, picture: Picture, tokens: ViTMSNOutput, at_any_cost: bool = False
) -> Depth | None:
    """The statistics, measured now or remembered; None where measuring would delay the answer."""
    key = encoder.fingerprint, picture.digest, tokens.grid
    kept = call.visit.state(AttentionState)
    if kept.depth is not None and kept.depth.key == key:
        return kept.depth
    layers, heads = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    patches = tokens.grid[0] * tokens.grid[1]
    if layers * heads * patches**2 > NUMBERS and not at_any_cost:
        return None
    found = attention.head_statistics(encoder.model, tokens)
    kept.depth = Depth(key, found.distance[0].numpy(), found.entropy[0].numpy(), patches)
    return kept.depth


def plot(found: Depth | None, chosen: tuple[int, int]) -> Markup:
    """Two charts as inline SVG: a dot for each head, over the layers; a ring around the chosen (layer, head) from 1."""
    if found is None:
        return html.hint(tr("This takes a while at this input size. Press the button to measure it."))
    distance = _chart(found.distance, chosen, tr("Mean distance, patches"), tr("patches away"))
    even = float(np.log(found.patches))
    entropy = _chart(
        found.entropy, chosen, tr("Entropy, nats (perfectly even: {even:.2g})", even=even), tr("nats"), even
    )
    least, most = float(found.distance.min()), float(found.distance.max())
    said = tr(
        "Each dot is a head: how far its patches look, and how evenly they spread their attention "
        "(means over all patches). The line is the mean of each layer. Here heads look {least:.1f} "
        "to {most:.1f} patches away.",
        least=least,
        most=most,
    )
    return Markup('<section class="msn-depth"><div>{}{}</div>{}</section>').format(distance, entropy, html.hint(said))


def _chart(values: np.ndarray, chosen: tuple[int, int], title: str, unit: str, most: float | None = None) -> Markup:
    layers, many = values.shape
    top = max(float(values.max()), most or 0.0) * 1.05 or 1.0
    dots = [
        (
            layer + 1,
            float(values[layer, head]),
            tr(
                "Layer {layer}, head {head}: {value:.2g} {unit}",
                layer=layer + 1,
                head=head + 1,
                value=values[layer, head],
                unit=unit,
            ),
        )
        for layer in range(layers)
        for head in range(many)
    ]
    ring = (chosen[0], float(values[chosen[0] - 1, chosen[1] - 1])) if min(chosen) > 0 else None
    named = [layer for layer in range(1, layers + 1) if layers <= 12 or layer % 4 == 0 or layer == 1]
    rows = "; ".join(
        tr("layer {layer}: {least:.2g} to {most:.2g}", layer=n + 1, least=row.min(), most=row.max())
        for n, row in enumerate(values)
    )
    return chart(
        [Line([(n + 1, float(row.mean())) for n, row in enumerate(values)], dots=dots, ring=ring)],
        Axis(0.5, layers + 0.5, [(layer, str(layer)) for layer in named]),
        Axis(0, top, [(top * share, tr_number(f"{top * share:.2g}")) for share in (0.0, 0.5, 1.0)]),
        alt=tr("{title} of every head, over the layers. {rows}", title=title, rows=rows),
        title=title,
        narrow=True,
    )
