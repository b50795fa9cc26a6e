"""``python -m benchmarks [--threads N]``: every benchmark of this folder, one table."""

from __future__ import annotations

import argparse
import pkgutil
from importlib import import_module

import torch

import benchmarks

parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Every claim, measured, in one table.")
parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch; 1 is the least disturbed")
torch.set_num_threads(parser.parse_args().threads)

names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__")
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
print(benchmarks.table([row for name in names for row in import_module(f"benchmarks.{name}").rows()]))
