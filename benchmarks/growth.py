"""How time and memory grow: a fitted exponent for each quantity, beside the one that is expected.

    python -m benchmarks growth                          a minute on two cores
    python -m benchmarks.growth --plot growth.png        the same, drawn on logarithmic axes

The exponent is the slope of the logarithm of the time (or bytes) over that of the size, by least squares: 1 is in
proportion, 2 with the square. A small fixed cost pulls it down, the part of attention that is quadratic pulls it up.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks import Figure, Row
from benchmarks.fewshot_refit import examples
from vitmsn import attention, fewshot
from vitmsn.config import VARIANTS
from vitmsn.encoder import Encoder
from vitmsn.fewshot import nearest
from vitmsn.packed import pack


@dataclass(frozen=True)
class Growth:
    """A quantity over a size. ``make(size)`` prepares what is measured; ``measure`` gives its seconds or its bytes."""

    name: str
    sizes: tuple[int, ...]
    make: Callable[[int], Callable[[], object]]
    least: float
    most: float
    measure: Callable[[Callable[[], object]], float]
    unit: str = "s"


def seconds(call: Callable[[], object]) -> float:
    """The best of three after a first."""
    call()
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return float(best)


def kept_bytes(call: Callable[[], object]) -> float:
    """Bytes of the tensors that a call gives."""
    found = call()
    tensors = found if isinstance(found, (list, tuple)) else [found]
    return float(sum(one.nbytes for one in tensors if isinstance(one, torch.Tensor)))


def peak_bytes(call: Callable[[], object]) -> float:
    """Bytes that Python and NumPy hold at most during a call, beyond those before it."""
    call()
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak)


def _forward(side: int, batch: int) -> Callable[[], object]:
    encoder = Encoder.random(VARIANTS["tiny-8-64"], device="cpu")
    model, pixels = pack(encoder.model), torch.randn(batch, 3, side, side)

    def call() -> object:
        with torch.inference_mode():
            return model(pixels)  # type: ignore[operator]

    return call


def _maps(side: int) -> Callable[[], object]:
    encoder = Encoder.random(VARIANTS["tiny-8-64"], device="cpu")
    pixels = torch.randn(1, 3, side, side)

    def call() -> object:
        with torch.inference_mode():
            out = encoder.model(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
            return [attention.cls_attention(encoder.model, out), *out.hidden_states]

    return call


def _refit(count: int, classes: int = 20) -> Callable[[], object]:
    X, y = examples(count, classes)
    return lambda: fewshot.RidgeClassifier(center=X.mean(axis=0)).fit(X, y)


def _search(count: int) -> Callable[[], object]:
    X, _ = examples(count)
    return partial(nearest, X, X[:32])


def growths(quick: bool) -> list[Growth]:
    cut = slice(None, None, 2) if quick else slice(None)
    return [
        Growth("forward: time over pictures", (4, 8, 16, 32, 64)[cut], partial(_forward, 64), 0.8, 1.1, seconds),
        Growth(
            "forward: time over the side (4 = the square of its tokens)",
            (64, 128, 192, 256, 320)[cut],
            partial(_forward, batch=1),
            1.5,
            4.0,
            seconds,
        ),
        Growth(
            "CLS maps: memory over the side (2 = its tokens)",
            (64, 128, 256, 512)[cut],
            _maps,
            1.8,
            2.1,
            kept_bytes,
            "B",
        ),
        # less than their number: where there are more, fewer of them choose the temperature
        Growth("few-shot refit: time over examples", (1000, 2000, 4000, 8000, 16000)[cut], _refit, 0.2, 1.2, seconds),
        Growth(
            "few-shot refit: memory over examples",
            (1000, 2000, 4000, 8000, 16000)[cut],
            _refit,
            0.8,
            1.2,
            peak_bytes,
            "B",
        ),
        Growth(
            "few-shot refit of 4000: time over classes",
            (4, 8, 16, 32, 64)[cut],
            partial(_refit, 4000),
            -0.2,
            1.1,
            seconds,
        ),
        Growth(  # a little more than its number: a large one is not in the processor's cache
            "32 nearest pictures: time over the gallery", (8000, 16000, 32000, 64000)[cut], _search, 0.7, 1.4, seconds
        ),
    ]


def measured(growth: Growth) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, seconds or bytes)."""
    found = [growth.measure(growth.make(size)) for size in growth.sizes]
    return np.array(growth.sizes, float), np.array(found)


def exponents(sizes: np.ndarray, found: np.ndarray) -> Figure:
    """The fitted exponent, and between which of neighboring sizes it lies."""
    slope = float(np.polyfit(np.log(sizes), np.log(found), 1)[0])
    steps = np.diff(np.log(found)) / np.diff(np.log(sizes))
    return Figure(slope, float(steps.min()), float(steps.max()))


def rows(quick: bool = False) -> Iterator[Row]:
    for growth in growths(quick):
        sizes, found = measured(growth)
        yield _row(growth, sizes, found)


def _row(growth: Growth, sizes: np.ndarray, found: np.ndarray) -> Row:
    said = (
        f"{value:.3g} {growth.unit} at {size:,.0f}" for size, value in ((sizes[-1], found[-1]), (sizes[0], found[0]))
    )
    return Row(f"growth, {growth.name}", *said, exponents(sizes, found), growth.least, growth.most)


def main() -> None:
    from matplotlib.figure import Figure as Drawing

    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--plot", required=True, help="the picture to write")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    every = growths(options.quick)
    drawing = Drawing(figsize=(12, 6), layout="constrained")
    for axes, growth in zip(drawing.subplots(2, (len(every) + 1) // 2).flat, every, strict=False):
        sizes, found = measured(growth)
        row = _row(growth, sizes, found)
        print(f"{row.claim}: {row.ratio}, wanted {row.wanted}", flush=True)
        axes.loglog(sizes, found, "o-")
        axes.loglog(sizes, found[0] * (sizes / sizes[0]) ** row.ratio.median, "--")
        axes.set_title(f"{growth.name}\nexponent {row.ratio.median:.2f}", fontsize=8)
        axes.set_ylabel({"s": "seconds", "B": "bytes"}[growth.unit])
    drawing.savefig(options.plot, dpi=120)


if __name__ == "__main__":
    main()
