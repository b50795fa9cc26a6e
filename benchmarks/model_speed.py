"""The bare model against transformers as it is shipped (SDPA), and a masked view against a full one, on the CPU.

    python -m benchmarks.model_speed [threads]      about half a minute on two cores

ViT-S/16 at 224 pixels with the same random weights on both sides. Expected: as fast as transformers or a little faster
in float32 (both spend their time in the same matrix products), and a view with 70 % of its patches dropped at least
three times as fast as a full one. Where the processor multiplies bfloat16 in hardware, that is compared as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
import transformers
from torch import Tensor

from benchmarks import Row, best_of, table
from vitmsn import ViTMSNModel, masking
from vitmsn.config import VARIANTS

CONFIG = VARIANTS["small-16"]
BATCHES = {1: 24, 8: 8}  # pictures at once -> rounds
MASK_RATIO = 0.7
NOT_SLOWER = 0.97  # two equal things, timed, differ by up to 3 %


def rows() -> Iterator[Row]:
    torch.manual_seed(0)
    ours = ViTMSNModel(CONFIG).eval()
    theirs = transformers.ViTMSNModel(transformers.ViTMSNConfig(**CONFIG.to_dict())).eval()
    half = ViTMSNModel(CONFIG).eval().to(torch.bfloat16) if has_bfloat16() else None

    def run(model: torch.nn.Module, pixels: Tensor, kept: Tensor | None = None) -> Callable[[], object]:
        return lambda: model(pixels) if kept is None else model(pixels, keep_indices=kept)

    with torch.inference_mode():
        for batch, rounds in BATCHES.items():
            pixels = torch.randn(batch, 3, 224, 224)
            kept = masking.random_mask(CONFIG.grid, MASK_RATIO, torch.Generator().manual_seed(0), batch)
            calls = {"ours": run(ours, pixels), "theirs": run(theirs, pixels), "masked": run(ours, pixels, kept)}
            if half is not None:
                calls["half"] = run(half, pixels.to(torch.bfloat16))
            best = best_of(calls, rounds)
            what = f"ViT-S/16, 224 px, batch {batch}"
            yield compare(f"{what}: float32 against transformers", best, batch, "ours", "theirs", NOT_SLOWER)
            if half is not None:
                yield compare(f"{what}: bfloat16 against transformers as shipped", best, batch, "half", "theirs", 2.5)
            if batch > 1:
                yield compare(f"{what}: {kept.shape[1]} of 196 patches against all", best, batch, "masked", "ours", 3.0)


def compare(claim: str, best: dict[str, float], batch: int, ours: str, reference: str, wanted: float) -> Row:
    mine, other = (f"{batch / best[name]:.1f} pictures/s" for name in (ours, reference))
    return Row(claim, mine, other, best[reference] / best[ours], wanted)


def has_bfloat16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    print(table(rows()))
