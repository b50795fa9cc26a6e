"""Downloads from a Hub on this machine: redirects, cuts, damage, pinned revisions, offline; and what is sent there."""

from __future__ import annotations

import errno
import pickle
import threading
import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest

from tests.support import hub as loopback
from tests.support import models
from tests.support.app import PATIENCE
from tests.support.checkpoints import assert_equal, foreign, torch_bytes, write_shards
from tests.support.hub import LoopbackHub
from vitmsn import checkpoint, limits, pickled
from vitmsn.checkpoint.hub import send
from vitmsn.checkpoint.layouts import HUGGING_FACE_4
from vitmsn.encoder import Encoder
from vitmsn.errors import CheckpointError, ExportError
from vitmsn.ui.models import GIVEN, Models

CONFIG = models.small(hidden_size=128, intermediate_size=512, num_hidden_layers=3)  # over 1 MiB of weights
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write(tmp_path_factory.mktemp("models") / "model", CONFIG)


def weights(hub: LoopbackHub) -> int:
    return len(hub.files["model.safetensors"])


def assert_loads(folder: Path, name: str = "owner/name") -> None:
    found, expected = checkpoint.load(name), checkpoint.load(folder)
    assert all(found.tensors[key].equal(expected.tensors[key]) for key in expected.tensors)
    assert found.reference == f"owner/name@{loopback.COMMIT}"


def test_a_redirect_is_followed_without_the_token(hub: LoopbackHub, folder: Path) -> None:
    assert_loads(folder)
    assert hub.asked == [("model.safetensors", None, False)] and hub.sent == weights(hub)
    assert_loads(folder)
    assert len(hub.asked) == 1  # the second time from the cache


def test_a_hub_that_sends_a_byte_now_and_then_holds_no_visitor(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OPEN_SECONDS", 1)
    hub.trickle = threading.Event()
    menu = Models("owner/name")
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=r"^name is still being opened; choose another model, or try again"):
        menu.get(GIVEN)
    assert time.monotonic() - began < 0.05 * len(hub.files["config.json"])  # it did not wait for the first file
    hub.trickle.set()
    while GIVEN not in menu.in_memory():  # the download went on
        assert time.monotonic() < began + PATIENCE
        time.sleep(0.01)


