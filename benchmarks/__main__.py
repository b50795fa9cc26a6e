"""``python -m benchmarks [--threads N]``: every timed claim of this folder, one table.

Accuracies are measured by commands of their own (``bursts``, ``embedded``, ``unseen``): they need data or minutes.
"""

from __future__ import annotations

import argparse
import pkgutil
from importlib import import_module

import torch

import benchmarks

NO_BENCHMARKS = ("__main__", "efficientnet_lite")  # the second is a teacher, with packages of its own

parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Every claim, measured, in one table.")
parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch; 1 is the least disturbed")
torch.set_num_threads(parser.parse_args().threads)

names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name not in NO_BENCHMARKS)
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
modules = [import_module(f"benchmarks.{name}") for name in names]
print(benchmarks.table([row for module in modules if hasattr(module, "rows") for row in module.rows()]))
