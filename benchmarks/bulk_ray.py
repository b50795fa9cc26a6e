"""`bulk.Embed` on a local Ray with two workers, one of which is killed half-way: are the rows those of one process?

pip install 'ray[data]', then python -m benchmarks.bulk_ray
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bulk import jpegs
from vitmsn.bulk import Embed

ROWS, BATCH = 512, 32


class Mortal(Embed):
    """Kills its own process, once, in the middle of the batch that has the row `fatal`."""

    def __init__(self, marker: str, fatal: int) -> None:
        super().__init__(dtype="float32")
        self.marker, self.fatal = Path(marker), fatal

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        answer = super().__call__(batch)
        if self.fatal in batch["id"] and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer | {"worker": np.full(len(batch["id"]), os.getpid())}


def main() -> None:
    import ray

    rows = [{"id": number, "image": data} for number, data in enumerate(jpegs(ROWS))]
    serial = Embed(dtype="float32")({"image": [row["image"] for row in rows]})["embedding"]
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder, "killed")
        ray.data.DataContext.get_current().enable_progress_bars = False
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20, logging_level="warning")
        print(f"Ray {ray.__version__}, {ROWS} rows in batches of {BATCH}", flush=True)
        started = time.perf_counter()
        made = ray.data.from_items(rows, override_num_blocks=16).map_batches(
            Mortal,
            fn_constructor_args=(str(marker), ROWS // 2),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        found = sorted(made.take_all(), key=lambda row: int(row["id"]))
        seconds = time.perf_counter() - started
        assert marker.exists(), "no worker was killed"
    embeddings = np.stack([row["embedding"] for row in found])
    assert [int(row["id"]) for row in found] == list(range(ROWS)), "rows are missing or came twice"
    assert not any(row["error"] for row in found)
    workers = {int(row["worker"]) for row in found}
    print(f"{len(workers)} processes answered, one was killed in its batch; {seconds:.0f} s")
    print(f"largest difference from one process: {np.abs(embeddings - serial).max():.1e} of values up to", end=" ")
    print(f"{np.abs(serial).max():.1f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
