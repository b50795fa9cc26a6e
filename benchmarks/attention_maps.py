"""What attention maps cost: CLS maps of all layers and heads beside a plain forward, and against transformers' option.

    python -m benchmarks attention_maps        three minutes on two cores

The paper's ViT-L/7 at 224 pixels (1025 tokens, 16 heads, 1024 wide), in the precision that the processor is fast in,
against transformers as it is shipped, in float32. Time is that of its first layers, because every layer costs the same;
at the matrix limit is where all products ran as fast as a large one alone. Memory is that of all layers: the peak of a
process with maps, above that of one without. transformers' ``output_attentions=True`` gives every token's map, which is
the only way there to get CLS's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks import Figure, Missing, Row, alone, in_turn, milliseconds, peer, small, speedup
from vitmsn import attention
from vitmsn.config import VARIANTS, ViTMSNConfig
from vitmsn.devices import choose_dtype
from vitmsn.model import ViTMSNModel
from vitmsn.packed import PackedModel, pack

ALL, LAYERS = VARIANTS["large-7"].num_hidden_layers, 6
MEMORY = """
import os, sys, torch
torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
from benchmarks import attention_maps, peak_memory
whose, maps = sys.argv[1], sys.argv[2] == "True"
call = getattr(attention_maps, whose)(attention_maps.ALL)
with torch.inference_mode():
    call(False)
    if maps:
        kept = call(True)
print(peak_memory())
"""


def config(layers: int) -> ViTMSNConfig:
    return replace(VARIANTS["large-7"], num_hidden_layers=layers)


class ours:
    """Called with whether maps are wanted."""

    def __init__(self, layers: int) -> None:
        torch.manual_seed(0)
        packed = pack(ViTMSNModel(config(layers)).eval().to(choose_dtype("auto", torch.device("cpu"))))
        if not isinstance(packed, PackedModel):
            raise Missing(packed.reason)
        self.model, self.pixels = packed, torch.randn(1, 3, 224, 224)

    def __call__(self, maps: bool) -> torch.Tensor:
        return attention.cls_maps(self.model, self.pixels) if maps else self.model(self.pixels).last_hidden_state


class theirs:
    """The same of transformers: its fast attention without maps, its eager one with them."""

    def __init__(self, layers: int) -> None:
        transformers = peer("transformers")
        settings = transformers.ViTMSNConfig(**config(layers).to_dict())
        torch.manual_seed(0)
        self.fast = transformers.ViTMSNModel(settings).eval()
        self.model = transformers.ViTMSNModel._from_config(settings, attn_implementation="eager").eval()
        self.pixels = torch.randn(1, 3, 224, 224)

    def __call__(self, maps: bool) -> object:
        model = self.model if maps else self.fast
        return model(self.pixels, interpolate_pos_encoding=True, output_attentions=maps)


def rows(quick: bool = False) -> Iterator[Row]:
    mine, other = ours(LAYERS), theirs(LAYERS)
    with torch.inference_mode():
        calls = {
            "ours with": lambda: mine(True),
            "ours": lambda: mine(False),
            "theirs with": lambda: other(True),
            "product": small.product(mine.model.model.dtype),
        }
        times = in_turn(calls, 4 if quick else 10)
    dtype = str(mine.model.model.dtype).removeprefix("torch.")
    what = f"L/7, 1025 tokens, {LAYERS} layers, {dtype}"
    said = (milliseconds(times, name) for name in ("ours with", "theirs with"))
    yield Row(f"{what}: a forward with maps over transformers'", *said, speedup(times, "ours with", "theirs with"), 2.0)
    times["at the limit"] = 1e9 * config(LAYERS).gigaflops() / small.limit(times["product"])
    said = (milliseconds(times, name) for name in ("at the limit", "theirs with"))
    yield Row(f"{what}: the same at the matrix limit", *said, speedup(times, "at the limit", "theirs with"))
    said = (milliseconds(times, name) for name in ("ours with", "ours"))
    cost = Figure.of(times["ours with"] / times["ours"])
    yield Row(f"{what}: time with maps over time without", *said, cost, most=1.1)
    more = {name: _more(name) for name in ("ours", "theirs")}
    said = (f"{value:.0f} MB more" for value in more.values())
    value = more["ours"] / more["theirs"]
    yield Row(
        f"L/7, 1025 tokens, {ALL} layers: extra memory of maps over transformers'",
        *said,
        Figure(value, value, value),
        most=0.02,
    )


def _more(whose: str) -> float:
    """MB that a process with maps takes beyond one without."""
    with_maps, without = (float(alone(MEMORY, whose, maps)) for maps in (True, False))
    return max(with_maps - without, 0.0)
