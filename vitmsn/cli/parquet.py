"""`embed` and `classify` of large folders to Parquet: resumable, by one process or several."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from vitmsn.cli.inputs import Inputs, Options
from vitmsn.cli.output import Bar, Result, say
from vitmsn.errors import InputError

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder

Run = Callable[[list[str], int, int], None]  # (files, this process, processes)

SHOWN = 5  # skipped files printed one by one; all are in the JSON


def wanted(options: Options) -> bool:
    """Whether to write Parquet, the only output of several processes."""
    parquet = bool(options.out and options.out.endswith(".parquet"))
    if not parquet and _several():
        raise InputError("Several processes share the work through Parquet: give --out NAME.parquet.")
    return parquet


def take_device(options: Options) -> None:
    """Give each of several processes its own accelerator; "auto" would use the first for all."""
    import torch

    if _several() and options.device == "auto" and torch.cuda.is_available():
        options.device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def _several() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def embed(options: Options, encoder: Encoder, inputs: Inputs) -> Result | int:
    from vitmsn import parquet

    def run(files: list[str], index: int, count: int) -> None:
        settings = {"size": options.size, "layernorm": not options.pre_layernorm}
        parquet.embed(files, encoder, options.out, index=index, count=count, progress=Bar("pictures"), **settings)

    return _shared(options, encoder, inputs, run)


def classify(options: Options, encoder: Encoder, inputs: Inputs) -> Result | int:
    from vitmsn import parquet

    def run(files: list[str], index: int, count: int) -> None:
        parquet.classify(
            files, encoder, options.out, top_k=options.top_k, index=index, count=count, progress=Bar("pictures")
        )

    return _shared(options, encoder, inputs, run)


def _shared(options: Options, encoder: Encoder, inputs: Inputs, run: Run) -> Result | int:
    """Every process writes its parts; the first one prints the result of all."""
    from vitmsn import parquet
    from vitmsn.training.distributed import Processes

    processes = Processes.from_environment(encoder.device)
    run([str(file) for file in inputs.files], processes.index, processes.count)
    processes.wait()
    if not processes.first:
        return 0
    found = parquet.summary(options.out)
    for file, reason in found.skipped[:SHOWN]:
        say(f"skipped {file}: {reason}")
    if len(found.skipped) > SHOWN:
        say(f"and {len(found.skipped) - SHOWN} more, all listed with --json")
    skipped = [{"file": file, "reason": reason} for file, reason in found.skipped]
    data = {"model": encoder.name, "pictures": found.pictures, "parts": found.parts, "out": options.out}
    line = f"{found.pictures} pictures in {found.parts} parts of {options.out}; {len(skipped)} files skipped"
    return Result({**data, "skipped": skipped}, lines=[line], worked=bool(found.pictures))