def test_a_download_that_fails_names_no_path(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(CheckpointError, match=r"could not be downloaded \(No space left on device\)") as refused:
        checkpoint.load("owner/name")
    assert str(tmp_path) not in str(refused.value)


def test_a_cut_download_goes_on_where_it_stopped(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    hub.cut_after = 100_000
    with pytest.raises(CheckpointError, match="try again, which goes on where it stopped"):
        checkpoint.load("owner/name")
    [part] = (tmp_path / "cache").rglob("*.part")
    there = part.stat().st_size
    assert 0 < there < weights(hub)
    hub.cut_after, hub.asked, hub.sent = None, [], 0
    assert_loads(folder)
    assert hub.asked == [("model.safetensors", f"bytes={there}-", False)]
    assert hub.sent == weights(hub) - there
    assert not list((tmp_path / "cache").rglob("*.part*"))


def test_a_download_that_is_watched_says_how_far_it_is(hub: LoopbackHub, folder: Path) -> None:
    heard: list[tuple[int, int]] = []

    def load() -> None:
        heard.clear()
        with checkpoint.watched(lambda here, total: heard.append((here, total))):
            checkpoint.load("owner/name")

    total = sum(map(len, hub.files.values()))
    small = total - weights(hub)
    hub.cut_after = 100_000
    with pytest.raises(CheckpointError):
        load()
    assert heard[0] == (small, total) and heard == sorted(heard) and small < heard[-1][0] < total
    there, hub.cut_after = heard[-1][0], None
    load()
    assert heard[0] == (there, total) and heard == sorted(heard) and heard[-1] == (total, total)
    assert len(heard) > 10
    load()
    assert heard == []  # from the cache
    assert_loads(folder)


def test_a_download_ends_when_who_watches_it_raises(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    def enough(here: int, total: int) -> None:
        if here > total // 2:
            raise CheckpointError("Enough.")

    with pytest.raises(CheckpointError, match=r"^Enough"), checkpoint.watched(enough):
        checkpoint.load("owner/name")
    [part] = (tmp_path / "cache").rglob("*.part")
    there = part.stat().st_size
    assert weights(hub) // 2 - (1 << 14) < there < weights(hub)
    hub.asked = []
    assert_loads(folder)
    assert hub.asked == [("model.safetensors", f"bytes={there}-", False)]


def test_a_visitor_sees_how_far_it_is_and_may_choose_another(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    hub.stalls, wanted = 500_000, [True]
    menu = Models("owner/name")
    follow = menu.follow(GIVEN, lambda: wanted[0])
    far = next(one for one in follow if one is not None and one.here > 400_000)
    assert far.here < 520_000 < weights(hub) < far.total and far.before < 10_000
    wanted[0] = False
    assert list(follow) == [] and menu.in_memory() == []
    hub.goes_on.set()  # the next bytes tell the download that nobody waits for it
    until = time.monotonic() + PATIENCE
    while menu._openings:
        assert time.monotonic() < until
        time.sleep(0.01)
    [part] = (tmp_path / "cache").rglob("*.part")
    there = part.stat().st_size
    assert 400_000 < there < weights(hub)
    hub.asked, wanted[0] = [], True
    steps = [one for one in menu.follow(GIVEN, lambda: True) if one is not None]
    assert all(one.before >= there for one in steps)
    assert menu.in_memory() == [GIVEN] and hub.asked == [("model.safetensors", f"bytes={there}-", False)]


def test_a_server_without_ranges_sends_it_whole(hub: LoopbackHub, folder: Path) -> None:
    hub.cut_after = 100_000
    with pytest.raises(CheckpointError):
        checkpoint.load("owner/name")
    hub.cut_after, hub.ranges = None, False
    assert_loads(folder)


def test_damage_on_the_way_is_found_and_not_kept(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    hub.cut_after = 100_000
    with pytest.raises(CheckpointError):
        checkpoint.load("owner/name")
    [part] = (tmp_path / "cache").rglob("*.part")
    part.write_bytes(b"\0" * part.stat().st_size)
    hub.cut_after = None
    with pytest.raises(CheckpointError, match=r"model\.safetensors came damaged"):
        checkpoint.load("owner/name")
    assert_loads(folder)


def test_a_pinned_revision_is_what_is_read_later_and_offline(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.from_pretrained("owner/name", device="cpu", dtype="float32")
    data = pickle.dumps(encoder)
    other = models.write(tmp_path / "other", CONFIG, seed=1)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    pickled._opened.clear()
    np.testing.assert_array_equal(pickle.loads(data).embed(PICTURE), encoder.embed(PICTURE))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.files, hub.commit = {path.name: path.read_bytes() for path in other.iterdir()}, "f" * 40
    assert checkpoint.load("owner/name").reference == f"owner/name@{'f' * 40}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert_loads(folder, f"owner/name@{loopback.COMMIT}")


def test_sent_files_are_one_commit_in_a_private_repository(hub: LoopbackHub) -> None:
    address = send({"a.txt": b"a", "b/c.txt": b"c"}, "owner/name", private=True, message="Add two")
    assert address == f"{hub.url}/owner/name"
    assert hub.committed == {"a.txt": b"a", "b/c.txt": b"c"} and hub.messages == ["Add two"]
    assert hub.made == [True]


def test_a_public_repository_is_asked_for_by_name(hub: LoopbackHub) -> None:
    hub.private = False
    with pytest.raises(ExportError, match="owner/name is there already and public"):
        send({"a.txt": b"a"}, "owner/name", private=True, message="Add")
    assert not hub.committed
    send({"a.txt": b"a"}, "owner/name", private=False, message="Add")
    assert list(hub.committed) == ["a.txt"]


def test_what_cannot_be_sent_is_named(hub: LoopbackHub) -> None:
    with pytest.raises(ExportError, match="'name' is no name on the Hub; give OWNER/NAME"):
        send({}, "name", private=True, message="")
    with pytest.raises(ExportError, match="owner/else could not be sent"):
        send({"a.txt": b"a"}, "owner/else", private=True, message="")


def test_a_hub_model_is_fetched_once_and_then_read_without_a_network(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = {"pytorch_model.bin": b"not wanted", "modeling.py": b"raise SystemExit", "README.md": b"not wanted"}
    hub.files |= extras | {"preprocessor_config.json": b'{"size": 12}'}
    loaded = checkpoint.load("owner/name")
    assert loaded.source == "owner/name" and loaded.processor == {"size": 12}
    assert_equal(loaded.tensors, checkpoint.load(folder).tensors)
    assert not {"pytorch_model.bin", "modeling.py", "README.md"} & set(hub.fetched)
    assert checkpoint.read_processor("owner/name") == {"size": 12}

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    again = checkpoint.load("owner/name")
    assert again.source == "owner/name (cached copy: the hub cannot be reached)"
    assert_equal(again.tensors, loaded.tensors)


def test_a_hub_model_may_have_only_a_pickle_or_shards(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = checkpoint.load(folder).tensors
    stored = foreign(tensors, HUGGING_FACE_4)
    hub.files = {"config.json": hub.files["config.json"], "pytorch_model.bin": torch_bytes(stored)}
    assert_equal(checkpoint.load("owner/name").tensors, tensors)

    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", stored)
    shards = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    hub.files = shards | {"config.json": hub.files["config.json"]}
    hub.commit = "f" * 40
    assert_equal(checkpoint.load("owner/name").tensors, tensors)


def test_the_size_of_a_hub_model_is_checked_before_download(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CHECKPOINT_BYTES", 1000)
    with pytest.raises(CheckpointError, match=r"owner/name is .* bytes .*; at most 1,000 are downloaded"):
        checkpoint.load("owner/name")
    assert hub.fetched == []


def test_missing_hub_models_are_named(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="The hub shows no model 'owner/other'"):
        checkpoint.load("owner/other")
    hub.files = {"config.json": b"{}"}
    with pytest.raises(CheckpointError, match="owner/name has no weights"):
        checkpoint.load("owner/name")


def test_no_network_and_no_cache_is_reported() -> None:
    with pytest.raises(CheckpointError, match=r"owner/name cannot be fetched .* and is not in the cache; connect"):
        checkpoint.load("owner/name")
