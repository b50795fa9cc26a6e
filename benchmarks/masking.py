"""Masking: cost, similarity and learning; the tables of docs/masking.md.

    python -m benchmarks.masking cost          a training step's time and memory against the tokens kept; two minutes
    python -m benchmarks.masking similarity    similarity of masked and full views, plain and centered; half a minute
    python -m benchmarks.masking learning      digits learned with and without it, at equal processor time; ten minutes

Cost: ViT-S/16 at 224 pixels, the random view of a step alone, forward and backward, float32. Time should fall a little
faster than the tokens (attention is quadratic), memory as the tokens do, beside the weights.

Similarity: the embedded model, the example photographs, four draws of each mask; compared with different pictures.

Learning: the preset `digits`, three seeds; each setting gets the same seconds of processor time, and its schedule ends
with them, so that what a cheaper step saves is spent on more pictures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import Figure, Row, Times, in_turn, milliseconds
from vitmsn import masking, robustness
from vitmsn.config import VARIANTS
from vitmsn.encoder import Encoder
from vitmsn.model import ViTMSNModel
from vitmsn.ui.shared import examples

RATIOS = (0.0, 0.3, 0.5, 0.7, 0.9)
BATCH = 8


def rows(quick: bool = False) -> Iterator[Row]:
    times, tokens = _times(3 if quick else 8)
    for ratio in RATIOS[1:]:
        share = tokens[ratio] / tokens[0.0]
        claim = f"ViT-S/16 training view, {tokens[ratio]} of {tokens[0.0]} tokens, time over tokens"
        said = (milliseconds(times, str(one)) for one in (ratio, 0.0))
        yield Row(claim, *said, Figure.of(times[str(ratio)] / times["0.0"] / share), most=1.1)


def _step(model: ViTMSNModel, ratio: float) -> int:
    """Forward and backward of one masked view; the tokens it had."""
    torch.manual_seed(0)
    keep = masking.random_mask(model.config.grid, ratio, torch.Generator().manual_seed(0), BATCH) if ratio else None
    cls = model(torch.randn(BATCH, 3, 224, 224), keep_indices=keep).last_hidden_state[:, 0]
    cls.square().mean().backward()
    model.zero_grad(set_to_none=True)
    return 1 + (model.config.num_patches if keep is None else keep.shape[1])


def _times(rounds: int) -> tuple[Times, dict[float, int]]:
    torch.manual_seed(0)
    model = ViTMSNModel(VARIANTS["small-16"])
    tokens = {ratio: _step(model, ratio) for ratio in RATIOS}
    return in_turn({str(ratio): partial(_step, model, ratio) for ratio in RATIOS}, rounds), tokens


def cost() -> None:
    times, tokens = _times(rounds=6)
    middle = {ratio: float(np.median(times[str(ratio)])) for ratio in RATIOS}
    base = _memory(None)
    memory = {ratio: _memory(ratio) - base for ratio in RATIOS}
    print("| ratio | tokens | of all | time of a step | of the full one | memory above the weights | of the full one |")
    print("|---|---|---|---|---|---|---|")
    for ratio in RATIOS:
        share, time_share, memory_share = (x[ratio] / x[0.0] for x in (tokens, middle, memory))
        print(
            f"| {ratio} | {tokens[ratio]} | {share:.2f} | {1000 * middle[ratio]:.0f} ms | {time_share:.2f} | "
            f"{memory[ratio]:.0f} MB | {memory_share:.2f} |"
        )


def _memory(ratio: float | None) -> float:
    """Peak resident MB of a process that does such a step (``None``: of one with weights and gradients alone)."""
    code = f"""if True:
        import torch
        from benchmarks import masking, peak_memory
        torch.set_num_threads(1)
        model = masking.ViTMSNModel(masking.VARIANTS["small-16"])
        if {ratio} is None:
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            torch.randn({BATCH}, 3, 224, 224)
        else:
            masking._step(model, {ratio})
        print(peak_memory())
    """
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


SETTINGS: dict[str, dict[str, Any]] = {
    "masked .3, 4 focal views (the preset)": {},
    "not masked": {"mask_ratio": 0.0},
    "masked .6": {"mask_ratio": 0.6},
    "focal views alone": {"random_views": 0},
    "random view alone": {"focal_views": 0},
    "no Sinkhorn, lambda 5": {"sinkhorn_iterations": 0, "me_max_weight": 5.0},
    "no Sinkhorn, no me-max": {"sinkhorn_iterations": 0, "me_max_weight": 0.0},
    "a third of the rate": {"peak_rate": 1 / 3},
    "three times the rate": {"peak_rate": 3.0},
    "EMA .9 throughout": {"ema": (0.9, 0.9)},
}


def learning(seconds: float, seeds: int) -> None:
    from vitmsn.lowshot import knn_accuracy
    from vitmsn.training import digits
    from vitmsn.training.recipe import PRESETS
    from vitmsn.training.trainer import Trainer, embed

    preset = PRESETS["digits"]
    (pictures, labels), (asked, wanted) = digits.load(preset.picture_size)

    def accuracy(trainer: Trainer) -> float:
        X, T = (embed(trainer.target_model, some, torch.arange(len(some))).numpy() for some in (pictures, asked))
        return knn_accuracy(X, labels.numpy(), T, wanted.numpy())

    print(f"{seconds:g} s of processor time each, {seeds} seeds; kNN of {len(asked)} held-out digits", flush=True)
    print("| setting | pictures / s | pictures seen | random weights | trained, each seed | mean | prototypes in use |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, changes in SETTINGS.items():
        before, after, in_use, speed, seen = [], [], [], 0.0, 0
        for seed in range(seeds):
            scaled = dict(changes)
            if "peak_rate" in scaled:
                scaled["peak_rate"] = preset.peak_rate * scaled["peak_rate"]
            recipe = replace(preset, seed=seed, **scaled)
            trial = Trainer(recipe, pictures)
            trial.train_step()
            started = time.process_time()
            for _ in range(10):
                trial.train_step()
            steps = int(seconds / ((time.process_time() - started) / 10))
            trainer = Trainer(replace(recipe, epochs=steps / trial.steps_per_epoch), pictures)
            before.append(accuracy(trainer))
            started = time.process_time()
            last = [trainer.train_step()["prototypes_in_use"] for _ in range(trainer.steps)][-1]
            speed += trainer.steps * recipe.batch_size / (time.process_time() - started) / seeds
            seen += trainer.steps * recipe.batch_size // seeds
            after.append(accuracy(trainer))
            in_use.append(last)
        each = " ".join(f"{100 * value:.1f}" for value in after)
        print(
            f"| {name} | {speed:.0f} | {seen:,} | {100 * sum(before) / seeds:.1f} % | {each} | "
            f"{100 * sum(after) / seeds:.1f} % | {sum(in_use) / seeds:.0f} |",
            flush=True,
        )


def similarity(model: str | None = None) -> None:
    encoder = Encoder.from_pretrained(model)
    grid = encoder.model.config.grid
    pictures = [example.picture for example in examples.photographs()]
    print("| kind | hidden | plain | least | centered | least |")
    print("|---|---|---|---|---|---|")
    for draw in (masking.random_mask, masking.focal_mask, masking.block_mask):
        for ratio in RATIOS[1:]:
            kept = [draw(grid, ratio, torch.Generator().manual_seed(seed))[0].numpy() for seed in range(4)]
            found = [robustness.views(encoder, picture, np.stack(kept)) for picture in pictures]
            plain = np.stack([views.similarity for views in found])
            around = np.stack([views.centered for views in found if views.centered is not None])
            print(
                f"| {draw.__name__.split('_')[0]} | {ratio} | {plain.mean():.3f} | {plain.min():.3f} | "
                f"{around.mean():.2f} | {around.min():.2f} |"
            )
    embeddings = encoder.embed(pictures)
    place = np.arange(len(pictures))
    plain, around = (
        np.concatenate([robustness.cosine(rows[one : one + 1], rows[place != one]) for one in place])
        for rows in (embeddings, embeddings - np.asarray(encoder.feature_mean))
    )
    print(f"| other pictures | | {plain.mean():.3f} | {plain.min():.3f} | {around.mean():.2f} | {around.min():.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masking", description=__doc__.split("\n")[0])
    parser.add_argument("table", choices=("cost", "similarity", "learning"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=30.0, help="of processor time for each run of `learning`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", help="of `similarity`; without it the embedded one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.table == "cost":
        cost()
    elif options.table == "similarity":
        similarity(options.model)
    else:
        learning(options.seconds, options.seeds)
