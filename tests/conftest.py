"""What every test starts from: offline, seeded, one thread, and nothing of the person's own settings."""

from __future__ import annotations

import atexit
import os
import random
import tempfile
from pathlib import Path

# Before anything reads them: no test may reach a network, and none may find what an earlier run cached.
_hub_home = tempfile.TemporaryDirectory(prefix="vitmsn-hub-")
atexit.register(_hub_home.cleanup)
for _name in [name for name in os.environ if name.startswith(("VITMSN_", "GRADIO_", "HF_"))]:
    del os.environ[_name]
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    HF_DATASETS_OFFLINE="1",
    HF_HOME=_hub_home.name,
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
)

import numpy as np  # noqa: E402 (the environment comes first)
import pytest  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)  # the same sums on every machine, and the browser's app has the other core


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, alone or in the suite."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (scikit-learn and umap read the old global state)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of larger test data beside the checkout; a test that needs it also makes a small version on the fly."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder
