"""Helpers for tests of the page: a small classifier's config, pictures to learn from, and clicks."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from vitmsn import image
from vitmsn.config import ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.shared.workspace import Workspace, WorkspaceState
from vitmsn.ui.visits import Call

LABELS = ("tabby", "Egyptian cat", "goldfish", "<b>shark</b>", "teapot", "alp")
CONFIG = ViTMSNConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=16,
    patch_size=4,
    id2label=dict(enumerate(LABELS)),
)


def pictures(color: str, count: int, seed: int = 0) -> list[Picture]:
    """Noise around a color: similar pictures, never the same twice."""
    rng = np.random.default_rng([seed, *color.encode()])
    middle = np.array(Image.new("RGB", (1, 1), color)).reshape(3)
    noise = rng.normal(0, 25, (count, 24, 24, 3)) + middle
    made = [Image.fromarray(rows.clip(0, 255).astype(np.uint8)) for rows in noise]
    return [image.decode(picture, name=f"{color}-{i}.png") for i, picture in enumerate(made)]


def png(picture: Picture) -> bytes:
    out = io.BytesIO()
    picture.rgb.save(out, "PNG")
    return out.getvalue()


def workspace_of(call: Call) -> Workspace:
    made = call.visit.state(WorkspaceState).workspace
    assert made is not None
    return made


def workspace_with(encoder: Encoder, **counts: int) -> Workspace:
    made = Workspace(encoder)
    for label, count in counts.items():
        made.add(encoder, label, pictures(label, count))
    return made


def event(call: Call, **values: Any) -> Call:
    call.event = gr.EventData(None, values)
    call.message = ""
    return call


def changes(controls: type, out: dict[str, Any]) -> dict[str, Any]:
    """The new values of a tab's controls, a dataclass; skipped updates are left out."""
    names = [field.name for field in fields(controls)]
    return {name: out[name]["value"] for name in names if "value" in out.get(name, {})}
