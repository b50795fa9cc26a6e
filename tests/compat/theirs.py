"""Run inside an environment that has transformers and not this package: read a folder, answer, write it back.

python theirs.py FOLDER: reads FOLDER/{backbone,classifier} and FOLDER/pictures.npy, writes FOLDER/theirs.npz and
FOLDER/{backbone,classifier}-back.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    pictures = [Image.fromarray(pixels) for pixels in numpy.load(folder / "pictures.npy")]
    # the Pillow-backed processor, whose steps these checkpoints were made with
    slow = {"backend": "pil"} if int(transformers.__version__.split(".")[0]) >= 5 else {"use_fast": False}
    processor = AutoImageProcessor.from_pretrained(folder / "classifier", **slow)
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    found = {"pixel_values": pixels.numpy()}
    for name, kind, output in (
        ("backbone", AutoModel, "last_hidden_state"),
        ("classifier", AutoModelForImageClassification, "logits"),
    ):
        model = kind.from_pretrained(folder / name, attn_implementation="eager").eval()
        with torch.no_grad():
            found[name] = model(pixels)[output].numpy()
        model.save_pretrained(folder / f"{name}-back", safe_serialization=True)
    labels = [model.config.id2label[place] for place in range(model.config.num_labels)]
    numpy.savez(folder / "theirs.npz", labels=numpy.array(labels), version=transformers.__version__, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
