"""`make compat`: our models in the newest transformers 5.x and in the last 4.x, and theirs in ours.

Each version has an environment of its own under build/compat, made anew when its name in VERSIONS is not there yet;
`--fresh` asks pip for the newest release again. Prints one row a check; exit code 1 where one fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
import torch

from tests.support import models
from vitmsn import ViTMSNForImageClassification, ViTMSNImageProcessor, ViTMSNModel

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("transformers>=5,<6", "transformers>=4,<5")
TOLERANCE = 1e-5  # of float32 sums in another order, as a share of the largest value
CONFIG = models.small(hidden_size=64, num_attention_heads=4, intermediate_size=128, image_size=32, patch_size=8)


def environment(version: str, fresh: bool) -> Path:
    """The Python of an environment with that transformers and our torch."""
    folder = ROOT / "build" / "compat" / re.sub(r"\W+", "-", version)
    python = folder / "bin" / "python"
    if fresh or not (folder / "done").is_file():
        venv.create(folder, with_pip=True, clear=not fresh)
        pins = dict(re.findall(r"^(torch|numpy|pillow|safetensors)==([\w.]+)", constraints(), re.MULTILINE))
        wanted = [version, *(f"{name}=={pin}" for name, pin in pins.items())]
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", *wanted]
        subprocess.run([str(word) for word in command], check=True)
        (folder / "done").touch()
    return python


def constraints() -> str:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8")


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def check(version: str, fresh: bool) -> list[tuple[str, float]]:
    """(what, difference) of every comparison with one version."""
    python = environment(version, fresh)
    with tempfile.TemporaryDirectory(prefix="vitmsn-compat-") as name:
        folder = Path(name)
        models.write(folder / "classifier", CONFIG, feature_mean=torch.zeros(64))
        models.write(folder / "backbone", CONFIG, classifier=False)
        pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
        np.save(folder / "pictures.npy", pictures)
        subprocess.run([str(python), str(Path(__file__).with_name("theirs.py")), str(folder)], check=True)
        theirs = np.load(folder / "theirs.npz")
        shown = f"transformers {theirs['version']}"
        processor = ViTMSNImageProcessor.from_pretrained(folder / "classifier")
        pixels = processor(list(pictures))["pixel_values"]
        rows = [(f"{shown}: pixel values", difference(theirs["pixel_values"], pixels.numpy()))]
        labels = list(theirs["labels"]) == list(CONFIG.id2label.values())
        rows.append((f"{shown}: labels", 0.0 if labels else float("inf")))
        for name, kind in (("backbone", ViTMSNModel), ("classifier", ViTMSNForImageClassification)):
            for where, what in ((name, "ours in theirs"), (f"{name}-back", "saved by theirs, in ours")):
                model = kind.from_pretrained(folder / where)
                with torch.no_grad():
                    rows.append((f"{shown}: {name}, {what}", difference(model(pixels)[0].numpy(), theirs[name])))
    return rows


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    failed = False
    for version in VERSIONS:
        for what, far in check(version, "--fresh" in sys.argv[1:]):
            good = far <= TOLERANCE
            failed |= not good
            print(f"{'ok  ' if good else 'FAIL'} {what}: {far:.1e}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
