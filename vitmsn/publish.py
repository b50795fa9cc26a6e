"""A model folder to the Hub: pre-trained, fine-tuned, distilled or few-shot, with a card that says what it is.

    plan = publish.plan("runs/classifier/model", "me/pets")     # reads, checks, sends nothing
    print(plan.card); publish.push_to_hub(plan)                 # private unless private=False

Only the files of a model are sent: never a run's log, state or pictures.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitmsn import checkpoint
from vitmsn.checkpoint import Checkpoint
from vitmsn.checkpoint.hub import CONFIG, EXTRAS, HUB_ID, WEIGHTS, send
from vitmsn.errors import ExportError

README = "README.md"
SHOWN = 50  # classes that a card lists


@dataclass(frozen=True)
class Plan:
    """What would be sent, and where to."""

    name: str  # owner/name
    folder: Path
    files: tuple[tuple[str, int], ...]  # name, bytes; the card is the last one
    card: str

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)

    def to_dict(self) -> dict[str, Any]:
        files = [{"file": file, "bytes": size} for file, size in self.files]
        return {"name": self.name, "files": files, "bytes": self.bytes, "card": self.card}


def plan(folder: str | os.PathLike[str], name: str) -> Plan:
    """What ``push_to_hub`` would send of a model folder; nothing is sent. A README.md in the folder is its card.

    Raises:
        CheckpointError: the folder holds no model that loads.
        ExportError: a name that is not OWNER/NAME, weights in shards or pickles.
    """
    place = Path(folder)
    if not HUB_ID.fullmatch(name) or "@" in name or ".." in name:
        raise ExportError(f"{name!r} is no name on the Hub; give OWNER/NAME.")
    if not place.is_dir():
        raise ExportError(f"{place} is no folder; give a model folder, as training and `convert` write it.")
    loaded = checkpoint.load(place)
    if not (place / WEIGHTS[0]).is_file():
        raise ExportError(
            f"{place} has no {WEIGHTS[0]}; write it anew with `vitmsn convert {place} FOLDER`, and send that."
        )
    files = [file for file in (CONFIG, WEIGHTS[0], *EXTRAS) if (place / file).is_file()]
    own = place / README
    card = own.read_text(encoding="utf-8") if own.is_file() else model_card(loaded, name)
    sizes = [(file, (place / file).stat().st_size) for file in files]
    return Plan(name, place, (*sizes, (README, len(card.encode()))), card)


def push_to_hub(planned: Plan, *, private: bool = True, message: str = "Add a model of vitmsn") -> str:
    """Send what ``plan`` found as one commit; returns the repository's address.

    private: False makes a new repository public, and allows one that is. One that is public already is refused
    otherwise. The login is that of ``hf auth login``, or HF_TOKEN.

    Raises:
        ExportError: it could not be sent; one sentence says why.
    """
    files: dict[str, Path | bytes] = {file: planned.folder / file for file, _ in planned.files[:-1]}
    files[README] = planned.card.encode()
    return send(files, planned.name, private=private, message=message)


def model_card(loaded: Checkpoint, name: str) -> str:
    """A card in Markdown: what the model is, where it comes from, what was measured, how to use it, what to know."""
    config, about, classifier = loaded.config, loaded.card, bool(loaded.classifier)
    labels = list(config.id2label.values()) if classifier else []
    front: dict[str, Any] = {"library_name": "transformers", "tags": ["vit_msn", "vitmsn"]}
    if classifier:
        front["pipeline_tag"] = "image-classification"
    lines = ["---", *_yaml(front), "---", "", f"# {name.partition('/')[2]}", ""]
    kind = f"A classifier of {len(labels)} classes" if classifier else "A backbone without a classifier"
    lines.append(f"{kind}: a ViT-MSN (Assran et al. 2022, [arXiv 2204.07141](https://arxiv.org/abs/2204.07141)).")
    facts = {
        "width, layers, heads": f"{config.hidden_size}, {config.num_hidden_layers}, {config.num_attention_heads}",
        "patch, picture": f"{_side(config.patch_size)}, {_side(config.image_size)} pixels",
        "learned from": about.get("trained_on"),
        "started from": about.get("initialised_from") or about.get("backbone"),
        "taught by": about.get("distilled_from"),
        "pictures, epochs": ", ".join(str(about[key]) for key in ("pictures", "epochs") if key in about),
        **_measured(about.get("held_out")),
        "sure from": about.get("not_sure_below"),
        "also inside": ", ".join(
            what
            for what, there in (("projector and prototypes", loaded.msn_head), ("feature mean", loaded.feature_mean))
            if there is not None and len(there)
        ),
    }
    lines += ["", "| | |", "|---|---|", *(f"| {what} | {_cell(value)} |" for what, value in facts.items() if value)]
    lines += ["", "## Use", "", "```python", *_use(name, classifier), "```"]
    if labels:
        more = [f"- and {len(labels) - SHOWN} more, in config.json"] if len(labels) > SHOWN else []
        lines += ["", "## Classes", "", *(f"- {_cell(label)}" for label in labels[:SHOWN]), *more]
    if labels:
        lines += ["", 'It always finds a closest class; below "sure from", take it for a guess.']
    lines += [
        "",
        "The license is yours to say: it depends on the pictures, and on the weights that this started from.",
        "",
    ]
    return "\n".join(lines)


def _use(name: str, classifier: bool) -> list[str]:
    if classifier:
        return [
            "from vitmsn import Encoder",
            "",
            f'print(Encoder.from_pretrained("{name}").classify("picture.jpg")[0].sentence())',
            "",
            "# or with transformers",
            "from transformers import pipeline",
            "",
            f'print(pipeline("image-classification", model="{name}")("picture.jpg"))',
        ]
    return ["from vitmsn import Encoder", "", f'embeddings = Encoder.from_pretrained("{name}").embed(["picture.jpg"])']


def _measured(held_out: Any) -> dict[str, str]:
    if not isinstance(held_out, dict) or "top1" not in held_out:
        return {}
    of = f", of {held_out['pictures']} pictures held out" if "pictures" in held_out else ""
    return {"right": f"{held_out['top1']:.3f}{of}", "among the first five": f"{held_out.get('top5', 0):.3f}"}


def _side(value: int | tuple[int, int]) -> str:
    return f"{value} x {value}" if isinstance(value, int) else f"{value[0]} x {value[1]}"


def _cell(value: Any) -> str:
    """Text of anyone's as one line of Markdown that means nothing but itself."""
    text = str(value).replace("\n", " ")
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>|#" else letter for letter in text)


def _yaml(values: dict[str, Any]) -> list[str]:
    return [f"{name}: {json.dumps(value)}" for name, value in values.items()]  # JSON is YAML
