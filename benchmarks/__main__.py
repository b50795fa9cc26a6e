"""``python -m benchmarks [CLAIM ...] [--quick] [--threads N]``: the timed claims of this folder, as one table.

Accuracies are measured by commands of their own (``bursts``, ``embedded``, ``unseen``): they need data or minutes.
"""

from __future__ import annotations

import argparse
import platform
import sys
from importlib import import_module

import torch

import benchmarks

CLAIMS = (
    *("packed_forward", "openvino_forward", "onnxruntime_forward", "bfloat16", "gpu_forward"),
    *("masked_forward", "attention_maps", "masking", "train_speed", "jpeg_folder"),
    *("fewshot_refit", "umap_map", "first_page", "classify_request", "waiting_visitors", "busy_machine", "growth"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Every claim, measured, in one table.")
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"of {', '.join(CLAIMS)}; all without one")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes: a minute or two in all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    options = parser.parse_args()
    unknown = sorted(set(options.claims) - set(CLAIMS))
    if unknown:
        parser.error(f"there is no claim {unknown[0]!r}; choose among {', '.join(CLAIMS)}")
    torch.set_num_threads(options.threads)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    rows, left_out = [], []
    for name in options.claims or CLAIMS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            for row in import_module(f"benchmarks.{name}").rows(options.quick):
                rows.append(row)
                print(f"  {row.claim}: {row.ratio}", file=sys.stderr, flush=True)
        except benchmarks.Missing as missing:
            left_out.append(f"{name}: {missing}.")
    print(benchmarks.table(rows))
    for line in left_out:
        print(f"Left out: {line}")


if __name__ == "__main__":
    main()
