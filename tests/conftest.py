"""Setup of every test: offline, seeded, one thread, and without the user's own settings."""

from __future__ import annotations

import atexit
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Set before anything reads them: no test may reach a network, or find files that an earlier run, or another user's,
# left on this machine.
_scratch = tempfile.TemporaryDirectory(prefix="vitmsn-tests-")
atexit.register(_scratch.cleanup)
for _name in [name for name in os.environ if name.startswith(("VITMSN_", "GRADIO_", "HF_"))]:
    del os.environ[_name]
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    GRADIO_TEMP_DIR=f"{_scratch.name}/gradio",
    HF_DATASETS_OFFLINE="1",
    HF_HOME=f"{_scratch.name}/hub",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
    VITMSN_BACKEND=os.environ.get("TEST_BACKEND", "torch"),  # the meaning of "auto", whatever is installed
    VITMSN_DTYPE=os.environ.get("TEST_DTYPE", "float32"),  # the meaning of "auto", whatever this processor supports
)

import numpy as np  # noqa: E402 (the environment comes first)
import pytest  # noqa: E402
import torch  # noqa: E402

from tests.support.app import ROOT, Served, serving  # noqa: E402

# One thread: the same sums on every machine, and the browser's app has the other core
torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """TEST_ORDER=reversed runs the last test first, so that no test can need what another one left."""
    if os.environ.get("TEST_ORDER") == "reversed":
        items.reverse()


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


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`python app.py` as a user starts it, on a free port, ready; shared by the whole session."""
    with serving(tmp_path_factory.mktemp("app") / "app.log") as app:
        yield app
